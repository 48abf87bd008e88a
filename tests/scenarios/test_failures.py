"""Workers that refuse, hang, break, lie or die: the right status, a cut that looks cut, and never another
client's bytes."""

import itertools
import json
import os
import re
import signal
import threading
import time

import scripted
from clients import Stream, run_all
from harness import Answer, Wire, cases, chat, expect, free_port, get, post, scenario, slots, until
from support import KEY

NEVER_OPEN = "breaker: {consecutive: none, ratio: 0}\n"


def expand(text):
    """{x*N} = N times x."""
    return re.sub(r"\{(\w)\*(\d+)\}", lambda m: m[1] * int(m[2]), text).encode("latin-1")


@scenario(limit=60, weight=8)
def what_a_worker_may_answer(rig):
    """cases/answers.json: what the worker sends and what its client gets; the next client gets its own,
    always."""
    current = {}

    def script(connection, request):
        if request.target.startswith("/v1/autocomplete"):
            connection.send(scripted.whole(request.target.encode()))
            return None
        case = current["case"]
        if case["send"]:
            connection.send(expand(case["send"]))
        if "later" in case:
            time.sleep(0.05)
            connection.send(expand(case["later"]))
        then = case.get("then")
        if then == "fin":
            connection.fin()
            return "end"
        if then == "reset":
            time.sleep(0.03)
            connection.reset()
            return "end"
        return None

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], slots(50) + NEVER_OPEN)

    def one(number, case, path):
        current["case"] = case
        wanted = case["status"] if isinstance(case["status"], list) else [case["status"]]
        with perigee.wire(timeout=5.0) as wire:
            wire.send(
                chat("x", stream=False, path=path)
                if path.startswith("/v1")
                else get(path, "Connection: close")
            )
            raw = b""
            try:
                answer = wire.next_answer(head_only=wanted == [304])
                whole = True
            except EOFError:
                raw, whole, answer = wire.buffer, False, None
            except ConnectionResetError:
                whole, answer = False, None
            if case.get("cut"):
                if not whole:
                    # Its head went out; what came of the body is not closed in good order.
                    expect("no last chunk", raw.endswith(b"0\r\n\r\n"), False)
                else:
                    expect("status of a whole answer", answer.status, lambda s: s in wanted and s != 200)
                return
            expect("whole", whole)
            expect("status", answer.status, lambda s: s in wanted)
            if "body" in case:
                expect("body", answer.body, case["body"].encode())
            if answer.status == 502:
                expect("reason", answer.reason, "upstream_failed")
                expect("well-formed", answer.json(), lambda j: "detail" in j or "error" in j)
                expect("no text of the worker's", b"nonsense" in answer.raw, False)
            if "reason" in case:
                expect("reason", answer.reason, case["reason"])
            if "never" in case:
                expect(f"`{case['never']}`", case["never"].encode() in answer.raw, False)
        if "later" in case:
            time.sleep(
                0.15
            )  # before the next request is written: afterwards nobody could tell them from its answer
        for again in range(3):
            target = f"/v1/autocomplete?q=mine-{number}-{again}"
            answer = perigee.ask(get(target))
            expect(
                "the next client's answer is its own", (answer.status, answer.body), (200, target.encode())
            )

    for number, case in enumerate(cases("answers.json")):
        rig.row(case["rule"], one, number, case, "/v1/chat/completions")
        rig.row(case["rule"] + " (GET)", one, number + 1000, case, "/docs")


