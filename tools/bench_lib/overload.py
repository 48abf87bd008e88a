"""Three times what four workers stand: who is served, who is told to come back, and how soon.

The workers run eight jobs at once each and queue what comes beyond that; one of them takes four times as long.
Clients give up after two seconds. `known`: all three proxies are told of the eight slots. `unknown`: Perigee is
not. `chats`: simulated ORBIT workers.
"""

import json
import subprocess
import time

from . import figures
from .orbit import perigee_for, result_of, sim_options
from .processes import Worker, free_port, get
from .proxies import HAProxy, Nginx, Perigee, nginx_file
from .report import table

SLOTS, MEAN_MS, SIGMA, FACTORS = 8, 40, 0.8, (1, 1, 4, 1)
CAPACITY = sum(SLOTS * 1000 / (MEAN_MS * factor) for factor in FACTORS)  # jobs a second
OVER, HIGH, DEADLINE = 3, 0.2, 2


class Queueing(HAProxy):
    """A queue of its own before slots that it knows, as its manual has it."""

    name = "haproxy"

    def configuration(self, origins):
        servers = "".join(f"  server s{i} {one} maxconn {SLOTS}\n" for i, one in enumerate(origins))
        return f"""global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 500ms
  option http-keep-alive
  http-reuse always
frontend in
  bind 127.0.0.1:{self.port} backlog 4096
  http-request set-priority-class int(-10) if {{ req.hdr(x-priority) high }}
  default_backend out
backend out
  balance leastconn
{servers}"""


class Bounded(Nginx):
    """`max_conns`; what does not fit is refused, for it has no queue."""

    name = "nginx"

    def configuration(self, origins):
        servers = "".join(f"    server {one} max_conns={SLOTS} max_fails=0;\n" for one in origins)
        return nginx_file(
            self.processes,
            f"nginx-{self.port}",
            f"""
  upstream out {{
    zone out 256k;
    least_conn;
{servers}    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location / {{
      proxy_pass http://out;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}""",
            connections=8000,
        )


def perigee_proxy(processes, program, known):
    slots = f"max_concurrent_requests: {SLOTS}\n" if known else "slots: {http_steering: adaptive}\n"
    return Perigee(
        processes,
        program,
        label="perigee" if known else "perigee adaptive",
        settings=f"trusted: [127.0.0.0/8]\nqueue_wait: 500ms\n{slots}",
    )


def start_origins(processes, load_folder, seed):
    addresses = []
    for i, factor in enumerate(FACTORS):
        where = f"127.0.0.1:{free_port()}"
        process = processes.start(
            [
                *(load_folder / "job_origin", "--listen", where, "--slots", SLOTS, "--mean-ms", MEAN_MS),
                *("--sigma", SIGMA, "--factor", factor, "--seed", 10 * seed + i),
            ],
            f"origin-{i}-{where.split(':')[1]}",
            output=subprocess.PIPE,
        )
        processes.line(process, "job_origin ready")
        addresses.append((where, process))
    return addresses


def one_run(processes, load_folder, make, seed, seconds, skip):
    """One proxy before four new workers."""
    origins = start_origins(processes, load_folder, seed)
    addresses = [where for where, _ in origins]
    proxy = make().start(addresses)
    time.sleep(1)
    client = processes.start(
        [
            *(load_folder / "job_load", "--target", f"127.0.0.1:{proxy.port}", "--rate", OVER * CAPACITY),
            *("--seconds", seconds, "--skip-s", skip, "--high", HIGH, "--deadline-s", DEADLINE, "--seed", seed),
        ],
        "job-load",
        output=subprocess.PIPE,
    )
    processes.line(client, "started")
    load = result_of(client, seconds + 30)
    time.sleep(0.5)  # the last jobs end
    stats = [json.loads(get(int(where.split(":")[1]), "/stats")[1]) for where in addresses]
    processes.stop(client)
    proxy.stop()
    for _, process in origins:
        processes.stop(process)
    high, other, span = load["high"], load["other"], load["measured_s"]
    refused = sum(high["refused"].values()) + sum(other["refused"].values())
    return {
        "goodput": (high["good"] + other["good"]) / span / CAPACITY,
        "high_good": high["good"] / max(high["offered"], 1),
        "high_p95_ms": high["good_in"]["p95_ms"],
        "other_p95_ms": other["good_in"]["p95_ms"],
        "late": high["late"] + other["late"],
        "broken": high["broken"] + other["broken"],
        "for_nobody": sum(one["for_nobody"] for one in stats),
        "most": max(one["most"] for one in stats),
        "refused": refused,
        "untold": high["untold"] + other["untold"],
        "refused_ms": other["refused_in"]["p50_ms"],
        "refused_by": other["refused"],
        "late_start_p95_ms": load["late_start"]["p95_ms"],
    }


