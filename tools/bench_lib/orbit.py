"""Simulated ORBIT workers under more than they stand: the five loads on one worker, and bursts on three.

Direct means without a proxy, in turn over the workers. Perigee has the file of three lines; only the fixed
numbers of slots, which stand in for what a careful operator would find by trying, are written into it.
"""

import concurrent.futures
import json
import subprocess
import threading
import time

from . import figures, machine
from .processes import Failed, Worker
from .proxies import HAProxy, Perigee
from .report import table

# rate of arrivals a second, and what differs from the simulator's profile `bench`
LOADS = {
    "A": (40, {}, "40 tokens × 50 ms"),
    "B": (20, {"token-gap-ms": 500}, "40 tokens × 0.5 s"),
    "C": (8, {"tokens": 200}, "200 tokens × 50 ms"),
    "heavy": (9, {"work-ms": 200}, "200 ms of CPU a chat"),
    "provider": (25, {"provider-delay-ms": 8000}, "provider takes 8 s"),
}

starting = threading.Lock()  # ports are chosen and processes started by one thread at a time


def sim_options(settings):
    return [
        "--profile",
        "bench",
        *(word for name, value in settings.items() for word in (f"--{name}", str(value))),
    ]


def fixed(slots):
    # The ceiling is lifted, so that a number above the provider's connections means what it says; no pace is
    # felt at 500 starts a second.
    return f"slots: {{steering: fixed, start: {slots}}}\npace: {{start: 500}}\nprovider_connections: 1000\n"


def perigee_for(processes, program, policy):
    settings = "" if policy == "perigee" else fixed(int(policy))
    # As a person would run it, but for the admin port, of which there is only one: no kind, no loops written.
    return Perigee(
        processes,
        program,
        label=policy if policy == "perigee" else f"fixed-{policy}",
        kind=None,
        settings=settings,
        one_loop=False,
        logs=True,
    )


def result_of(client, seconds):
    out, _ = client.communicate(timeout=seconds)
    lines = out.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise Failed(f"chat_load said: {out[-500:]!r}")
    return json.loads(lines[-1])


def delays(stats, share, name="token_delay"):
    """A quantile over all workers, in seconds."""
    buckets = figures.merge_buckets([one["histograms"][name].get("buckets", []) for one in stats])
    return figures.bucket_quantile(buckets, share) / 1000


# --- the five loads -----------------------------------------------------------------------------------


def one_load(processes, program, load_folder, name, policy, seed, seconds):
    rate, settings, _ = LOADS[name]
    with starting:
        worker = Worker(processes, f"sim-{name}-{policy}-{seed}", *sim_options(settings), "--seed", str(seed))
        proxy = None if policy == "direct" else perigee_for(processes, program, policy)
        if proxy:
            proxy.start([worker.address], "/health")
        target = f"127.0.0.1:{proxy.port}" if proxy else worker.address
        client = processes.start(
            [
                load_folder / "chat_load",
                "--target",
                target,
                "--rate",
                rate,
                "--seconds",
                seconds,
                "--measure-s",
                seconds / 2,
                "--seed",
                seed,
                "--probe",
                worker.address,
            ],
            f"load-{name}-{policy}-{seed}",
            output=subprocess.PIPE,
        )
    try:
        processes.line(client, "started")
        began = time.monotonic()
        time.sleep(seconds / 2)
        worker.reset()
        time.sleep(max(began + seconds - 0.5 - time.monotonic(), 0))
        stats = worker.stats()
        cpu = {
            "sim": machine.cpu_seconds(worker.process.pid) / seconds,
            "perigee": machine.cpu_seconds(proxy.pid) / seconds if proxy else 0.0,
        }
        load = result_of(client, 30)
    finally:
        with starting:
            processes.stop(client)
            if proxy:
                proxy.stop()
            worker.stop()
    measured, span = load["measured"], load["measured_s"]
    return {
        "load": name,
        "policy": policy,
        "seed": seed,
        "served": measured["served"] / span,
        "p95": delays([stats], 0.95),
        "p99": delays([stats], 0.99),
        "p95_model": delays([stats], 0.95, "token_delay_model"),
        "p99_model": delays([stats], 0.99, "token_delay_model"),
        "write_lag_p95": delays([stats], 0.95, "write_lag"),
        "refused": measured["refused"],
        "broken": load["total"]["broken"],
        "first_event_p95": measured["first_event"]["p95_ms"] / 1000,
        "whole_mean": measured["whole"]["mean_ms"] / 1000,
        "health_worst": max(one["times"]["max_ms"] for one in load["health"].values()) / 1000,
        "chats_peak": stats["counts"]["chats_peak"],
        "cpu": cpu,
    }


