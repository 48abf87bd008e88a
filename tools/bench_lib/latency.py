"""Latency added at low load: small keep-alive requests, the proxies in turns, differences in pairs."""

import json
import subprocess

from . import figures
from .processes import Failed
from .proxies import HAProxy, Nginx, Origin, Perigee
from .report import table

P99_GROUP = 5  # rounds that share one p99: a tail of few samples is no quantile


def run(options, tools, perigee, load, processes, report):
    if options.rounds < 4 * P99_GROUP:
        raise Failed(f"latency: at least {4 * P99_GROUP} rounds")
    origin = Origin(processes, tools["nginx"]).start([])
    where = f"127.0.0.1:{origin.port}"
    proxies = [
        Perigee(processes, perigee).start([where]),
        HAProxy(processes, tools["haproxy"]).start([where]),
        Nginx(processes, tools["nginx"]).start([where]),
    ]
    labels = [*(proxy.label for proxy in proxies), "direct"]
    ports = [*(proxy.port for proxy in proxies), origin.port]
    lasts = options.rounds * len(ports) * (options.block + 10) / options.rate
    client = processes.start(
        [
            load / "latency_client",
            *(word for port in ports for word in ("--target", f"127.0.0.1:{port}")),
            *("--rate", options.rate, "--block", options.block, "--warm", 10),
            *("--rounds", options.rounds, "--seed", options.seed),
        ],
        "latency_client",
        output=subprocess.PIPE,
    )
    try:
        said, _ = client.communicate(timeout=lasts * 2 + 60)
        result = json.loads(said)
    except (subprocess.TimeoutExpired, ValueError) as problem:
        raise Failed(f"latency_client: {problem}\n{processes.log('latency_client')}") from problem
    taken = {label: [] for label in labels}
    for _, target, times in result["blocks"]:
        taken[labels[target]].append(times)
    if any(len(times) < options.block / 2 for rounds in taken.values() for times in rounds):
        raise Failed(f"latency: blocks without answers; {result['failed']} requests failed")
    rows, pairs = [], {}
    for label in labels:
        every = [value for one in taken[label] for value in one]
        row = [label, *(f"{figures.quantile(every, share):.1f}" for share in (0.5, 0.9, 0.99, 0.999))]
        for share, group in ((0.5, 1), (0.99, P99_GROUP)):
            if label == "perigee":
                row.append("")
                continue
            found = figures.mean_interval(
                figures.differences(taken["perigee"], taken[label], share, group)
            )
            pairs[label, share] = found
            row.append(f"{found[0]:+.1f} ({found[1]:+.1f} … {found[2]:+.1f})")
        rows.append(row)
    table(
        f"One client, {options.rate:g} requests of 1 KiB a second (open loop), {options.rounds} rounds of a block of "
        f"{options.block} for each, in random order; µs",
        ["proxy", "p50", "p90", "p99", "p99.9", "perigee less it, p50 (95 %)", "p99 (95 %)"],
        rows,
    )
    report.keep("latency", {"us": taken, "failed": result["failed"]})
    report.keep(
        "latency_differences", {f"{label} p{100 * share:g}": found for (label, share), found in pairs.items()}
    )
    for share, group in ((0.5, 1), (0.99, P99_GROUP)):
        found = pairs["haproxy", share]
        report.verdict(
            f"latency at low load: p{100 * share:g} not above HAProxy's (95 % interval of the paired difference is not "
            "wholly above zero)",
            f"{found[0]:+.1f} µs, interval {found[1]:+.1f} … {found[2]:+.1f} "
            f"({options.rounds // group} pairs; direct is {-pairs['direct', share][0]:+.1f} µs from Perigee)",
            found[1] <= 0,
        )
    report.verdict("latency: every request answered", f"{result['failed']} failed", result["failed"] == 0)
