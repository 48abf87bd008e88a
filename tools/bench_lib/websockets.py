"""Thousands of WebSockets that are idle most of the time: nothing lost, memory for each."""

import json
import select
import subprocess
import time

from . import figures, machine
from .processes import Failed, free_port
from .proxies import HAProxy, Nginx, Perigee, nginx_connections
from .report import table

NGINX = """      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
"""


def client_of(processes, load, proxy, sockets, ramp, talk, interval):
    return processes.start(
        [
            load / "ws_client",
            *("--target", f"127.0.0.1:{proxy.port}", "--sockets", sockets, "--ramp-s", ramp),
            *("--seconds", talk, "--interval-s", interval, "--limit-s", talk + ramp + 30),
        ],
        "ws_client",
        output=subprocess.PIPE,
    )


def one_run(processes, load, proxy, options):
    """One proxy, fresh, from nothing to all sockets closed."""
    ramp = max(1, round(options.n / 1000))
    talk = 2 * ramp + 2 + options.seconds
    where = f"127.0.0.1:{free_port()}"
    origin = processes.start([load / "ws_origin", "--listen", where], "ws_origin", output=subprocess.PIPE)
    processes.line(origin, "ws_origin ready")
    proxy.start([where])
    time.sleep(1)
    # A few first, for every proxy: what it loads for the very first socket belongs to none of those that are counted.
    first = client_of(processes, load, proxy, sockets=50, ramp=1, talk=2, interval=1)
    first.wait(timeout=60)
    processes.stop(first)
    idle = machine.resident_bytes(proxy.pid)
    client = client_of(processes, load, proxy, options.n, ramp, talk, max(options.interval, ramp))
    least_open, resident, summary, cpu = options.n, [], None, None
    end = time.monotonic() + talk + ramp + 60
    while summary is None:
        ready, _, _ = select.select([client.stdout], [], [], max(end - time.monotonic(), 0))
        line = client.stdout.readline() if ready else ""
        if not line:
            raise Failed(
                f"ws_client ended early:\n{processes.log('ws_client')}\n{processes.log(proxy.process.name)}"
            )
        if line.startswith("{"):
            summary = json.loads(line)
            break
        _, seconds, now_open, _ = line.split()
        if ramp + 2 <= float(seconds) <= talk - 1:
            resident.append(machine.resident_bytes(proxy.pid))
            least_open = min(least_open, int(now_open))
            cpu = cpu or machine.cpu_seconds(proxy.pid)
            last_cpu = machine.cpu_seconds(proxy.pid)
    for process in (client, proxy.process, origin):
        processes.stop(process)
    if not resident:
        raise Failed("no measured seconds")
    return {
        **summary,
        "least_open": least_open,
        "idle_bytes": idle,
        "resident_bytes": max(resident),
        "bytes_each": (max(resident) - idle) / options.n,
        "cpu_share": (last_cpu - cpu) / max(len(resident) - 1, 1),
        "whole": summary["complete"] == options.n
        and summary["echoes"] == summary["said"]
        and not (summary["lost"] or summary["wrong"] or summary["broken"] or summary["refused"]),
    }


def run(options, tools, perigee, load, processes, report):
    if options.n > 9500:
        raise Failed("more than 9500 WebSockets need more than the 20,000 descriptors of a process")
    bound = max(2000, options.n + 100)
    makers = {
        "perigee": lambda: Perigee(
            processes, perigee, settings=f"max_concurrent_requests: {bound}\nlimits: {{tunnels: {bound}}}\n"
        ),
        "haproxy": lambda: HAProxy(processes, tools["haproxy"], maxconn=bound),
        "nginx": lambda: Nginx(processes, tools["nginx"], connections=nginx_connections(options.n), rest=NGINX),
    }
    taken = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, make in makers.items():
            taken[name].append(one_run(processes, load, make(), options))
    rows = []
    for name, runs in taken.items():
        kib = figures.spread([run["bytes_each"] / 1024 for run in runs])
        rows.append(
            [
                name,
                f"{kib[0]:.2f}",
                f"{kib[1]:.2f}-{kib[2]:.2f}",
                f"{100 * figures.median([run['cpu_share'] for run in runs]):.1f} %",
                *(f"{figures.median([run['echo'][of] for run in runs]):.2f}" for of in ("p50_ms", "p99_ms")),
                min(run["least_open"] for run in runs),
                sum(run["echoes"] for run in runs),
                sum(
                    run["lost"] + run["wrong"] + run["broken"] + run["refused"] + run["unfinished"]
                    for run in runs
                ),
            ]
        )
    table(
        f"{options.n} WebSockets, one message and its echo every {options.interval} s each, one loop; {options.rounds} rounds, "
        "interleaved; medians",
        [
            "proxy",
            "KiB each",
            "least-most",
            "of one core",
            "echo p50 ms",
            "p99 ms",
            "open (least)",
            "echoes",
            "lost or broken",
        ],
        rows,
    )
    report.keep("websockets", taken)
    ours = taken["perigee"]
    report.verdict(
        f"{options.n} WebSockets: nothing lost, all open at once",
        f"{sum(run['echoes'] for run in ours)} of {sum(run['said'] for run in ours)} messages came back, "
        f"{sum(run['complete'] for run in ours)} of {options.n * len(ours)} closed in order, "
        f"least open {min(run['least_open'] for run in ours)}",
        all(run["whole"] and run["least_open"] == options.n for run in ours),
    )
    most = max(run["bytes_each"] / 1024 for run in ours)
    report.verdict(
        "WebSockets: resident memory at most 2.5 KiB each", f"{most:.2f} KiB (worst round)", most <= 2.5
    )
