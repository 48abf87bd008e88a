"""Slow clients and slow workers: bounded in time and in memory."""

import threading
import time

import scripted
from clients import Stream
from harness import Wire, chat, expect, get, scenario, slots, until


@scenario(weight=3)
def a_slow_head(rig):
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], "client: {head: 600ms, keep_alive: 900ms}\n")

    def timed(*pieces, pause=0.1):
        with perigee.wire() as wire:
            began = time.monotonic()
            try:
                for piece in pieces:
                    wire.send(piece)
                    time.sleep(pause)
            except OSError:
                pass
            try:
                answer = wire.next_answer()
            except (EOFError, ConnectionResetError):
                answer = None
            return answer, time.monotonic() - began

    def half():
        answer, took = timed(b"GET /docs HTTP/1.1\r\nHost: a\r\n")
        expect("half a head", (answer.status, answer.reason), (408, "request_timeout"))
        expect("after the clock", took, lambda s: 0.5 < s < 1.6)

    def trickle():
        answer, took = timed(*[b"GET /docs HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 20], pause=0.08)
        expect(
            "a trickle is no excuse", (answer is None or answer.status == 408, 0.5 < took < 2.5), (True, True)
        )

    def nothing():
        answer, took = timed()
        expect("a connection that says nothing ends", took, lambda s: 0.5 < s < 1.6)
        expect("with 408 or in silence", answer is None or answer.status == 408)

    def idle():
        with perigee.wire() as wire:
            expect("first", wire.ask(get("/docs")).status, 200)
            began = time.monotonic()
            expect("idle connections end in silence", wire.ended(4), "fin")
            expect("after keep_alive", time.monotonic() - began, lambda s: 0.7 < s < 2)

    for title, function in (
        ("half a head", half),
        ("a trickle", trickle),
        ("nothing", nothing),
        ("idle", idle),
    ):
        rig.row(title, function)
    expect("nothing of it reached the worker", {r.target for r in worker.requests}, {"/docs"})


@scenario(weight=4)
def a_slow_body(rig):
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], "client: {body_grace: 700ms, body_rate: 1KiB}\n")

    def stops(size, sent):
        with perigee.wire() as wire:
            wire.send(
                f"POST /api/files/upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
                + b"x" * sent
            )
            began = time.monotonic()
            answer = wire.next_answer()
            expect("408", (answer.status, answer.reason), (408, "request_timeout"))
            expect("closed", wire.ended(4), lambda e: e in ("fin", "rst"))
            return time.monotonic() - began

    rig.row("small body", lambda: expect("took", stops(1000, 500), lambda s: 0.5 < s < 2.0))
    rig.row(
        "large body, half of it with the worker",
        lambda: expect("took", stops(400_000, 1000), lambda s: 0.5 < s < 3.0),
    )

    def slow_enough():
        body = b"x" * 3000
        with perigee.wire() as wire:
            wire.send(b"POST /api/files/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n")
            for i in range(0, 3000, 250):
                wire.send(body[i : i + 250])
                time.sleep(0.1)
            expect("fast enough", wire.next_answer().status, 200)

    rig.row("a body above the least rate", slow_enough)
    expect("the worker got the whole one only", [len(r.body) for r in worker.requests if r.body], [3000])


