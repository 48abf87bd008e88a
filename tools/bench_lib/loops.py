"""Two event loops beside one: what a request costs, and what the dispatcher's lock costs with them."""

import json
import re
import shutil
import signal
import subprocess
import time

from . import figures, machine
from .keepalive import wrk
from .processes import Failed, free_port, get
from .proxies import Origin, Perigee
from .report import table

CONNECTIONS = 128
BOUND_US = 50  # what a lock that was found taken may cost where nothing can time it: two switches and a wake-up


def locks(proxy):
    status, body = get(proxy.admin_port, "/api/v1/status")
    if status != 200:
        raise Failed(f"status of {proxy.label}: {status}")
    found = json.loads(body)["dispatcher"]
    return found["locks"], found["contended"]


def measure(tool, proxy, seconds):
    before, cpu = locks(proxy), machine.cpu_seconds(proxy.pid)
    threads = machine.thread_cpu_seconds(proxy.pid)
    requests, rate = wrk(tool, proxy.port, seconds, CONNECTIONS)
    cpu = machine.cpu_seconds(proxy.pid) - cpu
    after = locks(proxy)
    now = machine.thread_cpu_seconds(proxy.pid)
    # The busiest threads are the loops; the control loop hardly works.
    worked = sorted((now[one] - threads.get(one, 0) for one in now), reverse=True)
    return {
        "us": 1e6 * cpu / requests,
        "per_second": rate,
        "requests": requests,
        "cpu_s": cpu,
        "locks": after[0] - before[0],
        "contended": after[1] - before[1],
        "second_loop_share": worked[1] / max(sum(worked), 1e-9) if len(worked) > 1 else 0.0,
    }


def futex_waits(proxy, tool, seconds, folder):
    """How long its threads slept in futex(FUTEX_WAIT) meanwhile: (waits, seconds waited, CPU seconds), by the
    kernel's own trace points; None where perf may not read them. A mutex that is free makes no system call at
    all, so this is all that its waiting costs, and may hold other mutexes' too."""
    perf = shutil.which("perf")
    if not perf:
        return None
    data = folder / "futex.data"
    recorder = subprocess.Popen(
        [perf, "record", "-q", "-o", data, "-e", "syscalls:sys_enter_futex,syscalls:sys_exit_futex"]
        + ["-p", str(proxy.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    if recorder.poll() is not None:
        return None
    cpu = machine.cpu_seconds(proxy.pid)
    wrk(tool, proxy.port, seconds, CONNECTIONS)
    cpu = machine.cpu_seconds(proxy.pid) - cpu
    recorder.send_signal(signal.SIGINT)
    recorder.wait(timeout=20)
    said = subprocess.run(
        [perf, "script", "-i", data, "-F", "tid,time,event,trace"], capture_output=True, text=True, check=False
    ).stdout
    return (*sum_waits(said), cpu)


def sum_waits(text):
    """(waits, seconds) of perf's lines `TID TIME: syscalls:sys_enter_futex: … op: 0x80, …` and `…exit…`."""
    began, count, waited = {}, 0, 0.0
    for line in text.splitlines():
        found = re.match(r"\s*(\d+)\s+([\d.]+):\s+syscalls:sys_(enter|exit)_futex:(.*)", line)
        if not found:
            continue
        thread, when, what = found[1], float(found[2]), found[3]
        if what == "enter":
            operation = re.search(r"op: 0x([0-9a-f]+)", found[4])
            waits = operation and int(operation[1], 16) & 0x7F in (0, 9)  # FUTEX_WAIT, FUTEX_WAIT_BITSET
            began[thread] = when if waits else None
        elif began.get(thread) is not None:
            count += 1
            waited += when - began.pop(thread)
    return count, waited


def run(options, tools, perigee, _load, processes, report):
    origin = Origin(processes, tools["nginx"]).start([])
    proxies = []
    for loops in (1, 2):
        proxy = Perigee(
            processes,
            perigee,
            f"{loops} loop{'s' if loops > 1 else ''}",
            settings=f"io_threads: {loops}\n",
            one_loop=False,
            admin_port=free_port(),
        )
        proxy.admin_port = int(proxy.admin.rsplit(":", 1)[1])
        proxies.append(proxy.start([f"127.0.0.1:{origin.port}"]))
        measure(tools["wrk"], proxy, 1)
    taken = {proxy.label: [] for proxy in proxies}
    for number in range(options.rounds):
        for proxy in proxies if number % 2 == 0 else reversed(proxies):
            taken[proxy.label].append(measure(tools["wrk"], proxy, options.seconds))
    one, two = (taken[proxy.label] for proxy in proxies)
    ratio = figures.spread(figures.pair_ratios([run["us"] for run in two], [run["us"] for run in one]))
    speed = figures.spread(
        figures.pair_ratios([run["per_second"] for run in two], [run["per_second"] for run in one])
    )
    rows = []
    for label, runs in taken.items():
        us = figures.spread([run["us"] for run in runs])
        rows.append(
            [
                label,
                f"{us[0]:.2f}",
                f"{us[1]:.2f}-{us[2]:.2f}",
                f"{figures.median([run['per_second'] for run in runs]):.0f}",
                f"{100 * figures.median([run['second_loop_share'] for run in runs]):.0f} %",
                f"{sum(run['locks'] for run in runs) / sum(run['requests'] for run in runs):.2f}",
                f"{100 * sum(run['contended'] for run in runs) / max(sum(run['locks'] for run in runs), 1):.3f} %",
            ]
        )
    table(
        f"1 KiB answers, {CONNECTIONS} keep-alive connections; {options.rounds} rounds of {options.seconds} s, interleaved; "
        "medians",
        [
            "perigee",
            "µs CPU a request",
            "least-most",
            "requests/s",
            "second thread's share",
            "locks a request",
            "found taken",
        ],
        rows,
    )
    report.keep("loops", taken)
    report.keep("speed_up", speed)
    share = figures.median([run["second_loop_share"] for run in two])
    if share < 0.25:
        raise Failed(f"the second loop did {100 * share:.0f} % of the work: nothing was measured of two")
    report.verdict(
        "two loops: CPU a request at most 1.10 × one loop's",
        f"{ratio[0]:.3f} × (rounds {ratio[1]:.3f}-{ratio[2]:.3f}); {speed[0]:.2f} × the requests a second "
        f"({speed[1]:.2f}-{speed[2]:.2f})",
        ratio[0] <= 1.10,
    )
    bound = sum(run["contended"] for run in two) * BOUND_US * 1e-6 / sum(run["cpu_s"] for run in two)
    traced = futex_waits(proxies[1], tools["wrk"], options.seconds, processes.folder)
    if traced:
        waits, waited, cpu = traced
        report.keep("futex", {"waits": waits, "waited_s": waited, "cpu_s": cpu})
        part, how = waited / cpu, (
            f"{waits} waits in futex, {1e3 * waited:.2f} ms together, beside {cpu:.2f} s of CPU (perf)"
        )
    else:
        part, how = bound, f"not traced; as a bound, {BOUND_US} µs for each lock that was found taken"
    report.verdict(
        "two loops: waiting for locks at most 1 % of CPU",
        f"{100 * part:.3f} %: {how}; {sum(run['contended'] for run in two)} of {sum(run['locks'] for run in two)} locks were found taken",
        part <= 0.01,
    )
