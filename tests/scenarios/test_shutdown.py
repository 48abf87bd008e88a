"""The end: ready no more, listeners closed, what runs and waits goes on within a bound, exit 0."""

import signal
import socket
import threading
import time

import scripted
from clients import Stream, WebSocket
from harness import Wire, chat, expect, get, scenario, slots, until


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return False
    except ConnectionRefusedError:
        return True


@scenario(weight=4)
def what_runs_and_waits_is_finished(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(2) + "shutdown_timeout: 20s\n")
    streams = [Stream(perigee.port, "[[n=30 gap=50]]", f"s{i}") for i in range(2)]
    for stream in streams:
        expect("token", stream.first_token.wait(5))
    streams += [Stream(perigee.port, "[[n=30 gap=50]]", f"s{i}") for i in range(2, 4)]
    until("two wait", lambda: perigee.page("status")["waiting"] == 2)
    kept = Wire(perigee.port)
    expect("a kept connection", kept.ask(get("/health")).status, 200)
    busy = Wire(perigee.port)
    busy.send(get("/health"))
    busy.next_answer()
    perigee.signal(signal.SIGTERM)
    until("the listener is closed", lambda: refused(perigee.port), 1)
    expect("not ready", perigee.admin("/readyz").status, 503)
    expect("but alive", perigee.admin("/healthz").status, 200)
    expect("and says so", perigee.page("status")["stopping"])
    busy.send(chat("late", "late"))
    late = busy.next_answer()
    expect(
        "new work on a kept connection",
        (late.status, late.reason, "retry-after" in late.fields, late.fields.get("connection")),
        (503, "draining", True, "close"),
    )
    began = time.monotonic()
    for stream in streams:
        expect("whole", stream.finish(15).done)
    expect("exit", perigee.wait(8), 0)
    expect("soon after the last", time.monotonic() - streams[-1].ended, lambda s: s < 7)
    expect("well within the bound", time.monotonic() - began, lambda s: s < 12)
    expect("log", len(perigee.lines(path="/v1/chat", stream="completed")), 4)
    expect("told", "stopping" in perigee.log() and "stopped" in perigee.log())


@scenario(weight=2)
def nothing_to_do_ends_at_once(rig):
    perigee = rig.perigee([rig.sim()], "shutdown_timeout: 20s\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        expect("served", perigee.ask(get("/health")).status, 200)
        began = time.monotonic()
        perigee.signal(number)
        expect("exit", perigee.wait(5), 0)
        expect("took", time.monotonic() - began, lambda s: s < 1.5)
        perigee = rig.perigee([rig.sim()], "shutdown_timeout: 20s\n")


@scenario(weight=3)
def time_runs_out(rig):
    """Streams are cut without a last chunk, tunnels closed, the status is still 0."""
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(20) + "shutdown_timeout: 1s\n")
    streams = [Stream(perigee.port, "[[n=300 gap=50]]", f"s{i}") for i in range(3)]
    for stream in streams:
        expect("token", stream.first_token.wait(5))
    tunnel = rig.keep(WebSocket(perigee.port, "/ws/metrics", "Cookie: dashboard_token=x"))
    expect("tunnel", tunnel.answer.status, 101)
    began = time.monotonic()
    perigee.signal(signal.SIGTERM)
    expect("exit", perigee.wait(6), 0)
    expect("after shutdown_timeout", time.monotonic() - began, lambda s: 0.9 < s < 4)
    for stream in streams:
        stream.finish(3)
        expect("cut, and looks it", (stream.status, stream.whole, type(stream.error)), (200, False, EOFError))
        expect("after", stream.ended - began, lambda s: s > 0.9)
    expect("log", [line["reason"] for line in perigee.lines(path="/v1/chat")], ["cut"] * 3)
    expect("told", "time is up" in perigee.log())
    until("the worker's providers are stopped", lambda: sim.counts()["chats_now"] == 0, 3)


@scenario(weight=2)
def a_second_signal_ends_at_once(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], "shutdown_timeout: 20s\n")
    stream = Stream(perigee.port, "[[n=300 gap=50]]", "s")
    expect("token", stream.first_token.wait(5))
    perigee.signal(signal.SIGTERM)
    until("it drains", lambda: refused(perigee.port), 1)
    began = time.monotonic()
    perigee.signal(signal.SIGINT)
    perigee.wait(3)
    expect("at once", time.monotonic() - began, lambda s: s < 1)
    stream.finish(3)
    expect("cut", stream.whole, False)


@scenario(weight=3)
def the_delay_before_listeners_close(rig):
    """A balancer in front sees 503 first and sends nothing more; until then all is served."""
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], "shutdown_delay: 1s\nshutdown_timeout: 5s\n")
    began = time.monotonic()
    perigee.signal(signal.SIGTERM)
    until("not ready", lambda: perigee.admin("/readyz").status == 503, 0.8)
    expect("still served", perigee.ask(get("/health")).status, 200)
    expect("exit", perigee.wait(8), 0)
    expect("after the delay", time.monotonic() - began, lambda s: 0.9 < s < 4)


@scenario(weight=3)
def waiters_and_uploads_at_the_end(rig):
    gate = threading.Event()

    def script(connection, request):
        gate.wait(10)
        connection.send(scripted.whole(b"done"))

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], slots(1) + "shutdown_timeout: 10s\n")
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(perigee.ask(chat("x", stream=False)).status), daemon=True
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    until("two wait", lambda: perigee.page("status")["waiting"] == 2)
    upload = Wire(perigee.port)
    upload.send(b"POST /api/files/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    time.sleep(0.2)
    perigee.signal(signal.SIGTERM)
    until("it drains", lambda: refused(perigee.port), 1)
    upload.send(b" and ha")
    gate.set()
    for thread in threads:
        thread.join(5)
    expect("running and waiting ones", results, [200] * 3)
    expect(
        "what was still being sent when the end came", upload.next_answer().status, lambda s: s in (200, 503)
    )
    expect("exit", perigee.wait(8), 0)


@scenario(weight=2)
def starting_and_ending_in_one_breath(rig):
    """A signal while it starts; a restart on the same port at once."""
    worker = rig.worker(name="w")
    for number in range(4):
        perigee = rig.perigee([worker], wait=None)
        time.sleep(0.02 * number)
        perigee.signal(signal.SIGTERM)
        expect("exit", perigee.wait(5), lambda s: s in (0, -15))
    first = rig.perigee([worker])
    expect("served", first.ask(get("/docs")).status, 200)
    first.signal(signal.SIGTERM)
    expect("exit", first.wait(5), 0)
    again = rig.perigee([worker], listen=first.port, admin=first.admin_port)
    expect("served on the same port", again.ask(get("/docs")).status, 200)
