"""SIGHUP: everything new is put in place at once, or nothing is; no request notices."""

import signal
import threading
import time

from clients import Stream
from harness import expect, get, scenario, slots, until
from support import KEY


class Load:
    """Streams and small requests, one after the other, until the end; what failed."""

    def __init__(self, perigee, streams=6, readers=3):
        self.perigee = perigee
        self.over = threading.Event()
        self.failed, self.served = [], 0
        self.threads = [threading.Thread(target=self.stream, args=(i,), daemon=True) for i in range(streams)]
        self.threads += [threading.Thread(target=self.read, daemon=True) for _ in range(readers)]
        for thread in self.threads:
            thread.start()

    def stream(self, number):
        while not self.over.is_set():
            stream = Stream(self.perigee.port, "[[n=6 gap=40]]", f"load{number}").finish()
            if stream.done:
                self.served += 1
            else:
                self.failed.append((stream.status, stream.error))

    def read(self):
        try:
            with self.perigee.wire() as wire:
                while not self.over.is_set():
                    answer = wire.ask(get("/v1/autocomplete?q=how", f"X-API-Key: {KEY}"))
                    if answer.status != 200:
                        self.failed.append((answer.status, answer.reason))
                    time.sleep(0.01)
        except (OSError, EOFError) as error:
            self.failed.append(("reader", error))

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(15)
        expect("failed", self.failed, [])
        expect("served", self.served, lambda n: n > 5)


@scenario(limit=60, weight=5)
def under_load_nothing_fails(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims[:2], slots(20))
    load = Load(perigee)
    for number in range(6):
        perigee.write_config(more=slots(20) + f"limits: {{chat: {1000 + number}}}\n")
        perigee.reload()
        time.sleep(0.15)
    load.end()
    expect("the last one is in effect", perigee.page("config")["config"]["limits"]["chat"], 1005)
    expect(
        "told in the metrics",
        perigee.metric("perigee_reloads_total", result="succeeded"),
        lambda v: v in (6.0, 7.0, None),
    )
    expect("and in the log", "limits.chat" in perigee.log())


@scenario(limit=60, weight=6)
def workers_come_and_go(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims[:2], slots(20))
    load = Load(perigee)
    long = Stream(perigee.port, "[[n=60 gap=50]]", "long")
    expect("token", long.first_token.wait(5))
    perigee.write_config(workers=sims[2:])
    perigee.reload()
    until("the new one is up", lambda: perigee.backend("w3")["up"])
    time.sleep(0.5)
    load.end()
    expect("what ran on a removed one finishes", long.finish().done)
    started = [s.counts()["chats_started"] for s in sims]
    for number in range(5):
        expect("served", Stream(perigee.port, "[[n=1]]", f"s{number}").finish().done)
    expect(
        "by the new one only",
        [s.counts()["chats_started"] for s in sims],
        [started[0], started[1], started[2] + 5],
    )
    until(
        "the old ones are gone",
        lambda: [b["name"] for b in perigee.page("backends")["backends"] if not b["removed"]] == ["w3"],
    )
    perigee.write_config(workers=sims)
    perigee.reload()
    until("and come back", lambda: all(perigee.backend(f"w{i}")["up"] for i in (1, 2, 3)))


@scenario(weight=2)
def a_worker_that_moves_keeps_its_name(rig):
    first, second = rig.worker(name="w"), rig.worker(name="w")
    perigee = rig.perigee([first], "")
    expect("served", perigee.ask(get("/docs")).status, 200)
    perigee.write_config(workers=[second])
    perigee.reload()
    until("up", lambda: perigee.backend("w")["up"])
    expect("served", perigee.ask(get("/docs?2")).status, 200)
    expect(
        "by the new address",
        ([r.target for r in first.requests], [r.target for r in second.requests]),
        (["/docs"], ["/docs?2"]),
    )


@scenario(weight=2)
def a_wrong_file_changes_nothing_and_says_why(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], "limits: {chat: 77}\n")
    good = perigee.config.read_text()
    table = [
        ("a wrong type", good.replace("77", "many"), "limits.chat"),
        ("no YAML", "workers: [", "YAML"),
        ("no workers", "listen: 127.0.0.1:3000\n", "workers"),
        ("an unknown key", good + "nonsense: 1\n", "nonsense"),
    ]

    def one(text, says):
        failed = perigee.page("status")["reloads"]["failed"]
        perigee.write_config(text=text)
        perigee.reload(succeeds=False)
        status = perigee.page("status")["reloads"]
        expect(
            "status",
            (status["failed"], status["last_failed"], says in status["last_error"]),
            (failed + 1, True, True),
        )
        expect("the log says why", says in perigee.log())
        expect(
            "metric",
            perigee.metric("perigee_reloads_total", result="failed"),
            lambda v: v is None or v == failed + 1,
        )
        expect("the old one is in effect", perigee.page("config")["config"]["limits"]["chat"], 77)
        expect("served", perigee.ask(get("/health")).status, 200)

    for title, text, says in table:
        rig.row(title, one, text, says)

    def gone():
        perigee.config.unlink()
        perigee.reload(succeeds=False)
        expect("says why", "No such file" in perigee.page("status")["reloads"]["last_error"])

    rig.row("the file is gone", gone)

    def right():
        perigee.write_config(text=good.replace("77", "78"))
        perigee.reload()
        expect("in effect", perigee.page("config")["config"]["limits"]["chat"], 78)
        expect("not failed any more", perigee.page("status")["reloads"]["last_failed"], False)

    rig.row("then a right one", right)


@scenario(weight=2)
def what_needs_a_restart_is_told(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], "")
    perigee.write_config(more="io_threads: 3\n")
    perigee.reload()
    expect(
        "told",
        perigee.page("status")["reloads"]["waiting_for_restart"],
        lambda keys: any("io_threads" in k for k in keys),
    )
    expect("served", perigee.ask(get("/health")).status, 200)


@scenario(weight=2)
def lowering_a_limit_revokes_nothing(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], "max_concurrent_requests: 10\n" + slots(10))
    streams = [Stream(perigee.port, "[[n=30 gap=40]]", f"s{i}") for i in range(8)]
    for stream in streams:
        expect("token", stream.first_token.wait(5))
    perigee.write_config(
        more="max_concurrent_requests: 2\nslots: {steering: fixed, start: 2, recovered: 2, floor: 1}\npace: {start: 0, recovered: 0}\n"
    )
    perigee.reload()
    expect("all eight run on", perigee.backend("w")["in_flight"], 8)
    late = Stream(perigee.port, "[[n=1]]", "late")
    until("a ninth waits", lambda: perigee.page("status")["waiting"] == 1)
    for stream in streams:
        expect("whole", stream.finish().done)
    expect("and is served", late.finish().done)


@scenario(weight=3)
def many_signals_at_once(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(20))
    load = Load(perigee, streams=4)
    for _ in range(60):
        perigee.signal(signal.SIGHUP)
        time.sleep(0.01)
    time.sleep(0.5)
    load.end()
    status = perigee.page("status")["reloads"]
    expect("none failed", (status["failed"], status["succeeded"] >= 1), (0, True))
    perigee.write_config(more=slots(20) + "limits: {chat: 123}\n")
    perigee.signal(signal.SIGHUP)
    perigee.signal(signal.SIGHUP)
    until("the last word counts", lambda: perigee.page("config")["config"]["limits"]["chat"] == 123)
