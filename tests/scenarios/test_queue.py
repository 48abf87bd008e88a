"""The queue in front: who waits, in which order, for how long, and what those are told who may not."""

import threading
import time

import scripted
from clients import Stream, run_all
from harness import Wire, chat, expect, get, post, scenario, slots, until
from support import KEY


class Gate:
    """A scripted worker that answers an exchange only when the scenario lets it."""

    def __init__(self, rig, name=None):
        self.open = threading.Semaphore(0)
        self.always = False
        self.worker = rig.worker(self.script, name=name)

    def script(self, connection, request):
        if "slow" in request.target or request.method == "POST":
            if not self.always:
                self.open.acquire(timeout=20)
        connection.send(scripted.whole(request.target.encode()))

    def let(self, count=1):
        for _ in range(count):
            self.open.release()

    def targets(self):
        return [r.target for r in self.worker.requests]


class Asked(threading.Thread):
    def __init__(self, perigee, data):
        super().__init__(daemon=True)
        self.perigee, self.data = perigee, data
        self.answer = self.error = None
        self.start()

    def run(self):
        try:
            self.answer = self.perigee.ask(self.data, timeout=25)
            self.ended = time.monotonic()
        except (OSError, EOFError) as error:
            self.error = error

    def result(self, seconds=10):
        self.join(seconds)
        if self.answer is None:
            raise AssertionError(f"no answer: {self.error}")
        return self.answer


def waiting(perigee):
    return perigee.page("status")["waiting"]


@scenario(weight=2)
def a_request_is_bound_when_a_slot_frees(rig):
    """Nobody waits behind a slow neighbour while another worker has room."""
    slow, quick = Gate(rig, "slow"), Gate(rig, "quick")
    perigee = rig.perigee([slow.worker, quick.worker], slots(1))
    until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
    first = [Asked(perigee, get(f"/static/slow-{i}")) for i in range(2)]
    until("both slots are taken", lambda: len(slow.targets()) == len(quick.targets()) == 1)
    later = [Asked(perigee, get(f"/static/slow-later-{i}")) for i in range(4)]
    until("four wait", lambda: waiting(perigee) == 4)
    quick.always = True
    quick.let()
    for asked in later:
        expect("answered by the one that is free", asked.result().status, 200)
    expect("the slow one still has its first only", (len(slow.targets()), len(quick.targets())), (1, 5))
    slow.let()
    expect("and ends it", [a.result().status for a in first], [200, 200])


@scenario(weight=2)
def order_is_priority_then_arrival(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1) + "trusted: [127.0.0.1]\n")
    holder = Asked(perigee, get("/static/slow-first"))
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    order = ["low", "normal", "high", "low", "normal", "high", "critical"]
    asked = []
    for number, priority in enumerate(order):
        asked.append(Asked(perigee, get(f"/static/slow-{number}-{priority}", f"X-Priority: {priority}")))
        until("it waits", lambda: waiting(perigee) == number + 1)
    lanes = {(l["class"], l["priority"]): l["waiting"] for l in perigee.page("queues")["lanes"]}
    expect(
        "lanes",
        lanes,
        {("other", "critical"): 1, ("other", "high"): 2, ("other", "normal"): 2, ("other", "low"): 2},
    )
    gate.always = True
    gate.let()
    for one in asked:
        expect("answered", one.result().status, 200)
    expect(
        "order at the worker",
        [t.removeprefix("/static/slow-") for t in gate.targets()[1:]],
        ["6-critical", "2-high", "5-high", "1-normal", "4-normal", "0-low", "3-low"],
    )
    expect("holder", holder.result().status, 200)


@scenario(weight=1)
def a_stranger_cannot_choose_its_priority(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1))
    Asked(perigee, get("/static/slow-first"))
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    for number, priority in enumerate(["normal", "critical"]):
        Asked(perigee, get(f"/static/slow-{number}", f"X-Priority: {priority}"))
        until("it waits", lambda: waiting(perigee) == number + 1)
    gate.always = True
    gate.let()
    until("all came", lambda: len(gate.targets()) == 3)
    expect("order of arrival", gate.targets()[1:], ["/static/slow-0", "/static/slow-1"])
    expect("the field is not forwarded", b"x-priority" in b"".join(gate.worker.traffic()).lower(), False)


