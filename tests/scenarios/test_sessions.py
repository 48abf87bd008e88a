"""Sessions: one chat turn at a time, names for clients that send none, calls that one worker knows, stops that reach the
provider."""

import importlib.util
import pathlib
import time

from clients import Stream
from harness import Wire, chat, expect, get, post, scenario, until
from support import KEY

CLIENTS = pathlib.Path(__file__).parents[1] / "data/clients"


@scenario(weight=3)
def two_turns_of_a_session_come_one_after_the_other(rig):
    sims = rig.sims(2)
    perigee = rig.perigee(sims, "io_threads: 2\n")
    # Connections are spread over both loops: the turn goes from one to the other.
    streams = [Stream(perigee.port, "[[n=10 gap=20]]", "one") for _ in range(6)]
    for stream in streams:
        expect("served", stream.finish().done)
    spans = sorted((stream.times[0], stream.times[-1]) for stream in streams)
    for (_, ended), (began, _) in zip(spans, spans[1:]):
        expect("begins behind the end of the last", began >= ended - 0.02)
    expect("never two on the workers", [sim.counts()["overlapping_turns"] for sim in sims], [0, 0])
    expect("soft affinity", sorted(sim.counts()["chats_finished"] for sim in sims), [0, 6])
    expect("counted", perigee.metric("perigee_session_turn_waits_total") >= 3)
    began = time.monotonic()
    others = [Stream(perigee.port, "[[n=10 gap=20]]", f"other-{i}") for i in range(6)]
    for stream in others:
        expect("served", stream.finish().done)
    expect("other sessions wait for nobody", time.monotonic() - began < 6 * 0.2 + 2)


@scenario(weight=3)
def a_session_goes_back_to_its_worker_over_a_reload(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims, "pace: {start: 0, recovered: 0}\n")  # which might lead one past its worker

    def served_by(name):
        before = [sim.counts()["chats_finished"] for sim in sims]
        expect("served", Stream(perigee.port, "[[n=1 gap=1]]", name).finish().done)
        after = [sim.counts()["chats_finished"] for sim in sims]
        return [b - a for a, b in zip(before, after)].index(1)

    homes = {name: served_by(name) for name in (f"s{i}" for i in range(8))}
    perigee.write_config(workers=sims[::-1], more=perigee.more + "balancing: {load_bound: 2}\n")
    perigee.reload()
    expect("as before the reload", {name: served_by(name) for name in homes}, homes)
    expect("none moved", perigee.metric("perigee_sessions_moved_total"), 0)
    expect("remembered", perigee.metric("perigee_session_homes"), 8)
    # Its worker has gone: it moves, and stays where it moved to.
    gone = homes["s0"]
    perigee.write_config(workers=[sim for i, sim in enumerate(sims) if i != gone])
    perigee.reload()
    now = served_by("s0")
    expect("another one", now != gone)
    expect("and that one again", [served_by("s0") for _ in range(3)], [now] * 3)
    expect("counted", perigee.metric("perigee_sessions_moved_total"), 1)


@scenario(weight=2)
def who_waits_for_a_turn_and_leaves_or_waits_too_long(rig):
    sim = rig.sim()
    perigee = rig.perigee([sim], "queue_wait: {chat: 1s}\nsessions: {waiting: 1}\n")
    stream = Stream(perigee.port, "[[n=200 gap=50]]", "one")
    stream.id()
    with Wire(perigee.port) as second:
        second.send(chat("[[n=1 gap=1]]", "one"))
        until("it waits", lambda: perigee.metric("perigee_session_turn_waits_total") == 1)
        expect("seen", perigee.page("queues")["session_turns"], {"running": 1, "waiting": 1})
        expect("measured", perigee.metric("perigee_session_turns", state="waiting"), 1)
        third = perigee.ask(chat("x", "one"))
        expect("a line of one is full", (third.status, third.reason), (503, "queue_full"))
        late = second.next_answer()
        expect("too long", (late.status, late.reason), (503, "queue_timeout"))
        expect("why", b"earlier turn" in late.body)
    leaver = Wire(perigee.port)
    leaver.send(chat("x", "one"))
    until("it waits", lambda: perigee.metric("perigee_session_turn_waits_total") == 2)
    leaver.socket.close()
    line = perigee.line(reason="client_gone")
    expect("gone at once", line["total_ms"] < 900)
    expect("the worker saw one", sim.counts()["chats_peak"], 1)