@scenario(weight=2)
def a_stream_that_breaks_never_looks_whole(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(50) + NEVER_OPEN)
    table = [
        ("reset in the middle", dict(kind="reset", when="events", after=3, how="rst")),
        ("closed in the middle", dict(kind="reset", when="events", after=3, how="fin")),
        ("chunk size that is no number", dict(kind="bad_chunk", after=3)),
        ("last chunk missing", dict(kind="no_last_chunk")),
    ]

    def one(fault, path):
        sim.fault(**fault, count=1)
        stream = Stream(perigee.port, request=chat("[[n=6 gap=10]]", path=path)).finish()
        expect("begun and cut", (stream.status, stream.whole), (200, False))
        expect("what came before the fault came through", len(stream.events), lambda n: n >= 3)
        if path.endswith("completions") and fault["kind"] != "no_last_chunk":
            last = stream.events[-1]
            expect(
                "a client of OpenAI's shape is told why",
                json.loads(last.partition(b"data: ")[2])["error"]["code"],
                "upstream_failed",
            )

    for title, fault in table:
        for path in ("/v1/chat", "/v1/chat/completions"):
            rig.row(f"{title}: {path}", one, fault, path)
    lines = until(
        "log",
        lambda: (l := [x for x in perigee.lines(status=200) if x.get("stream") == "failed"])
        and len(l) == 8
        and l,
    )
    expect("log", {line["reason"] for line in lines}, {"upstream_failed"})


@scenario(weight=2)
def a_broken_stream_to_http_1_0_ends_by_reset(rig):
    """It ends by closing: a FIN would make half an answer look whole."""

    def script(connection, request):
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            + scripted.chunk(scripted.event('{"response": "a"}'))
        )
        time.sleep(0.1)
        connection.reset()
        return "end"

    perigee = rig.perigee([rig.worker(script)])
    with perigee.wire() as wire:
        wire.send(chat().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        wire.until(b'"a"}\n\n')
        expect("ended by", wire.ended(3), "rst")


@scenario(weight=2)
def a_stream_without_its_terminal_event(rig):
    """Status 200, an ordinary sentence, no terminal event: a provider's failure."""
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(50))
    table = [("provider_error", dict(status=503)), ("provider_drop", dict(after=3)), ("unterminated", {})]
    for kind, fields in table:
        for path in ("/v1/chat", "/v1/chat/completions"):
            sim.fault(kind, count=1, **fields)
            stream = Stream(perigee.port, request=chat("[[n=5 gap=10]]", path=path)).finish()
            expect(
                "a client sees what the worker said, whole",
                (stream.status, stream.whole, stream.done),
                (200, True, False),
            )
    good = Stream(perigee.port, "[[n=2 gap=5]]", "good").finish()
    expect("a good one", good.done)
    lines = until("log", lambda: (l := perigee.lines()) and len(l) == 7 and l)
    expect(
        "log",
        [(line["stream"], line["status"]) for line in lines],
        [("unterminated", 200)] * 6 + [("completed", 200)],
    )
    expect(
        "metric", perigee.metric("perigee_streams_total", verdict="unterminated"), lambda v: v in (6.0, None)
    )


@scenario(weight=3)
def clocks_towards_workers(rig):
    """Hangs before the head, at the connect, before the first event, in the middle: each has its own
    clock."""

    def script(connection, request):
        path = request.target
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        if "head" not in path:
            connection.send(head)
        if "silence" in path:
            connection.send(scripted.chunk(scripted.event('{"response": "a"}')))
        connection.drain()
        return "end"

    worker = rig.worker(script, name="w")
    perigee = rig.perigee(
        [worker],
        slots(50)
        + NEVER_OPEN
        + "clocks: {head: 400ms, head_stream: 600ms, first_event: 800ms, silence: 1s}\n"
        "retries: {other: 0, chat: 0}\n",
    )

    def timed(request):
        began = time.monotonic()
        stream = Stream(perigee.port, request=request).finish(8)
        return stream, time.monotonic() - began

    def head():
        stream, took = timed(get("/docs?head"))
        expect("head", (stream.status, 0.3 < took < 1.5), (504, True))

    def head_stream():
        stream, took = timed(chat(path="/v1/chat?head"))
        expect("head of a stream", (stream.status, 0.5 < took < 1.7), (504, True))

    def first_event():
        stream, took = timed(chat(path="/v1/chat?first"))
        expect("first event", (stream.status, stream.whole, 0.7 < took < 1.9), (200, False, True))

    def silence():
        stream, took = timed(chat(path="/v1/chat?silence"))
        expect("silence", (stream.status, stream.whole, 0.9 < took < 2.1), (200, False, True))

    run_all(
        [
            lambda: rig.row("head", head),
            lambda: rig.row("head of a stream", head_stream),
            lambda: rig.row("first event", first_event),
            lambda: rig.row("silence", silence),
        ]
    )
    until("reasons", lambda: [line["reason"] for line in perigee.lines()] == ["upstream_timeout"] * 4, 5)
    until("closed towards the worker with FIN", lambda: [c.ended for c in worker.clients()].count("fin") >= 3)