@scenario(weight=2)
def health_and_stop_pass_while_the_slots_are_full(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(1))
    stream = Stream(perigee.port, "[[n=300 gap=50]]", "s")
    request_id = stream.id()
    queued = Stream(perigee.port, "[[n=2 gap=10]]", "t")
    until("one waits", lambda: waiting(perigee) == 1)
    began = time.monotonic()
    expect("health", perigee.ask(get("/health")).status, 200)
    expect("metrics", perigee.ask(get("/metrics")).status, 200)
    expect(
        "preflight",
        perigee.ask(
            get("/v1/chat", "Origin: a", "Access-Control-Request-Method: POST", method="OPTIONS")
        ).status,
        200,
    )
    stopped = perigee.ask(
        post("/v1/chat/stop", {"session_id": "s", "request_id": request_id}, f"X-API-Key: {KEY}")
    )
    expect("stop", stopped.json()["status"], "cancelled")
    expect("at once", time.monotonic() - began, lambda s: s < 1.5)
    stream.finish()
    expect("and the waiting one gets the slot", queued.finish().done)


@scenario(weight=3)
def who_waits_too_long_is_told_so(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1) + "queue_wait: {chat: 700ms, other: 20s}\n")
    Asked(perigee, get("/static/slow"))
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    with perigee.wire() as wire:
        began = time.monotonic()
        answer = wire.ask(chat(stream=False, fields=["Origin: https://a.example"]))
        took = time.monotonic() - began
        expect("status and reason", (answer.status, answer.reason), (503, "queue_timeout"))
        expect("after queue_wait", took, lambda s: 0.6 < s < 2)
        expect("retry-after", int(answer.fields["retry-after"]), lambda s: 1 <= s <= 60)
        expect("FastAPI's shape", answer.json(), lambda j: isinstance(j["detail"], str))
        expect("request id", answer.fields["x-request-id"], lambda i: len(i) > 8)
        expect("a browser may read it", answer.fields["access-control-allow-origin"], "*")
        shaped = wire.ask(chat(path="/v1/chat/completions"))
        expect(
            "on the same connection, OpenAI's shape",
            (shaped.status, shaped.json()["error"]["code"], shaped.json()["error"]["type"]),
            (503, "queue_timeout", "server_error"),
        )
    expect("nothing reached the worker", gate.targets(), ["/static/slow"])
    line = perigee.line(path="/v1/chat")
    expect("log", (line["reason"], line["status"], "backend" in line), ("queue_timeout", 503, False))
    expect(
        "metric",
        perigee.metric("perigee_requests_total", **{"class": "chat", "reason": "queue_timeout"}),
        2.0,
    )
    gate.let()


@scenario(weight=2)
def a_full_queue_says_so_at_once(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee(
        [gate.worker], slots(1) + "queue: {entries: 2, priority_entries: 1}\ntrusted: [127.0.0.1]\n"
    )
    asked = [Asked(perigee, get("/static/slow-0"))]
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    for number in range(2):
        asked.append(Asked(perigee, get(f"/static/slow-{number + 1}")))
        until("it waits", lambda: waiting(perigee) == number + 1)
    began = time.monotonic()
    refused = perigee.ask(get("/static/slow-no"))
    expect(
        "refused",
        (refused.status, refused.reason, "retry-after" in refused.fields),
        (503, "queue_full", True),
    )
    expect("at once", time.monotonic() - began, lambda s: s < 0.5)
    asked.append(Asked(perigee, get("/static/slow-high", "X-Priority: high")))
    until("a high one has an entry of its own", lambda: waiting(perigee) == 3)
    expect(
        "until those are used up too",
        perigee.ask(get("/static/slow-high", "X-Priority: high")).reason,
        "queue_full",
    )
    gate.let(4)
    expect("those who waited are served", [a.result().status for a in asked], [200] * 4)


@scenario(weight=2)
def who_leaves_while_waiting_is_gone_at_once(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1))
    holder = Asked(perigee, get("/static/slow"))
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    waiters = [Wire(perigee.port) for _ in range(5)]
    for number, wire in enumerate(waiters):
        wire.send(chat(f"waiter {number}", stream=number % 2 == 0))
    until("they wait", lambda: waiting(perigee) == 5)
    for number, wire in enumerate(waiters):
        if number % 2:
            wire.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: RST
        wire.socket.close()
    until("the queue is empty", lambda: waiting(perigee) == 0, 1)
    gate.let()
    expect("holder", holder.result().status, 200)
    expect("the slot is free", perigee.ask(get("/docs")).status, 200)
    expect("the worker never heard of them", gate.targets(), ["/static/slow", "/docs"])
    until("log", lambda: len(perigee.lines(path="/v1/chat", reason="client_gone")) == 5)