@scenario(weight=3)
def openai_clients_work_unchanged(rig):
    sims = rig.sims(2)
    perigee = rig.perigee(sims, "pace: {start: 0, recovered: 0}\n")  # which might lead one past its worker
    for name in ("openai-python", "openai-node"):
        request = (CLIENTS / f"{name}.http").read_bytes().replace(b"KEYKEY", KEY.encode())
        expect("knows nothing of ORBIT", b"session" in request.lower(), False)
        for _ in range(2):
            with Wire(perigee.port) as wire:
                wire.send(request)
                expect(name, wire.head().status, 200)
                events = [event for _, event in wire.stream()]
                expect("whole", events[-1].strip(), b"data: [DONE]")
    expect("named", perigee.metric("perigee_sessions_supplied_total"), 4)
    expect("one conversation, one worker", sorted(sim.counts()["chats_finished"] for sim in sims), [0, 4])
    if importlib.util.find_spec("openai") is None:
        return  # not installed: the bytes above are what it sends
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{perigee.port}/v1")
    chunks = client.chat.completions.create(
        model="fake-2", messages=[{"role": "user", "content": "Hello [[n=3 gap=5]]"}], stream=True
    )
    expect("the package itself", len([c for c in chunks if c.choices and c.choices[0].delta.content]), 3)


@scenario(weight=2)
def without_supply_orbit_wants_its_session(rig):
    perigee = rig.perigee([rig.sim()], "sessions: {supply: false}\n")
    request = (CLIENTS / "openai-python.http").read_bytes().replace(b"KEYKEY", KEY.encode())
    expect("ORBIT's own answer", perigee.ask(request).status, 400)


@scenario(weight=3)
def mcp_sessions_jobs_and_tasks_stay_with_their_worker(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims)
    accept = "Accept: application/json, text/event-stream"
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}}
    for number in range(6):
        answer = perigee.ask(post("/mcp", hello, accept))
        session = answer.fields["mcp-session-id"]
        for _ in range(3):
            told = perigee.ask(post("/mcp", {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, accept, f"Mcp-Session-Id: {session}"))
            expect(f"mcp {number}", told.status, 200)
        message = {"role": "user", "parts": [{"type": "text", "text": "Hello [[n=1 gap=1]]"}]}
        task = {"jsonrpc": "2.0", "id": 1, "method": "tasks/send", "params": {"id": f"task-{number}", "message": message}}
        expect("a2a", perigee.ask(post("/a2a", task, f"Authorization: Bearer {KEY}")).status, 200)
        wanted = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"id": f"task-{number}"}}
        got = perigee.ask(post("/a2a", wanted, f"Authorization: Bearer {KEY}"))
        expect(f"task {number}", got.json().get("result", {}).get("id"), f"task-{number}")
        job = perigee.ask(post("/admin/reload-adapters/async", b"", f"X-API-Key: {KEY}")).json()["job_id"]
        for _ in range(3):
            expect(f"job {number}", perigee.ask(get(f"/admin/jobs/{job}", f"X-API-Key: {KEY}")).status, 200)
    expect("unknown job", perigee.ask(get("/admin/jobs/nope", f"X-API-Key: {KEY}")).status, 404)
    lost = perigee.ask(post("/mcp", {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, accept, "Mcp-Session-Id: deadbeef"))
    expect("unknown", (lost.status, lost.json()["error"]["code"]), (404, -32600))


@scenario(weight=3)
def a_stop_ends_the_provider_too(rig):
    sims = rig.sims(2)
    perigee = rig.perigee(sims, "io_threads: 2\n")
    streams = [Stream(perigee.port, "[[n=200 gap=50]]", f"s{i}") for i in range(4)]
    for number, stream in enumerate(streams):
        request_id = stream.id()
        expect("token", stream.first_token.wait(5))
        answer = perigee.ask(post("/v1/chat/stop", {"session_id": f"s{number}", "request_id": request_id}, f"X-API-Key: {KEY}"))
        expect("stop", answer.json()["status"], "cancelled")
        stream.finish(3)
        expect("ended in order", (stream.whole, stream.done), (True, False))
    # Left to itself a provider would go on for ten seconds.
    until("no provider generates", lambda: sum(sim.counts()["provider_now"] for sim in sims) == 0, 3)
    expect("counted", perigee.metric("perigee_streams_stopped_total"), 4)
    expect("no slot is held", [perigee.backend(b["name"])["in_flight"] for b in perigee.page("backends")["backends"]], [0, 0])
