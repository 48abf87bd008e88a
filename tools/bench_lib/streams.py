"""Thousands of slow streams through one loop: nothing lost, memory for each stream, CPU for each token."""

import json
import select
import subprocess
import time

from . import figures, machine
from .processes import Failed, free_port
from .proxies import HAProxy, Nginx, Perigee, nginx_connections
from .report import table

SETTLE = 3  # seconds between the last stream's start and the first measured second
END = 3  # and between the last measured second and the first stream's end


def one_run(processes, load, proxy, options):
    """One proxy, fresh, from nothing to all streams ended."""
    ramp = max(1, round(options.n / 1000))
    tokens = ramp + SETTLE + options.seconds + END
    where = f"127.0.0.1:{free_port()}"
    origin = processes.start(
        [load / "sse_origin", "--listen", where, "--interval-ms", "1000"],
        "sse_origin",
        output=subprocess.PIPE,
    )
    processes.line(origin, "sse_origin ready")
    proxy.start([where], "/tokens/1")  # one whole stream has been through it before memory is read
    time.sleep(1)
    idle = machine.resident_bytes(proxy.pid)
    client = processes.start(
        [
            load / "sse_client",
            "--target",
            f"127.0.0.1:{proxy.port}",
            "--streams",
            options.n,
            "--ramp-s",
            ramp,
            "--tokens",
            tokens,
            "--limit-s",
            tokens + ramp + 60,
        ],
        "sse_client",
        output=subprocess.PIPE,
    )
    marks, least_open, resident, summary = [], options.n, 0, None
    end = time.monotonic() + tokens + ramp + 90
    while summary is None:
        ready, _, _ = select.select([client.stdout], [], [], max(end - time.monotonic(), 0))
        line = client.stdout.readline() if ready else ""
        if not line:
            raise Failed(
                f"sse_client ended early:\n{processes.log('sse_client')}\n{processes.log(proxy.process.name)}"
            )
        if line.startswith("{"):
            summary = json.loads(line)
            break
        _, seconds, now_open, events = line.split()
        seconds, now_open, events = float(seconds), int(now_open), int(events)
        if ramp + SETTLE <= seconds <= ramp + SETTLE + options.seconds + 0.5:
            marks.append((seconds, events, machine.cpu_seconds(proxy.pid)))
            least_open = min(least_open, now_open)
            resident = max(resident, machine.resident_bytes(proxy.pid))
    for process in (client, proxy.process, origin):
        processes.stop(process)
    if len(marks) < 2:
        raise Failed("no measured seconds")
    (t0, events0, cpu0), (t1, events1, cpu1) = marks[0], marks[-1]
    return {
        **summary,
        "least_open": least_open,
        "idle_bytes": idle,
        "resident_bytes": resident,
        "bytes_per_stream": (resident - idle) / options.n,
        "measured_s": t1 - t0,
        "events_measured": events1 - events0,
        "cpu_us_per_event": 1e6 * (cpu1 - cpu0) / max(events1 - events0, 1),
        "whole": summary["complete"] == options.n
        and summary["events"] == summary["expected"]
        and not (summary["lost"] or summary["disordered"] or summary["broken"] or summary["refused"]),
    }


def run(options, tools, perigee, load, processes, report):
    if options.n > 9500:
        raise Failed("more than 9500 streams need more than the 20,000 descriptors of a process")
    bound = max(6000, options.n + 100)
    makers = {
        "perigee": lambda: Perigee(
            processes, perigee, settings=(f"max_concurrent_requests: {bound}\nlimits: {{streams: {bound}}}\n")
        ),
        "haproxy": lambda: HAProxy(processes, tools["haproxy"], maxconn=bound),
        "haproxy, no-delay": lambda: HAProxy(
            processes, tools["haproxy"], "haproxy-no-delay", no_delay=True, maxconn=bound
        ),
        "nginx": lambda: Nginx(processes, tools["nginx"], connections=nginx_connections(options.n), streams=True),
    }
    taken = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, make in makers.items():
            taken[name].append(one_run(processes, load, make(), options))
    rows = []
    mine = [run["cpu_us_per_event"] for run in taken["perigee"]]
    for name, runs in taken.items():
        us = figures.spread([run["cpu_us_per_event"] for run in runs])
        kib = figures.spread([run["bytes_per_stream"] / 1024 for run in runs])
        ratio = figures.spread(figures.pair_ratios(mine, [run["cpu_us_per_event"] for run in runs]))
        bad = sum(
            run["lost"] + run["disordered"] + run["broken"] + run["refused"] + run["unfinished"]
            for run in runs
        )
        rows.append(
            [
                name,
                f"{kib[0]:.2f}",
                f"{kib[1]:.2f}-{kib[2]:.2f}",
                f"{us[0]:.2f}",
                f"{us[1]:.2f}-{us[2]:.2f}",
                f"{ratio[0]:.3f}",
                *(
                    f"{figures.median([run['transit'][of] for run in runs]):.2f}"
                    for of in ("p50_ms", "p99_ms")
                ),
                min(run["least_open"] for run in runs),
                sum(run["events"] for run in runs),
                bad,
            ]
        )
    table(
        f"{options.n} streams, one token a second each, one loop; {options.rounds} rounds of {options.seconds} s measured, "
        "interleaved; medians",
        [
            "proxy",
            "KiB a stream",
            "least-most",
            "µs CPU a token",
            "least-most",
            "perigee ÷ it",
            "transit p50 ms",
            "p99 ms",
            "open (least)",
            "tokens",
            "lost or broken",
        ],
        rows,
    )
    report.keep("streams", taken)
    ours = taken["perigee"]
    report.verdict(
        f"{options.n} streams: nothing lost, all open at once",
        f"{sum(run['events'] for run in ours)} of {sum(run['expected'] for run in ours)} tokens in order, "
        f"{sum(run['complete'] for run in ours)} of {options.n * len(ours)} streams complete, "
        f"least open {min(run['least_open'] for run in ours)}",
        all(run["whole"] and run["least_open"] == options.n for run in ours),
    )
    most = max(run["bytes_per_stream"] / 1024 for run in ours)
    report.verdict(
        "streams: resident memory at most 2.5 KiB a stream", f"{most:.2f} KiB (worst round)", most <= 2.5
    )
    for name, how in (
        ("haproxy, no-delay", "that sends tokens as they come (option http-no-delay)"),
        ("haproxy", "as it is installed, which holds tokens back"),
    ):
        ratio = figures.spread(figures.pair_ratios(mine, [run["cpu_us_per_event"] for run in taken[name]]))
        late = figures.median([run["transit"]["p50_ms"] for run in taken[name]])
        report.verdict(
            f"streams: CPU a token at most 0.88 × that of a HAProxy {how}",
            f"{ratio[0]:.3f} × (rounds {ratio[1]:.3f}-{ratio[2]:.3f}; its tokens are {late:.1f} ms on their way, Perigee's "
            f"{figures.median([run['transit']['p50_ms'] for run in ours]):.1f} ms)",
            ratio[0] <= 0.88,
        )