@scenario(weight=4)
def the_ceiling_is_exact(rig):
    """max_concurrent_requests: 5 and 60 chats at once: never more than five in the worker, all served."""
    sim = rig.sim("--work-ms", 5, "--head-ms", 1, name="w")
    perigee = rig.perigee(
        [sim],
        "max_concurrent_requests: 5\npace: {start: 0, recovered: 0}\nslots: {start: 5, recovered: 5, floor: 1}\n",
    )
    streams = [Stream(perigee.port, "[[n=3 gap=20 first=20]]", f"s{i}") for i in range(60)]
    for stream in streams:
        expect("whole", stream.finish().done)
    counts = sim.counts()
    expect(
        "served and at once",
        (counts["chats_finished"], counts["chats_peak"]),
        lambda c: c[0] == 60 and 2 <= c[1] <= 5,
    )


@scenario(weight=3)
def the_pace_spreads_starts(rig):
    sim = rig.sim("--work-ms", 1, "--head-ms", 1, name="w")
    perigee = rig.perigee([sim], slots(48, pace=20))
    began = time.monotonic()
    streams = [Stream(perigee.port, "[[n=1 first=1]]", f"s{i}") for i in range(40)]
    for stream in streams:
        expect("whole", stream.finish().done)
    expect("40 starts at 20 a second take", time.monotonic() - began, lambda s: 1.0 < s < 5.0)


@scenario(weight=3)
def streams_and_classes_are_bounded(rig):
    """limits.chat bounds chats before their first event, limits.streams those after it."""
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(40) + "limits: {streams: 3}\nqueue_wait: {chat: 500ms}\n")
    streams = [Stream(perigee.port, "[[n=60 gap=50]]", f"s{i}") for i in range(3)]
    for stream in streams:
        expect("token", stream.first_token.wait(5))
    until("counted", lambda: perigee.page("status")["streams"] == 3)
    refused = perigee.ask(chat("[[n=1]]", "x"))
    expect(
        "a fourth",
        (refused.status, refused.reason),
        lambda r: r[0] == 503 and r[1] in ("queue_timeout", "queue_full"),
    )
    expect("other work goes on", perigee.ask(get("/docs")).status, 200)
    for stream in streams:
        expect("whole", stream.finish().done)
    expect("and then chats again", Stream(perigee.port, "[[n=1]]", "y").finish().done)


@scenario(weight=2)
def slow_uploads_take_no_slot(rig):
    """A ticket is asked for when the body is whole, or 64 KiB of it have come."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], slots(1))
    slow = [Wire(perigee.port) for _ in range(5)]
    for wire in slow:
        wire.send(post("/api/threads", b"x" * 1000)[:-1])
    expect("others pass", run_all([lambda: perigee.ask(get("/docs")).status for _ in range(5)]), [200] * 5)
    expect("nothing of the slow ones arrived", {r.target for r in worker.requests}, {"/docs"})
    for wire in slow:
        wire.send(b"x")
        expect("served when whole", wire.next_answer().status, 200)
        wire.socket.close()


@scenario(weight=1)
def one_tenants_flood_does_not_delay_another(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1) + "queue: {tenant_turns: yes}\n")
    holder = Asked(perigee, get("/static/slow-first"))
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    asked = []
    for number in range(40):
        asked.append(Asked(perigee, get(f"/static/slow-a{number}", "X-API-Key: flood")))
    until("they wait", lambda: waiting(perigee) == 40)
    for number in range(3):
        asked.append(Asked(perigee, get(f"/static/slow-b{number}", "X-API-Key: other")))
        until("it waits", lambda: waiting(perigee) == 41 + number)
    expect("tenants", perigee.page("queues")["pools"][0]["tenants_waiting"], 2)
    gate.always = True
    gate.let()
    for one in asked:
        expect("answered", one.result().status, 200)
    order = [t.removeprefix("/static/slow-") for t in gate.targets()[1:]]
    places = [order.index(f"b{number}") for number in range(3)]
    expect("the other's turns", places, [1, 3, 5])
    expect("holder", holder.result().status, 200)


@scenario(weight=1)
def a_deadline_ends_the_wait(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1) + "trusted: [127.0.0.1]\ndeadlines: {other: 600ms}\n")
    holder = Asked(perigee, get("/static/slow-first", "X-Request-Deadline: 20000"))
    until("the slot is taken", lambda: len(gate.targets()) == 1)
    for header, least, most in (("X-Request-Deadline: 300", 0.25, 0.55), ("X-Nothing: 1", 0.55, 1.2)):
        began = time.monotonic()
        answer = perigee.ask(get("/static/slow-late", header), timeout=10)
        took = time.monotonic() - began
        expect("status", answer.status, 503)
        expect("reason", answer.reason, "queue_timeout")
        if not least <= took <= most:
            raise AssertionError(f"told after {took:.2f} s")
    gate.let()
    expect("holder", holder.result().status, 200)