def loads(options, perigee, load_folder, processes, report):
    names, policies = options.loads.split(","), options.policies.split(",")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    unknown = [name for name in names if name not in LOADS]
    if unknown:
        raise Failed(f"no such load: {', '.join(unknown)} (there are {', '.join(LOADS)})")
    jobs = [(name, policy, seed) for seed in seeds for name in names for policy in policies]
    # Chats that nobody holds back cost the simulator most: spread them over the time.
    jobs = [job for i in range(len(policies)) for job in jobs[i :: len(policies)]]
    minutes = -(-len(jobs) // options.parallel) * (options.seconds + 4) / 60
    print(
        f"\n{len(jobs)} runs of {options.seconds} s, {options.parallel} at a time: about {minutes:.0f} minutes",
        flush=True,
    )
    busy = machine.Busy()
    taken = []
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        waiting = [
            pool.submit(one_load, processes, perigee, load_folder, *job, options.seconds) for job in jobs
        ]
        try:
            for done in concurrent.futures.as_completed(waiting):
                one = done.result()
                taken.append(one)
                print(
                    f"  {one['load']:9} {one['policy']:8} seed {one['seed']:<3} served {one['served']:6.2f}/s  "
                    f"p95 {one['p95']:.3f} s",
                    flush=True,
                )
        except BaseException:
            for future in waiting:
                future.cancel()
            for process in list(processes.running):  # or the threads would wait for their loads to end
                process.kill()
            raise
    share = busy.share()
    report.keep("loads", taken)
    report.keep("loads_machine_busy", share)

    def of(name, policy, what):
        return figures.mean([one[what] for one in taken if (one["load"], one["policy"]) == (name, policy)])

    rows = []
    for name in names:
        for policy in policies:
            runs = [one for one in taken if (one["load"], one["policy"]) == (name, policy)]
            refused = sum(sum(one["refused"].values()) for one in runs)
            broken = sum(sum(one["broken"].values()) for one in runs)
            rows.append(
                [
                    name if policy == policies[0] else "",
                    f"fixed {policy}" if policy.isdigit() else policy,
                    f"{of(name, policy, 'served'):.2f}",
                    f"{of(name, policy, 'p95'):.3f}",
                    f"{of(name, policy, 'p99'):.3f}",
                    f"{of(name, policy, 'p95_model'):.3f}",
                    f"{of(name, policy, 'write_lag_p95'):.3f}",
                    f"{of(name, policy, 'first_event_p95'):.1f}",
                    f"{max(one['health_worst'] for one in runs):.2f}",
                    max(one["chats_peak"] for one in runs),
                    refused,
                    broken,
                ]
            )
    table(
        f"One worker, {options.seconds} s, measured over the second half, {len(seeds)} seed(s), "
        f"machine {100 * share:.0f} % busy. "
        "Token delay = sent − due, seconds; `model` = by the simulator's own clock; `sim late` = its error (p95)",
        [
            "load",
            "policy",
            "served/s",
            "token p95",
            "token p99",
            "p95 model",
            "sim late",
            "first event p95",
            "worst /health",
            "chats at once",
            "refused",
            "broken",
        ],
        rows,
    )
    for name in names:
        numbers = [policy for policy in policies if policy.isdigit()]
        if "perigee" not in policies:
            continue
        mine, p95, model = (
            of(name, "perigee", "served"),
            of(name, "perigee", "p95"),
            of(name, "perigee", "p95_model"),
        )
        what = f"load {name} ({LOADS[name][2]})"
        if numbers:
            best = max(numbers, key=lambda policy: of(name, policy, "served"))
            most = of(name, best, "served")
            report.verdict(
                f"{what}: serves at least 0.9 of the best fixed number",
                f"{mine:.2f}/s beside {most:.2f}/s (fixed {best}) = {mine / most if most else 0:.3f}",
                mine >= 0.9 * most,
            )
        against = "".join(
            f"; {label} {of(name, policy, 'served'):.2f}/s {of(name, policy, 'p95'):.3f} s"
            for label, policy in (("direct", "direct"), ("fixed 48", "48"))
            if policy in policies
        )
        report.verdict(
            f"{what}: p95 token delay at most 0.3 s",
            f"{p95:.3f} s (model clock {model:.3f} s{against})",
            p95 <= 0.3,
        )


# --- bursts -------------------------------------------------------------------------------------------


def one_burst(processes, options, tools, program, load_folder, chats, pauses, target):
    """Bursts on the same three workers, so that their pauses fall anywhere; the proxy is new each time."""
    settings = {"provider-delay-ms": 0, "pause-every": 110 if pauses else 0}
    workers = [
        Worker(
            processes,
            f"burst-w{i}-{chats}-{pauses}-{target.split()[0]}",
            *sim_options(settings),
            "--seed",
            str(42 + i),
        )
        for i in range(3)
    ]
    addresses = [worker.address for worker in workers]
    rounds = []
    for number in range(options.rounds):
        proxy = None
        if target == "haproxy leastconn":
            proxy = HAProxy(processes, tools["haproxy"], no_delay=True).start(addresses, "/health")
        elif target == "perigee":
            proxy = perigee_for(processes, program, "perigee").start(addresses, "/health")
        time.sleep(2.5)  # probes have been answered; the burst meets a sidecar at rest
        for worker in workers:
            worker.reset()
        to = [f"127.0.0.1:{proxy.port}"] if proxy else addresses
        client = processes.start(
            [
                load_folder / "chat_load",
                "--burst",
                chats,
                "--seconds",
                120,
                "--seed",
                42 + number,
                *(word for one in to for word in ("--target", one)),
                *(word for one in addresses for word in ("--probe", one)),
            ],
            "load-burst",
            output=subprocess.PIPE,
        )
        load = result_of(client, 150)
        stats = [worker.stats() for worker in workers]
        processes.stop(client)
        if proxy:
            proxy.stop()
        total = load["total"]
        rounds.append(
            {
                "p99": delays(stats, 0.99),
                "p99_model": delays(stats, 0.99, "token_delay_model"),
                "health_worst": max(one["times"]["max_ms"] for one in load["health"].values()) / 1000,
                "whole_mean": total["whole"]["mean_ms"] / 1000,
                "first_event_p95": total["first_event"]["p95_ms"] / 1000,
                "served": total["served"],
                "refused": total["refused"],
                "broken": total["broken"],
                "unfinished": load["unfinished"],
                "write_lag_max": max(one["histograms"]["write_lag"]["max_ms"] for one in stats) / 1000,
                "pauses": sum(one["counts"]["pauses"] for one in stats),
                "spread": [one["counts"]["chats_started"] for one in stats],
            }
        )
    for worker in workers:
        worker.stop()
    return rounds


def bursts(options, tools, perigee, load_folder, processes, report):
    targets = ["direct", "haproxy leastconn", "perigee"]
    busy = machine.Busy()
    taken, rows = [], []
    print(f"\nBursts: {12 * options.rounds} of about 12 s", flush=True)
    for chats in (200, 400):
        for pauses in (False, True):
            for target in targets:
                rounds = one_burst(processes, options, tools, perigee, load_folder, chats, pauses, target)
                one = {
                    what: figures.mean([one[what] for one in rounds])
                    for what in ("p99", "p99_model", "health_worst", "whole_mean", "first_event_p95")
                }
                one |= {
                    "chats": chats,
                    "pauses": pauses,
                    "target": target,
                    "rounds": rounds,
                    "not_served": sum(chats - each["served"] for each in rounds),
                    "refused": sum(sum(each["refused"].values()) for each in rounds),
                }
                taken.append(one)
                rows.append(
                    [
                        f"{chats}, pauses {'on' if pauses else 'off'}" if target == "direct" else "",
                        target,
                        f"{one['p99']:.3f}",
                        f"{max(each['p99'] for each in rounds):.3f}",
                        f"{one['p99_model']:.3f}",
                        f"{one['health_worst']:.3f}",
                        f"{max(each['health_worst'] for each in rounds):.3f}",
                        f"{one['whole_mean']:.2f}",
                        f"{one['first_event_p95']:.2f}",
                        one["refused"],
                        one["not_served"] - one["refused"],
                        sum(each["pauses"] for each in rounds),
                        f"{max(each['write_lag_max'] for each in rounds):.3f}",
                    ]
                )
                print(
                    f"  {chats} pauses {'on ' if pauses else 'off'} {target:18} p99 {one['p99']:.3f}  "
                    f"health {one['health_worst']:.3f}  whole {one['whole_mean']:.2f} s",
                    flush=True,
                )
    report.keep("bursts", taken)
    report.keep("bursts_machine_busy", busy.share())
    table(
        f"Chats at once on three workers, provider at once, {options.rounds} rounds (mean, and worst round); seconds; "
        f"machine {100 * busy.share():.0f} % busy",
        [
            "burst",
            "through",
            "token p99",
            "worst",
            "p99 model",
            "worst /health",
            "worst",
            "whole answer mean",
            "first event p95",
            "refused",
            "failed",
            "pauses met",
            "sim late (max)",
        ],
        rows,
    )
    for chats in (200, 400):
        for pauses in (False, True):
            direct, ours = (
                next(
                    one
                    for one in taken
                    if (one["chats"], one["pauses"], one["target"]) == (chats, pauses, target)
                )
                for target in ("direct", "perigee")
            )
            most, what = 0.5 if pauses else 0.15, f"{chats} at once, pauses {'on' if pauses else 'off'}"
            report.verdict(
                f"{what}: p99 token delay at most {most} s",
                f"{ours['p99']:.3f} s (model clock {ours['p99_model']:.3f}; direct {direct['p99']:.3f})",
                ours["p99"] <= most,
            )
            report.verdict(
                f"{what}: worst /health delay at most {most} s",
                f"{ours['health_worst']:.3f} s (mean of rounds; "
                f"worst {max(one['health_worst'] for one in ours['rounds']):.3f}; "
                f"direct {direct['health_worst']:.3f})",
                ours["health_worst"] <= most,
            )
            report.verdict(
                f"{what}: mean of a whole answer below direct's",
                f"{ours['whole_mean']:.2f} s beside {direct['whole_mean']:.2f} s",
                ours["whole_mean"] < direct["whole_mean"],
            )
            report.verdict(
                f"{what}: nothing refused, nothing failed",
                f"{ours['refused']} refused, {ours['not_served']} not served",
                ours["not_served"] == 0,
            )


def run(options, tools, perigee, load_folder, processes, report):
    if options.part in ("loads", "both"):
        loads(options, perigee, load_folder, processes, report)
    if options.part in ("bursts", "both"):
        bursts(options, tools, perigee, load_folder, processes, report)