def medians(runs):
    return {
        name: figures.median([one[name] for one in runs])
        for name, value in runs[0].items()
        if isinstance(value, (int, float))
    }


def jobs(options, tools, perigee, load_folder, processes, report):
    proxies = []
    if options.part in ("known", "all"):
        proxies += [
            ("perigee", lambda: perigee_proxy(processes, perigee, True), 3),
            ("haproxy", lambda: Queueing(processes, tools["haproxy"]), 3),
            ("nginx", lambda: Bounded(processes, tools["nginx"]), 3),
        ]
    if options.part in ("unknown", "all"):
        # It has to find them first: that is not what is measured.
        proxies.append(("perigee adaptive", lambda: perigee_proxy(processes, perigee, False), 15))
    taken = {name: [] for name, _, _ in proxies}
    for seed in range(1, options.rounds + 1):
        for name, make, skip in proxies:
            one = one_run(processes, load_folder, make, seed, options.seconds + skip, skip)
            taken[name].append(one)
            print(
                f"  round {seed} {name:17} goodput {one['goodput']:.3f}  high good {one['high_good']:.3f}  "
                f"p95 {one['high_p95_ms']:.0f} ms  refused in {one['refused_ms']:.1f} ms {one['refused_by']}",
                flush=True,
            )
    report.keep("jobs", taken)
    rows = []
    for name, runs in taken.items():
        m = medians(runs)
        rows.append(
            [
                name,
                f"{m['goodput']:.3f}",
                f"{m['high_good']:.4f}",
                f"{m['high_p95_ms']:.1f}",
                f"{m['other_p95_ms']:.1f}",
                f"{m['refused_ms']:.2f}",
                sum(one["untold"] for one in runs),
                sum(one["late"] + one["broken"] for one in runs),
                sum(one["for_nobody"] for one in runs),
                max(one["most"] for one in runs),
                f"{m['late_start_p95_ms']:.2f}",
            ]
        )
    table(
        f"Four workers, {CAPACITY:.0f} jobs a second, {OVER} times that offered, {100 * HIGH:.0f} % high priority, "
        f"{options.rounds} rounds of {options.seconds} s (medians; counts are sums), milliseconds",
        [
            "proxy",
            "goodput ÷ capacity",
            "high good",
            "high p95",
            "other p95",
            "refused in",
            "untold",
            "given up or broken",
            "jobs for nobody",
            "most at a worker",
            "load late p95",
        ],
        rows,
    )
    verdicts(taken, report)


