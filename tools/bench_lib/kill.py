"""One of three workers is killed under load: only what had reached it may fail, and the rest finishes."""

import json
import subprocess
import time

from .orbit import perigee_for, result_of, sim_options
from .processes import Worker
from .report import table


def sessions_at(worker):
    """Sessions of the chats that this worker has read, by its own record."""
    asked = worker.control("GET", "/requests?path=/v1/chat&limit=1000")["requests"]
    found = set()
    for one in asked:
        for line in one["raw_head"].split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "x-session-id":
                found.add(value.strip())
    return found


def run(options, _tools, perigee, load_folder, processes, report):
    settings = {"provider-delay-ms": "300-1000", "pause-every": 0}
    workers = [Worker(processes, f"kill-w{i}", *sim_options(settings)) for i in range(3)]
    proxy = perigee_for(processes, perigee, "perigee").start(
        [worker.address for worker in workers], "/health"
    )
    client = processes.start(
        [
            load_folder / "chat_load",
            "--target",
            f"127.0.0.1:{proxy.port}",
            "--rate",
            options.rate,
            "--seconds",
            options.seconds,
            "--drain-s",
            60,
        ],
        "load-kill",
        output=subprocess.PIPE,
    )
    processes.line(client, "started")
    time.sleep(options.seconds / 3)
    victim = workers[0]
    before = victim.stats()["counts"]
    reached = sessions_at(victim)
    victim.process.kill()
    victim.process.wait()
    load = result_of(client, options.seconds + 90)
    elsewhere = set().union(*(sessions_at(worker) for worker in workers[1:]))
    failures = load["failures"]
    # What the victim read between its last answer to us and the kill is in no record; but an answer that broke
    # after its head had begun on a worker, and the others are alive.
    spared = [
        one
        for one in failures
        if one["session"] not in reached and (one["status"] != 200 or not one["broken"])
    ]
    total = load["total"]
    table(
        f"kill -9 of one of three workers after {options.seconds / 3:.0f} s of {options.rate:g} chats a second",
        [
            "chats",
            "served",
            "refused",
            "broken",
            "running on the victim",
            "sent again elsewhere",
            "failed, never there",
        ],
        [
            [
                total["started"],
                total["served"],
                json.dumps(total["refused"]),
                json.dumps(total["broken"]),
                before["chats_now"],
                len(reached & elsewhere),
                len(spared),
            ]
        ],
    )
    report.keep(
        "kill",
        {
            "load": {key: value for key, value in load.items() if key != "failures"},
            "failures": failures,
            "victim_running": before["chats_now"],
            "spared_failures": spared,
            "sent_again": len(reached & elsewhere),
        },
    )
    report.verdict(
        "kill -9 under load: no failed request that had not reached the worker",
        f"{len(spared)} such of {len(failures)} failed ({before['chats_now']} were running there)",
        not spared,
    )
    done = total["served"] + len(failures)
    report.verdict(
        "kill -9 under load: the rest finishes",
        f"{total['served']} served and {len(failures)} failed of {total['started']}, {load['unfinished']} unfinished",
        load["unfinished"] == 0 and done == total["started"] and len(failures) <= before["chats_now"] + 2,
    )
