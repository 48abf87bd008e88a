"""Clients that leave: a stream's worker stops generating, other work is waited for, and nobody else
notices."""

import socket
import struct
import threading
import time

import scripted
from clients import Stream
from harness import Wire, chat, expect, get, post, scenario, slots, until


def leave(wire, rst=False):
    if rst:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


@scenario(weight=4)
def leaving_a_stream_stops_the_worker(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim])
    for number, rst in enumerate([False, True]):
        wire = Wire(perigee.port)
        wire.send(chat("[[n=400 gap=30]]", f"s{number}"))
        wire.head()
        wire.events(4)
        leave(wire, rst)
        until("the worker's provider is stopped", lambda: sim.counts()["chats_aborted"] == number + 1, 1.5)
    until("its slot is free", lambda: perigee.backend("w")["in_flight"] == 0, 1)
    line = until("log", lambda: (l := perigee.lines(path="/v1/chat")) and len(l) == 2 and l)[0]
    expect("log", (line["reason"], line.get("client_gone"), line["status"]), ("client_gone", True, 200))
    expect("the worker is not blamed", perigee.backend("w")["breaker"]["failures"], 0)


@scenario(weight=2)
def leaving_before_the_head_of_a_stream(rig):
    def script(connection, request):
        connection.drain()
        return "end"

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker])
    wire = Wire(perigee.port)
    wire.send(chat())
    until("it has arrived", lambda: worker.requests)
    leave(wire)
    until("closed towards the worker", lambda: worker.clients()[0].ended, 1)
    expect("with FIN, never RST", worker.clients()[0].ended, "fin")
    until("slot free", lambda: perigee.backend("w")["in_flight"] == 0, 1)


@scenario(weight=3)
def leaving_other_work_keeps_its_slot_until_the_worker_is_done(rig):
    gate = threading.Event()

    def script(connection, request):
        if "chat" in request.target:
            gate.wait(15)
        connection.send(scripted.whole(b"done"))

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], slots(1))
    wire = Wire(perigee.port)
    wire.send(chat(stream=False))
    until("it has arrived", lambda: worker.requests)
    leave(wire)
    line = perigee.line(path="/v1/chat")
    expect("log", (line["reason"], line.get("detached")), ("client_gone", True))
    expect("the slot is still taken", perigee.backend("w")["in_flight"], 1)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(perigee.ask(get("/docs"))), daemon=True)
    waiting.start()
    until("the next one waits", lambda: perigee.page("status")["waiting"] == 1)
    expect("the worker's connection is left alone", worker.clients()[0].ended, None)
    gate.set()
    waiting.join(5)
    expect("served when the worker is done", [(a.status, a.body) for a in answers], [(200, b"done")])
    expect("on the same connection, its answer discarded", len(worker.clients()), 1)


@scenario(weight=3)
def a_detached_request_is_bounded(rig):
    def script(connection, request):
        connection.drain()
        return "end"

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], slots(1) + "detached_max: 1s\n")
    wire = Wire(perigee.port)
    wire.send(chat(stream=False))
    until("it has arrived", lambda: worker.requests)
    began = time.monotonic()
    leave(wire)
    until("slot free", lambda: perigee.backend("w")["in_flight"] == 0, 4)
    expect("after detached_max", time.monotonic() - began, lambda s: 0.5 < s < 2.5)
    until("FIN towards the worker", lambda: worker.clients()[0].ended == "fin", 2)


@scenario(weight=3)
def our_own_time_out_keeps_the_slot_too(rig):
    gate = threading.Event()

    def script(connection, request):
        gate.wait(15)
        connection.send(scripted.whole(b"late"))

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], slots(1) + "clocks: {head: 500ms}\n")
    answer = perigee.ask(chat(stream=False))
    expect(
        "504", (answer.status, answer.reason, answer.json()["detail"] != ""), (504, "upstream_timeout", True)
    )
    expect("the slot is still taken", perigee.backend("w")["in_flight"], 1)
    gate.set()
    until("until the worker answers", lambda: perigee.backend("w")["in_flight"] == 0, 2)


@scenario(weight=4)
def many_leave_at_random(rig):
    """Streams, half-read uploads, waiting requests: whatever state they leave in, nothing is lost or
    leaked."""
    sims = rig.sims(2)
    perigee = rig.perigee(sims, slots(6))
    before = perigee.descriptors()
    wires = []
    for number in range(90):
        wire = Wire(perigee.port)
        kind = number % 5
        if kind == 0:
            wire.send(chat("[[n=100 gap=20]]", f"s{number}")[: 60 + number])
        elif kind == 1:
            wire.send(post("/api/files/upload", b"x" * 200_000)[: 70_000 + number * 700])
        else:
            wire.send(chat("[[n=100 gap=20]]", f"s{number}"))
        wires.append(wire)
        if number % 3 == 2:
            leave(wires.pop(number % len(wires)), rst=number % 2 == 0)
    for number, wire in enumerate(wires):
        leave(wire, rst=number % 2 == 0)
    until(
        "all slots are free",
        lambda: all(b["in_flight"] == 0 for b in perigee.page("backends")["backends"]),
        8,
    )
    until("no chat runs in a worker", lambda: all(s.counts()["chats_now"] == 0 for s in sims), 8)
    expect("it works as before", Stream(perigee.port, "[[n=2 gap=5]]", "last").finish().done)
    until("and holds no descriptor", lambda: perigee.descriptors() <= before + 6, 12)