def verdicts(taken, report):
    if "perigee" in taken and "haproxy" in taken:
        mine, theirs = medians(taken["perigee"]), medians(taken["haproxy"])
        report.verdict(
            "goodput at least HAProxy's (within 1 %, by which rounds differ)",
            f"{mine['goodput']:.3f} beside {theirs['goodput']:.3f} of capacity",
            mine["goodput"] >= 0.99 * theirs["goodput"],
        )
        every = all(one["high_good"] == 1 for one in taken["perigee"])
        report.verdict("every high-priority request is good", f"{mine['high_good']:.4f}", every)
        ratio = figures.median(
            figures.pair_ratios(
                [one["high_p95_ms"] for one in taken["perigee"]], [one["high_p95_ms"] for one in taken["haproxy"]]
            )
        )
        report.verdict(
            "p95 of high priority at most 0.80 of HAProxy's",
            f"{mine['high_p95_ms']:.1f} beside {theirs['high_p95_ms']:.1f} ms = {ratio:.2f}",
            ratio <= 0.80,
        )
        nobody = sum(one["for_nobody"] for one in taken["perigee"])
        report.verdict("no job is done for nobody", f"{nobody}", nobody == 0)
        untold = sum(one["untold"] for one in taken["perigee"])
        report.verdict(
            "refusals within 5 ms in the median, all with a retry-after",
            f"{mine['refused_ms']:.2f} ms beside {theirs['refused_ms']:.0f} ms, {untold} without",
            mine["refused_ms"] <= 5 and untold == 0,
        )
    if "perigee adaptive" in taken:
        mine = medians(taken["perigee adaptive"])
        report.verdict("slots unknown: goodput at least 0.90 of capacity", f"{mine['goodput']:.3f}", mine["goodput"] >= 0.9)
        report.verdict("slots unknown: high good at least 0.99", f"{mine['high_good']:.4f}", mine["high_good"] >= 0.99)


def chats(options, perigee, load_folder, processes, report):
    """Two simulated workers stand some 34 chats a second; the shortest provider makes the queue what is felt."""
    settings = {"provider-delay-ms": 30}
    workers = [Worker(processes, f"overload-w{i}", *sim_options(settings), "--seed", str(i)) for i in range(2)]
    proxy = perigee_for(processes, perigee, "perigee")
    proxy.settings = "queue_wait: {chat: 1s}\n"
    proxy.start([worker.address for worker in workers], "/health")
    time.sleep(2.5)
    seconds = 2 * options.seconds
    client = processes.start(
        [
            *(load_folder / "chat_load", "--target", f"127.0.0.1:{proxy.port}", "--rate", 100, "--seed", 1),
            *("--seconds", seconds, "--measure-s", seconds / 2),
        ],
        "chat-load",
        output=subprocess.PIPE,
    )
    processes.line(client, "started")
    load = result_of(client, seconds + 30)
    processes.stop(client)
    proxy.stop()
    for worker in workers:
        worker.stop()
    report.keep("chats", load)
    measured = load["measured"]
    first, told = measured["first_event"], measured["told"]
    # What they are told is when their turn would have come; those let in last waited just that long.
    waited = first["p95_ms"] / 1000
    ratio = told["mean_ms"] / 1000 / waited if waited else 0
    refused = sum(measured["refused"].values())
    table(
        f"Chats on two simulated ORBIT workers at 100 a second, chat queue_wait 1 s, {seconds} s",
        ["served/s", "first event p95 s", "refused/s", "refused in p50 ms", "told mean s", "told ÷ longest wait", "untold"],
        [
            [
                f"{measured['served'] / load['measured_s']:.1f}",
                f"{waited:.2f}",
                f"{refused / load['measured_s']:.1f}",
                f"{measured['refused_in']['p50_ms']:.2f}",
                f"{told['mean_ms'] / 1000:.2f}",
                f"{ratio:.2f}",
                measured["untold"],
            ]
        ],
    )
    report.verdict("served chats: first event within 2 s (p95)", f"{waited:.2f} s", 0 < waited <= 2)
    report.verdict(
        "the rest is told at once (p50 within 50 ms), each with a retry-after",
        f"{measured['refused_in']['p50_ms']:.1f} ms, {measured['untold']} without",
        measured["refused_in"]["p50_ms"] <= 50 and measured["untold"] == 0 and refused > 0,
    )
    report.verdict("the retry-after is within ± 50 % of the longest wait for a first event that there was (p95)", f"{ratio:.2f}", 0.5 <= ratio <= 1.5)


def run(options, tools, perigee, load_folder, processes, report):
    if options.part != "chats":
        jobs(options, tools, perigee, load_folder, processes, report)
    if options.part in ("chats", "all"):
        chats(options, perigee, load_folder, processes, report)