@scenario(weight=3)
def a_worker_that_does_not_accept(rig):
    """A connect that hangs is bounded, and another worker is tried, for that was surely not sent."""
    import socket

    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    deaf.listen(0)
    fill = [socket.socket() for _ in range(3)]
    for s in fill:
        s.setblocking(False)
        s.connect_ex(deaf.getsockname())
    port = deaf.getsockname()[1]
    good = rig.worker(name="good")
    perigee = rig.perigee(
        [good, f"{{url: 'http://127.0.0.1:{port}', name: deaf}}"], "clocks: {connect: 300ms}\n"
    )
    expect("served by the other", perigee.ask(chat(stream=False)).status, 200)
    expect("never up", perigee.backend("deaf")["up"], False)
    for s in [*fill, deaf]:
        s.close()


@scenario(limit=60, weight=9, alone=True)
def one_of_three_is_killed_under_load(rig):
    """kill -9: whatever had not reached it is served elsewhere, the rest of the fleet's work finishes,
    nobody waits for it."""
    sims = rig.sims(3)
    perigee = rig.perigee(sims, slots(20))
    stop = threading.Event()
    failed, served = [], [0]
    lock = threading.Lock()

    def client(number):
        while not stop.is_set():
            stream = Stream(perigee.port, "[[n=8 gap=40]]", f"s{number}").finish()
            with lock:
                if stream.done:
                    served[0] += 1
                else:
                    failed.append(stream)

    def reader(number):
        while not stop.is_set():
            answer = perigee.ask(get("/v1/autocomplete?q=how", f"X-API-Key: {KEY}"))
            with lock:
                if answer.status == 200:
                    served[0] += 1
                else:
                    failed.append(answer)
            time.sleep(0.02)

    threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(18)]
    threads += [threading.Thread(target=reader, args=(i,), daemon=True) for i in range(4)]
    for thread in threads:
        thread.start()
    until("load on all three", lambda: all(s.counts()["chats_now"] >= 3 for s in sims), 10)
    until("streams in the middle on the victim", lambda: perigee.backend("w2")["streams"] >= 2, 10)
    os.kill(sims[1].pid, signal.SIGKILL)
    until("it is out", lambda: not perigee.backend("w2")["up"], 5)
    at_death = perigee.backend("w2")["grants"]
    time.sleep(2)
    expect("nothing is sent to it any more", perigee.backend("w2")["grants"], at_death)
    stop.set()
    for thread in threads:
        thread.join(15)
    # Streams that it was serving are cut, and look it; of all others none failed.
    begun = [f for f in failed if isinstance(f, Stream) and f.status == 200]
    others = [f for f in failed if f not in begun]
    expect(
        "failed before the head",
        [(f.status, getattr(f, "reason", None) or getattr(f, "error", None)) for f in others],
        lambda bad: all(status == 502 for status, _ in bad) and len(bad) <= 6,
    )
    until("log", lambda: len(perigee.lines(status=502)) == len(others))
    expect(
        "failed although it had never reached the worker",
        [l for l in perigee.lines(status=502) if "connect_ms" not in l],
        [],
    )
    expect("cut streams", len(begun), lambda n: 1 <= n <= 12)
    expect("none of them looks whole", [f.whole for f in begun], lambda w: not any(w))
    expect("served", served[0], lambda n: n > 60)


