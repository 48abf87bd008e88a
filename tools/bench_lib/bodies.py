"""Large bodies, up and down, with a length and in chunks: CPU a GiB, and memory that stays where it was."""

import json
import subprocess
import time

from . import figures, machine
from .processes import Failed, free_port
from .proxies import HAProxy, Nginx, Perigee
from .report import table

GIB = 1 << 30
WAYS = [(way, framing) for way in ("down", "up") for framing in ("length", "chunked")]
FLAT_KIB = 1024  # growth that still is flat: socket buffers are the kernel's, ours are a few hundred KiB

# What lets nginx pass a GiB on without writing it to disk first, which is another program's work than ours.
NGINX = """      proxy_set_header Connection "";
      client_max_body_size 0;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
"""


def transfer(processes, load, proxy, way, framing, size):
    """One body. CPU time of the proxy and the most memory that it had meanwhile, beside what it had before."""
    before, cpu = machine.resident_bytes(proxy.pid), machine.cpu_seconds(proxy.pid)
    client = processes.start(
        [
            load / "body_client",
            *("--target", f"127.0.0.1:{proxy.port}", "--way", way, "--framing", framing, "--bytes", size),
        ],
        "body_client",
        output=subprocess.PIPE,
    )
    most, samples = before, 0
    end = time.monotonic() + 60 + 30 * size / GIB
    while client.poll() is None:
        most = max(most, machine.resident_bytes(proxy.pid))
        samples += 1
        if time.monotonic() > end:
            raise Failed(f"{proxy.label}: {way} {framing} takes too long")
        time.sleep(0.02)
    cpu = machine.cpu_seconds(proxy.pid) - cpu
    said = client.stdout.read()
    processes.stop(client)
    if client.returncode != 0:
        raise Failed(
            f"{proxy.label}, {way}, {framing}: {said}\n{processes.log('body_client')}\n{processes.log(proxy.process.name)}"
        )
    return {
        "cpu_s_a_gib": cpu * GIB / size,
        "gib_a_s": size / GIB / json.loads(said)["seconds"],
        "before_kib": before / 1024,
        "growth_kib": (most - before) / 1024,
        "samples": samples,
    }


def run(options, tools, perigee, load, processes, report):
    size = round(options.gib * GIB)
    where = f"127.0.0.1:{free_port()}"
    origin = processes.start([load / "body_origin", "--listen", where], "body_origin", output=subprocess.PIPE)
    processes.line(origin, "body_origin ready")
    proxies = [
        Perigee(processes, perigee, settings=f"bodies: {{http_workers: {max(size, GIB)}}}\n"),
        HAProxy(processes, tools["haproxy"]),
        Nginx(processes, tools["nginx"], rest=NGINX),
    ]
    for proxy in proxies:
        proxy.start([where])
        for way, framing in WAYS:  # buffers that are kept were made once
            transfer(processes, load, proxy, way, framing, min(size, 64 << 20))
    taken = {proxy.label: {f"{way} {framing}": [] for way, framing in WAYS} for proxy in proxies}
    for _ in range(options.rounds):
        for way, framing in WAYS:
            for proxy in proxies:
                taken[proxy.label][f"{way} {framing}"].append(
                    transfer(processes, load, proxy, way, framing, size)
                )
    rows, ratios = [], {}
    for kind in taken["perigee"]:
        mine = [run["cpu_s_a_gib"] for run in taken["perigee"][kind]]
        for label in taken:
            runs = taken[label][kind]
            cpu = figures.spread([run["cpu_s_a_gib"] for run in runs])
            ratio = figures.spread(figures.pair_ratios(mine, [run["cpu_s_a_gib"] for run in runs]))
            ratios[kind, label] = ratio
            rows.append(
                [
                    kind,
                    label,
                    f"{cpu[0]:.3f}",
                    f"{cpu[1]:.3f}-{cpu[2]:.3f}",
                    f"{ratio[0]:.3f}",
                    f"{figures.median([run['gib_a_s'] for run in runs]):.2f}",
                    f"{max(run['growth_kib'] for run in runs):.0f}",
                    f"{max(run['before_kib'] + run['growth_kib'] for run in runs):.0f}",
                ]
            )
    table(
        f"Bodies of {options.gib:g} GiB, one at a time, one loop; {options.rounds} rounds, interleaved; medians",
        [
            "body",
            "proxy",
            "s CPU a GiB",
            "least-most",
            "perigee ÷ it",
            "GiB/s",
            "growth KiB",
            "most KiB",
        ],
        rows,
    )
    report.keep("bodies", taken)
    for kind in taken["perigee"]:
        ratio = ratios[kind, "haproxy"]
        report.verdict(
            f"bodies, {kind}: CPU a GiB at most HAProxy's without splice",
            f"{ratio[0]:.3f} × (rounds {ratio[1]:.3f}-{ratio[2]:.3f})",
            ratio[0] <= 1,
        )
    growth = max(run["growth_kib"] for runs in taken["perigee"].values() for run in runs)
    report.verdict(
        f"bodies: memory flat (grows by at most {FLAT_KIB} KiB while one passes)",
        f"{growth:.0f} KiB (worst of {sum(len(runs) for runs in taken['perigee'].values())}, sampled every 20 ms)",
        growth <= FLAT_KIB,
    )
