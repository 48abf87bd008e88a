"""Descriptors and connections: bounded, waited for, given back."""

import socket
import time

import scripted
from clients import Stream
from harness import Wire, expect, get, scenario, slots, until


@scenario(limit=60, weight=6)
def descriptors_used_up(rig):
    """With 700 descriptors: accepting pauses, nobody is cut, and it goes on afterwards."""
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(40) + "client: {head: 60s}\n", limit_descriptors=700)
    stream = Stream(perigee.port, "[[n=150 gap=40]]", "s")
    expect("token", stream.first_token.wait(5))
    wires = [Wire(perigee.port, timeout=20.0) for _ in range(400)]
    time.sleep(0.5)
    expect("accepting has paused", perigee.page("status")["connections"], lambda n: 150 < n < 300)
    expect("descriptors in use", perigee.descriptors(), lambda n: n < 600)
    first, last = wires[0], wires[-1]
    expect("those inside are served", first.ask(get("/health")).status, 200)
    last.send(get("/health"))
    expect("those outside are not cut, they wait", last.silent(0.5))
    expect("the admin port answers", perigee.admin("/readyz").status, 200)
    for wire in wires[:300]:
        wire.socket.close()
    expect("and it goes on", last.next_answer().status, 200)
    expect("nobody was cut", [w.silent(0.001) for w in wires[300:-1]], lambda s: all(s))
    expect("the stream neither", stream.finish().done)
    for wire in wires[300:]:
        wire.socket.close()
    until("all given back", lambda: perigee.descriptors() < 60, 5)


@scenario(limit=60, weight=6)
def no_descriptor_left_for_workers(rig):
    """Every descriptor is used by others: 503 and another try later, never a crash."""
    worker = rig.worker(name="w")
    perigee = rig.perigee(
        [worker], slots(300) + "max_connections: 100000\nupstream: {idle: 0s}\n", limit_descriptors=120
    )
    wires = [Wire(perigee.port, timeout=20.0) for _ in range(110)]
    for wire in wires:
        wire.send(get("/docs"))
    statuses = []
    for wire in wires:
        try:
            wire.socket.settimeout(0.1)
            statuses.append(wire.next_answer().status)
        except (OSError, EOFError):
            statuses.append(None)
    expect("answers", set(statuses), lambda s: s <= {200, 502, 503, None} and 200 in s)
    for wire in wires:
        wire.socket.close()
    until("served again", lambda: quietly(perigee), 10)


def quietly(perigee):
    try:
        return perigee.ask(get("/docs")).status == 200
    except OSError:
        return False


@scenario(weight=3)
def max_connections_is_kept(rig):
    perigee = rig.perigee([rig.worker(name="w")], "max_connections: 5\n")
    inside = [Wire(perigee.port) for _ in range(5)]
    for wire in inside:
        expect("inside", wire.ask(get("/docs")).status, 200)
    outside = Wire(perigee.port)
    outside.send(get("/docs"))
    expect("the sixth waits", outside.silent(0.4))
    inside[2].socket.close()
    expect("until one goes", outside.next_answer().status, 200)


@scenario(weight=7)
def idle_connections_to_workers_are_closed_first(rig):
    """After 4 s, with FIN, before uvicorn's 5 s; the youngest is used first."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])
    with perigee.wire() as wire:
        for _ in range(5):
            expect("status", wire.ask(get("/docs")).status, 200)
    expect("one connection is reused", len(worker.clients()), 1)
    at = worker.requests[-1].at
    until("closed", lambda: worker.clients()[0].ended, 6)
    ended = worker.clients()[0]
    expect("with FIN", ended.ended, "fin")
    expect("after about 4 s", ended.ended_at - at, lambda s: 3.8 < s < 4.6)
    expect("and a new one is made", perigee.ask(get("/docs")).status, 200)
    expect("connections", len(worker.clients()), 2)


@scenario(weight=4)
def what_cannot_be_repeated_takes_no_old_connection(rig):
    """A whole chat uses only a connection that was in use less than a second ago; a GET any."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])

    def used(request, pause):
        time.sleep(pause)
        expect("status", perigee.ask(request).status, 200)
        return worker.requests[-1].connection.number

    chat_request = b"POST /api/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    first = used(get("/docs"), 0)
    expect("a fresh one may be reused", used(chat_request, 0.1), first)
    expect("an older one by a GET", used(get("/docs"), 1.3), first)
    expect("but not by this", used(chat_request, 1.3), lambda n: n != first)


@scenario(weight=2)
def a_kept_connection_that_the_worker_closed(rig):
    """Noticed before it is used: no request is lost, whatever its replay rule."""
    worker = rig.worker(lambda c, r: c.send(scripted.whole()) and None, name="w")
    perigee = rig.perigee([worker])
    for number in range(10):
        expect("status", perigee.ask(get("/docs")).status, 200)
        for connection in worker.clients():
            (connection.fin if number % 2 else connection.reset)()
        time.sleep(0.03)
        expect(
            "an upload",
            perigee.ask(b"POST /api/files/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").status,
            200,
        )
    expect("none was tried twice", len(worker.requests), 20)


@scenario(weight=2)
def half_closed_clients(rig):
    """A client that ends its side counts as gone, as it does in uvicorn; one that does so after a whole
    exchange is simply done."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])
    with perigee.wire() as wire:
        expect("status", wire.ask(get("/docs")).status, 200)
        wire.socket.shutdown(socket.SHUT_WR)
        expect("closed", wire.ended(3), "fin")
    until("forgotten", lambda: perigee.page("status")["connections"] == 0, 3)


@scenario(limit=60, weight=6)
def two_loops(rig):
    """io_threads: 2: connections on both, exact bounds across them, reload and shutdown as with one."""
    sims = rig.sims(2)
    perigee = rig.perigee(sims, "io_threads: 2\n" + slots(4))
    streams = [Stream(perigee.port, "[[n=6 gap=30]]", f"s{i}") for i in range(40)]
    perigee.reload()
    for stream in streams:
        expect("whole", stream.finish().done)
    expect("at once on each", [s.counts()["chats_peak"] for s in sims], lambda n: max(n) <= 4)
    expect("all of them", sum(s.counts()["chats_finished"] for s in sims), 40)