@scenario(weight=5)
def all_workers_down_and_back(rig):
    ports = [free_port(), free_port()]
    sims = [rig.sim("--port", port) for port in ports]
    perigee = rig.perigee(sims, "probe: {interval: 200ms, down_interval: 200ms, rise: 1}\n")
    expect("served", perigee.ask(get("/docs")).status, 200)
    for sim in sims:
        sim.kill()
    until("not ready", lambda: perigee.admin("/readyz").status == 503)
    for data, shape in (
        (chat(), "detail"),
        (chat(path="/v1/chat/completions"), "error"),
        (get("/health"), "detail"),
    ):
        began = time.monotonic()
        answer = perigee.ask(data)
        expect("refused", (answer.status, answer.reason, shape in answer.json()), (503, "no_backend", True))
        expect("retry-after", int(answer.fields["retry-after"]), lambda s: s >= 1)
        expect("at once", time.monotonic() - began, lambda s: s < 0.5)
    rig.sim("--port", ports[0])
    until("ready without a restart", lambda: perigee.admin("/readyz").status == 200, 8)
    expect("served again", Stream(perigee.port, "[[n=2 gap=5]]", "s").finish().done)


@scenario(weight=3)
def arrivals_wait_for_the_first_probe(rig):
    """While a worker is still unprobed nobody is refused."""
    port = free_port()
    perigee = rig.perigee([f"http://127.0.0.1:{port}"], wait="alive")
    refused = perigee.ask(get("/docs"))
    expect(
        "a refused connection is an answer: it is down", (refused.status, refused.reason), (503, "no_backend")
    )
    held = rig.worker(probes=threading.Event())
    second = rig.perigee([held], wait="alive")
    results = []
    waiting = threading.Thread(target=lambda: results.append(second.ask(get("/docs"))), daemon=True)
    waiting.start()
    until("it waits", lambda: second.page("status")["waiting"] == 1)
    held.probes.set()
    waiting.join(8)
    expect("served after the first answer", [r.status for r in results], [200])


@scenario(weight=4)
def not_ready_at_200_takes_a_worker_out(rig):
    sims = rig.sims(2)
    perigee = rig.perigee(
        sims,
        "probe: {interval: 100ms, down_interval: 100ms, fall: 2, rise: 2}\npace: {start: 0, recovered: 0}\n",
    )
    until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
    sims[0].set(ready="false")
    until("out", lambda: not perigee.backend("w1")["up"])
    before = sims[0].stats()["counts"]["chats_started"]
    for number in range(10):
        expect("served", Stream(perigee.port, "[[n=1]]", f"s{number}").finish().done)
    expect("none by it", sims[0].counts()["chats_started"], before)
    sims[0].set(ready="true")
    until("in again", lambda: perigee.backend("w1")["up"])
    streams = [Stream(perigee.port, "[[n=10 gap=30]]", f"t{i}") for i in range(10)]
    for stream in streams:
        expect("served", stream.finish().done)
    expect("some by it", sims[0].counts()["chats_started"], lambda n: n > before)
    log = perigee.log()
    expect("the log tells it", "w1" in log and "health" in log)


@scenario(limit=60, weight=9)
def a_slow_health_check_is_no_death(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], "probe: {interval: 200ms, fall: 1}\n" + slots(20))
    expect("served", perigee.ask(get("/docs")).status, 200)
    stream = Stream(perigee.port, "[[n=100 gap=50]]", "s")
    expect("token", stream.first_token.wait(5))
    sim.control("POST", "/stall", {"ms": 4000})
    began = time.monotonic()
    while time.monotonic() - began < 3:
        expect("still up", perigee.backend("w")["up"])
        time.sleep(0.2)
    expect("served after it", perigee.ask(get("/docs")).status, 200)
    expect("and the stream goes on to its end", stream.finish().done)


@scenario(weight=4)
def silence_of_probes_stops_new_tickets_only(rig):
    answered = threading.Event()

    def script(connection, request):
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            + scripted.chunk(scripted.event('{"response": "a"}'))
        )
        answered.wait(15)
        connection.send(scripted.chunk(scripted.event('{"done": true}')) + b"0\r\n\r\n")

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], "probe: {interval: 100ms, silent: 1s}\nqueue_wait: {other: 300ms}\n")
    stream = Stream(perigee.port, "x", "s")
    expect("token", stream.first_token.wait(5))
    worker.probes = False
    until("no new tickets", lambda: not perigee.backend("w")["up"], 6)
    answer = perigee.ask(get("/docs"))
    expect(
        "told so",
        (answer.status, answer.reason),
        lambda a: a[0] == 503 and a[1] in ("no_backend", "queue_timeout"),
    )
    answered.set()
    expect("what runs goes on", stream.finish().done)
    worker.probes = True
    until("back", lambda: perigee.backend("w")["up"], 8)