@scenario(limit=60, weight=7, alone=True)
def a_client_that_does_not_read(rig):
    """40 MB towards each of four clients that read nothing: memory stays flat, and they end by their
    clock. The worker
    would finish anyway, so what it still sends is read and thrown away."""
    sent = [0]
    size = 40_000_000

    def script(connection, request):
        if request.target != "/static/big":
            connection.send(scripted.whole(b"small"))
            return None
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * 100_000
        for _ in range(size // len(piece)):
            if not connection.send(piece):
                return "end"
            sent[0] += len(piece)
        return None

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], slots(20) + "client: {stalled: 2s}\n")
    for _ in range(20):
        perigee.ask(get("/docs"))
    before = perigee.resident_kib()
    wires = [Wire(perigee.port, timeout=20.0) for _ in range(4)]
    for wire in wires:
        wire.send(get("/static/big"))
    time.sleep(1.2)
    expect("resident memory grew by KiB", perigee.resident_kib() - before, lambda kib: kib < 6000)
    expect("the worker is held back", sent[0], lambda n: n < 100_000_000)
    expect("others", perigee.ask(get("/docs")).body, b"small")
    lines = until("log", lambda: len(l := perigee.lines(path="/static/big")) == 4 and l, 8)
    expect(
        "ended by the clock",
        {(line["reason"], line.get("detached")) for line in lines},
        {("request_timeout", True)},
    )
    expect("resident memory still", perigee.resident_kib() - before, lambda kib: kib < 6000)
    until("the worker has finished", lambda: perigee.backend("w")["in_flight"] == 0, 10)
    expect("all of it", sent[0], 4 * size)
    for wire in wires:
        wire.socket.close()


@scenario(weight=4)
def a_slow_reader_gets_every_byte(rig):
    body = bytes(i * 7 % 251 for i in range(3_000_000))

    def script(connection, request):
        connection.send(scripted.whole(body))

    perigee = rig.perigee([rig.worker(script)], "client: {stalled: 1s}\n")
    with perigee.wire(timeout=20.0) as wire:
        wire.socket.setsockopt(1, 8, 65536)
        wire.send(get("/static/x"))
        wire.until(b"\r\n\r\n")
        got = b""
        while len(got) < len(body):
            got += wire.take(min(100_000, len(body) - len(got)))
            time.sleep(0.05)
        expect("every byte", got == body)


@scenario(weight=4)
def a_worker_that_does_not_read_an_upload(rig):
    """The client is held back, memory stays flat; when the worker reads on, every byte arrives."""
    go = threading.Event()
    got = [0]

    def script(connection, request):
        go.wait(15)
        size = int(request.fields["content-length"])
        while got[0] < size:
            if not connection.buffer and not connection.more():
                return "end"
            got[0] += len(connection.buffer)
            connection.buffer = connection.received = b""
        connection.send(scripted.whole(b"got it"))
        return None

    worker = rig.worker(script, name="w", read_bodies=False)
    perigee = rig.perigee([worker])
    size = 40_000_000
    before = perigee.resident_kib()
    sent = [0]
    answers = []

    def upload():
        with perigee.wire(timeout=20.0) as wire:
            wire.send(
                f"POST /api/files/upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
            )
            piece = b"x" * 100_000
            while sent[0] < size:
                wire.send(piece)
                sent[0] += len(piece)
            answers.append(wire.next_answer())

    uploading = threading.Thread(target=upload, daemon=True)
    uploading.start()
    time.sleep(1.0)
    expect("resident memory grew by KiB", perigee.resident_kib() - before, lambda kib: kib < 6000)
    expect("the client is held back", sent[0], lambda n: n < size)
    go.set()
    uploading.join(15)
    expect("answer", [(a.status, a.body) for a in answers], [(200, b"got it")])
    expect("every byte", got[0], size)


@scenario(weight=5)
def two_hundred_half_open_connections(rig):
    """They hold no slot, and everybody else is served as before."""
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(2))
    wires = [Wire(perigee.port) for _ in range(200)]
    for number, wire in enumerate(wires):
        if number % 2:
            wire.send(chat("x")[: 30 + number % 90])
    began = time.monotonic()
    expect("served", Stream(perigee.port, "[[n=2 gap=10]]", "s").finish().done)
    expect("quickly", time.monotonic() - began, lambda s: s < 2)
    expect("no slot is taken", perigee.backend("w")["in_flight"], 0)
    for wire in wires:
        wire.socket.close()
    until("they are forgotten", lambda: perigee.page("status")["connections"] <= 1, 5)
