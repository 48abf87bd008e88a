"""Keep-alive requests of 1 KiB: the proxy's CPU time, system calls and instructions for each."""

import re
import shutil
import signal
import socket
import subprocess
import time

from . import figures, machine
from .processes import Failed
from .proxies import HAProxy, Nginx, Origin, Perigee
from .report import table

CONNECTIONS = 64


def wrk(tool, port, seconds, connections=CONNECTIONS):
    """(requests completed, requests a second); anything but a clean run is an error."""
    done = subprocess.run(
        [tool, "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", done.stdout)
    if done.returncode != 0 or not found:
        raise Failed(f"wrk: {done.stdout} {done.stderr}")
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise Failed(f"wrk met failures on port {port}:\n{done.stdout}")
    took = float(found[2]) * (0.001 if found[3] == "ms" else 1)
    return int(found[1]), int(found[1]) / took


def measure(tool, proxy, seconds):
    before = machine.cpu_seconds(proxy.pid)
    requests, rate = wrk(tool, proxy.port, seconds)
    cpu = machine.cpu_seconds(proxy.pid) - before
    return {"us": 1e6 * cpu / requests, "per_second": rate, "requests": requests}


def contest(tools, proxies, rounds, seconds, title):
    """Interleaved rounds of all proxies; {label: {us, per_second, ratio to haproxy}} and a table."""
    for proxy in proxies:
        measure(tools["wrk"], proxy, 1)  # connections stand, code and branches are warm
    taken = {proxy.label: [] for proxy in proxies}
    for _ in range(rounds):
        for proxy in proxies:
            taken[proxy.label].append(measure(tools["wrk"], proxy, seconds))
    results, rows = {}, []
    for label, runs in taken.items():
        us = [run["us"] for run in runs]
        mine = [run["us"] for run in taken["perigee"]]
        ratio = figures.spread(figures.pair_ratios(mine, us))
        results[label] = {
            "us": us,
            "median_us": figures.median(us),
            "perigee_ratio": ratio,
            "per_second": [run["per_second"] for run in runs],
        }
        middle, least, most = figures.spread(us)
        rows.append(
            [
                label,
                f"{middle:.2f}",
                f"{least:.2f}-{most:.2f}",
                f"{figures.median([run['per_second'] for run in runs]):.0f}",
                f"{ratio[0]:.3f}",
                f"{ratio[1]:.3f}-{ratio[2]:.3f}",
            ]
        )
    table(
        title, ["proxy", "µs CPU a request", "least-most", "requests/s", "perigee ÷ it", "least-most"], rows
    )
    return results


def system_calls(tools, proxy):
    """System calls for each request: by perf where it may count them, else by strace."""
    perf = shutil.which("perf")
    pids = machine.tree(proxy.pid)
    if perf:
        counter = subprocess.Popen(
            [perf, "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, pids))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.5)
        if counter.poll() is None:
            requests, _ = wrk(tools["wrk"], proxy.port, 2)
            counter.send_signal(signal.SIGINT)
            _, said = counter.communicate(timeout=10)
            found = re.search(r"^(\d+),.*raw_syscalls", said, re.MULTILINE)
            if found:
                return int(found[1]) / requests, "perf"
        else:
            counter.communicate()
    tracer = subprocess.Popen(
        [tools["strace"], "-c", "-f", *(word for pid in pids for word in ("-p", str(pid)))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.5)
    if tracer.poll() is not None:
        return None, "not allowed: " + tracer.communicate()[1].strip()[:80]
    requests, _ = wrk(tools["wrk"], proxy.port, 3)
    tracer.send_signal(signal.SIGINT)
    _, said = tracer.communicate(timeout=10)
    found = re.search(r"\s(\d+)\s+(?:\d+\s+)?total", said)
    return (int(found[1]) / requests, "strace") if found else (None, "strace gave no total")


def lockstep(port, rounds):
    """Every connection asks once and is answered, `rounds` times: the same work in every run."""
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(CONNECTIONS)]
    try:
        for _ in range(rounds):
            for one in sockets:
                one.sendall(request)
            for one in sockets:
                got = b""
                while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < 1024:
                    data = one.recv(65536)
                    if not data:
                        raise Failed("connection closed while instructions were counted")
                    got += data
    finally:
        for one in sockets:
            one.close()


def instructions(tools, proxy_class, origin, rounds=(20, 120)):
    """User-space instructions for each request: the difference of a long and a short run under callgrind."""
    counted = []
    for count in rounds:
        proxy = proxy_class()
        plain = proxy.command
        proxy.command = lambda file, plain=plain: [
            tools["valgrind"],
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            *plain(file),
        ]
        proxy.start([origin.address])
        lockstep(proxy.port, count)
        name = proxy.process.name
        proxy.processes.stop(proxy.process, patience=20)
        said = (proxy.processes.folder / f"{name}.log").read_text(errors="replace")
        found = re.findall(r"Collected : (\d+)", said)
        if not found:
            raise Failed(f"callgrind said nothing of {name}:\n{said[-1000:]}")
        counted.append(int(found[-1]))
    return (counted[1] - counted[0]) / ((rounds[1] - rounds[0]) * CONNECTIONS)


def run(options, tools, perigee, _load, processes, report):
    origin = Origin(processes, tools["nginx"]).start([])
    origin.address = f"127.0.0.1:{origin.port}"
    goals = None
    for logs in (False, True) if options.logs else (False,):
        proxies = [
            Perigee(processes, perigee, logs=logs),
            HAProxy(processes, tools["haproxy"], logs=logs),
            HAProxy(processes, tools["haproxy"], "haproxy, same headers", full=True, logs=logs),
            Nginx(processes, tools["nginx"], logs=logs),
        ]
        for proxy in proxies:
            proxy.start([origin.address])
        row = contest(
            tools,
            proxies,
            options.rounds,
            options.seconds,
            f"1 KiB answers, {CONNECTIONS} keep-alive connections, one loop, access logs {'on' if logs else 'off'}; "
            f"{options.rounds} rounds of {options.seconds} s, interleaved; medians",
        )
        report.keep("logs_on" if logs else "logs_off", row)
        if not logs:
            goals = row
            calls = {proxy.label: system_calls(tools, proxy) for proxy in proxies}
            report.keep("system_calls", {label: count for label, (count, _) in calls.items()})
            table(
                "System calls for each request",
                ["proxy", "calls", "by"],
                [[label, f"{count:.2f}" if count else "?", how] for label, (count, how) in calls.items()],
            )
        for proxy in proxies:
            proxy.stop()
            if getattr(proxy, "sink", None) and proxy.sink.bytes == 0:
                raise Failed(f"{proxy.label} logged nothing; its figure with logs would be a lie")
    if not options.no_instructions:
        counted = {
            "perigee": instructions(tools, lambda: Perigee(processes, perigee), origin),
            "haproxy": instructions(tools, lambda: HAProxy(processes, tools["haproxy"]), origin),
        }
        report.keep("instructions", counted)
        table(
            "User-space instructions for each request (callgrind, long run less short run)",
            ["proxy", "instructions"],
            [[label, f"{count:.0f}"] for label, count in counted.items()],
        )
    for label, most, name in (("haproxy", 0.90, "0.90 × HAProxy's"), ("nginx", 1.0, "nginx's")):
        ratio = goals[label]["perigee_ratio"]
        report.verdict(
            f"keep-alive 1 KiB: CPU time a request {'at most' if label == 'haproxy' else 'below'} {name}",
            f"{ratio[0]:.3f} × (rounds {ratio[1]:.3f}-{ratio[2]:.3f})",
            ratio[0] <= most if label == "haproxy" else ratio[0] < most,
        )