@scenario(weight=4)
def a_circuit_breaker_opens_and_closes(rig):
    failing = threading.Event()
    failing.set()

    def script(connection, request):
        if failing.is_set():
            connection.reset()
            return "end"
        connection.send(scripted.whole(b"good"))
        return None

    bad, good = rig.worker(script, name="bad"), rig.worker(name="good")
    perigee = rig.perigee(
        [bad, good],
        slots(50) + "breaker: {consecutive: 3, open: 700ms, jitter: 0, trials: 1}\n"
        "balancing: {picker: round_robin}\n",
    )
    until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
    statuses = [perigee.ask(chat(stream=False)).status for _ in range(12)]
    expect("three failures, then none", (statuses.count(502), statuses.count(200)), (3, 9))
    expect("open", perigee.backend("bad")["breaker"]["state"], "open")
    failing.clear()
    until(
        "closed again after a trial",
        lambda: perigee.ask(chat(stream=False)) and perigee.backend("bad")["breaker"]["state"] == "closed",
        5,
    )
    expect("it serves again", {perigee.ask(chat(stream=False)).body for _ in range(8)}, {b"good", b"ok"})


@scenario(weight=2)
def a_worker_that_fails_every_second_time_is_left_out(rig):
    """Never two failures in a row: only the share of a window finds it. Its resets come on kept connections that
    were in use a moment ago, which is no keep-alive race."""
    answered = itertools.count()

    def script(connection, request):
        if next(answered) % 2:
            connection.reset()
            return "end"
        connection.send(scripted.whole(b"bad"))
        return None

    def rounds(breaker):
        bad, good = rig.worker(script, name="bad"), rig.worker(name="good")
        perigee = rig.perigee(
            [bad, good],
            slots(50) + breaker + "balancing: {picker: round_robin}\nretries: {other: 0}\n",
        )
        until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
        statuses = [perigee.ask(get("/docs")).status for _ in range(80)]
        return statuses.count(200), perigee.backend("bad")["breaker"]

    served, breaker = rounds("breaker: {ratio: 0}\n")
    expect("without a window it gets its half", (served, breaker["state"]), (60, "closed"))
    served, breaker = rounds("breaker: {ratio_minimum: 10, open: 30s}\n")
    expect("with one it is found", (breaker["state"], breaker["opened"]), ("open", 1))
    expect("after its tenth answer", 80 - served, 5)


@scenario(weight=2)
def what_may_be_sent_again(rig):
    """GET goes to another worker after a reset; a whole chat does not; a streamed chat does until its head
    came."""

    def script(connection, request):
        connection.reset()
        return "end"

    def table():
        return [
            ("GET", get("/docs"), 200, 2),
            ("DELETE", get("/api/files/x", method="DELETE"), 200, 2),
            ("a file query", post("/api/files/x/query", {}), 200, 2),
            ("a streamed chat", chat(), 200, 2),
            ("a whole chat", chat(stream=False), 502, 1),
            ("an upload", post("/api/files/upload", b"x"), 502, 1),
            ("feedback", post("/api/feedback", {}), 502, 1),
        ]

    for title, data, status, attempts in table():
        bad, good = rig.worker(script, name="bad"), rig.worker(name="good")
        perigee = rig.perigee([bad, good], slots(50) + "retries: {budget: 100%}\nbalancing: {affinity: none}\n")
        until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))

        def one():
            # Whichever is asked first: ask until the bad one was.
            for _ in range(12):
                before = len(bad.requests), len(good.requests)
                answer = perigee.ask(data)
                if len(bad.requests) > before[0]:
                    tried = len(bad.requests) + len(good.requests) - sum(before)
                    expect("status and attempts", (answer.status, tried), (status, attempts))
                    return
            raise AssertionError("the bad worker was never asked")

        rig.row(title, one)


@scenario(weight=2)
def answered_before_the_request_ended(rig):
    """The client gets the answer; that connection to the worker is never used again."""

    def script(connection, request):
        if request.target == "/docs":
            connection.send(scripted.whole(b"docs"))
            return None
        connection.send(scripted.whole(b"too much", 413))
        connection.drain()
        return "end"

    worker = rig.worker(script, name="w", read_bodies=False)
    perigee = rig.perigee([worker])
    with perigee.wire() as wire:
        wire.send(
            b"POST /api/files/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 200_000
        )
        answer = wire.next_answer()
        expect("the worker's answer", (answer.status, answer.body), (413, b"too much"))
        expect("closed, for the rest of the body is not wanted", wire.ended(4), "fin")
    until("ended towards the worker", lambda: worker.clients()[0].ended is not None, 6)
    expect("others", perigee.ask(get("/docs")).body, b"docs")
    expect("on another connection", len(worker.clients()), 2)


@scenario(weight=2)
def a_fault_late_in_a_body(rig):
    """Beyond its first 64 KiB the worker may be reading already: its request is left unfinished, the
    client gets 400."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])
    with perigee.wire() as wire:
        wire.send(
            b"POST /api/files/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(scripted.chunk(b"x" * 10000) for _ in range(20))
        )
        until("the worker reads", lambda: worker.requests)
        wire.send(b"zz\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = wire.next_answer()
        expect("400 and close", (answer.status, wire.ended(4)), (400, "fin"))
    until("ended towards the worker", lambda: worker.clients()[0].ended is not None, 6)
    expect("unfinished", worker.traffic()[0].endswith(b"0\r\n\r\n"), False)
    expect("nothing smuggled", b"smuggled" in b"".join(worker.traffic()), False)
    expect("others", perigee.ask(get("/docs")).status, 200)
    expect("on another connection", len(worker.clients()), 2)


@scenario(weight=2)
def an_upload_that_stops_in_the_middle(rig):
    """The client leaves in the middle of its body: the worker must not take it for whole."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])
    for rst in (False, True):
        wire = Wire(perigee.port)
        wire.send(
            b"POST /api/files/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(scripted.chunk(b"x" * 10000) for _ in range(20))
        )
        until("the worker reads", lambda: len(worker.requests) == 1 + rst)
        if rst:
            wire.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
        wire.socket.close()
        until("ended towards the worker", lambda: worker.clients()[int(rst)].ended == "fin", 3)
    expect("none looks whole", [t.endswith(b"0\r\n\r\n") for t in worker.traffic()], [False, False])
    until("slots are free", lambda: perigee.backend("w")["in_flight"] == 0, 2)


@scenario(weight=2)
def a_worker_that_is_not_orbit(rig):
    """Any answer to the probe is good; classes are `other`; nothing is paced."""
    worker = rig.worker(name="w", orbit=False)
    perigee = rig.perigee([worker])
    until("its kind is found", lambda: perigee.backend("w")["kind"] == "http")
    for number in range(40):
        expect("status", perigee.ask(get(f"/anything/{number}")).status, 200)
    expect("%2F is refused in front of it", perigee.ask(get("/a%2Fb")).status, 400)
    expect("class", perigee.line(path="/anything/1")["class"], "other")


@scenario(weight=2)
def a_worker_that_only_accepts(rig):
    """`probe: {kind: tcp}`: for workers that answer no GET of a stranger; they are up while they accept."""
    worker = rig.worker(probes=False, name="w")
    perigee = rig.perigee(
        [f"{{url: 'http://127.0.0.1:{worker.port}', name: w, kind: http}}"],
        "probe: {kind: tcp, interval: 100ms, down_interval: 100ms, rise: 1}\n",
    )
    expect("served", perigee.ask(get("/docs")).status, 200)
    worker.stop_listening()
    until("down when it does not", lambda: not perigee.backend("w")["up"])


@scenario(weight=2)
def a_connection_closed_after_each_answer(rig):
    """A kept connection that the worker closes at once is noticed before it is used."""

    def script(connection, request):
        connection.send(scripted.whole(b"one"))
        connection.fin()
        return "end"

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], NEVER_OPEN)
    with perigee.wire() as wire:
        for number in range(20):
            answer = wire.ask(get("/docs"))
            expect("status", Answer(answer.raw).status, 200)
            time.sleep(0.01)
