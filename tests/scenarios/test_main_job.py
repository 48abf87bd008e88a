"""The main job: whatever clients ask of ORBIT works through Perigee, on the least loaded of three workers."""

import json
import re
import socket
import time

import scripted
from clients import Stream, WebSocket, run_all
from harness import Answer, Wire, cases, chat, curl, expect, get, http_client, post, scenario, slots, until
from support import KEY, VOICE_KEY

UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|chatcmpl-[0-9a-f]{32}")
VOLATILE = re.compile(
    rb'("(?:created|processing_time|uptime_seconds|timestamp|last_cleanup|usage|prompt_tokens|total_tokens)": ?)[^,}]+'
)


def masked(data):
    return VOLATILE.sub(rb"\1#", UUID.sub(b"#", data))


@scenario(weight=4)
def a_chat_is_streamed_token_by_token(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims)
    direct = Stream(sims[0].port, "[[n=10 gap=100]]", "direct").finish()
    through = Stream(perigee.port, "[[n=10 gap=100]]", "through").finish()
    expect("status", through.status, 200)
    expect("ended with its terminal event", through.done)
    expect("events", [masked(e) for e in through.events], [masked(e) for e in direct.events])
    expect("type", through.fields["content-type"], "text/event-stream; charset=utf-8")
    expect("the worker's own request id passes", through.fields["x-request-id"], through.id())
    expect("first event after", through.times[0] - through.began, lambda s: s < 0.3)
    tokens = through.times[1:11]
    expect(
        "they came one by one",
        [b - a for a, b in zip(tokens, tokens[1:])],
        lambda gaps: sum(g > 0.05 for g in gaps) >= 8,
    )
    line = perigee.line(path="/v1/chat")
    expect("log", (line["stream"], line["reason"], line["status"]), ("completed", "served", 200))
    expect("first event is the first token, not the id", line["first_event_ms"], lambda ms: 25 < ms < 500)


@scenario(weight=2)
def a_stream_arrives_as_the_worker_wrote_it_at_once(rig):
    """Odd bytes in odd pieces; each must arrive before the next is written."""
    pieces = [
        b": a comment\n\n",
        b'data: {"response": "a',
        b'lpha ", "done": false}\n\n',
        b"event: x\r\n",
        b"data: \xff\x00\r\n\r\n",
        b"data: " + b"y" * 70000 + b"\n\n",
        b'data: {"done": true}\n\n',
    ]
    arrived = []

    def script(connection, request):
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number, piece in enumerate(pieces):
            connection.send(scripted.chunk(piece))
            until(
                f"piece {number} arrives while the worker is silent",
                lambda: len(b"".join(arrived)) >= sum(map(len, pieces[: number + 1])),
                2,
            )
        connection.send(b"0\r\n\r\n")

    perigee = rig.perigee([rig.worker(script)])
    with perigee.wire() as wire:
        wire.send(chat())
        expect("status", wire.head().status, 200)
        for _, data in wire.stream():
            arrived.append(data)
        expect("payload", b"".join(arrived), b"".join(pieces))
        expect("the connection lives on", wire.ended(0.2), "open")


@scenario(weight=3)
def every_route_answers_as_the_worker_itself(rig):
    """cases/routes.json: asked directly and through Perigee, the same status, type and body; the class in
    the log."""
    sims = [rig.sim("--state", rig.folder / "state", name=f"w{i}") for i in range(3)]
    perigee = rig.perigee(sims)

    def one(number, case):
        session = f"X-Session-ID: session-{number}-"
        fields = [f"X-API-Key: {case.get('key', KEY)}", *case.get("fields", [])]

        def request(who):
            lines = [*fields, session + who]
            if case["method"] == "POST":
                return post(case["path"], case.get("body", {}), *lines)
            return get(case["path"], *lines, method=case["method"])

        head = case["method"] == "HEAD"
        with sims[0].client() as client:
            client.send(request("a"))
            direct = Answer(client.answer(head))
        with perigee.wire() as wire:
            through = wire.ask(request("b"), head)
        expect("status", through.status, direct.status)
        expect("status as the case says", through.status, case["status"])
        expect("body", masked(through.body).replace(b"-b", b"-a"), masked(direct.body))
        own = {"date", "x-request-id", "content-length", "server"}
        expect(
            "fields",
            {k: v for k, v in through.fields.items() if k not in own},
            {k: v for k, v in direct.fields.items() if k not in own},
        )

    def logged(case):
        line = perigee.line(path=case["path"].partition("?")[0], method=case["method"], status=case["status"])
        expect("class and priority", [line["class"], line["priority"]], case["class"])

    table = cases("routes.json")
    for number, case in enumerate(table):
        rig.row(f"{case['method']} {case['path']}", one, number, case)
    perigee.ask(get("/last"))
    perigee.line(path="/last")
    for case in table:
        rig.row(f"log of {case['method']} {case['path']}", logged, case)


@scenario(weight=3)
def uploads_and_files(rig):
    sims = [rig.sim("--state", rig.folder / "state", name=f"w{i}") for i in range(3)]
    perigee = rig.perigee(sims)
    content = bytes(range(256)) * 4096
    file = rig.folder / "big.txt"
    file.write_bytes(content)
    done = curl(
        "-F",
        f"file=@{file};type=text/plain",
        "-H",
        f"X-API-Key: {KEY}",
        f"http://127.0.0.1:{perigee.port}/api/files/upload",
    )
    uploaded = json.loads(done.stdout)
    expect("curl's upload", (done.returncode, uploaded["file_size"]), (0, len(content)))

    client = http_client(perigee)
    boundary = "xYzZY"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="c.txt"\r\nContent-Type: text/plain\r\n\r\n'.encode(),
        *(content[i : i + 10000] for i in range(0, len(content), 10000)),
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    client.request(
        "POST",
        "/api/files/upload",
        body=iter(parts),
        encode_chunked=True,
        headers={
            "X-API-Key": KEY,
            "Transfer-Encoding": "chunked",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        },
    )
    answer = client.getresponse()
    chunked = json.loads(answer.read())
    expect("a chunked upload", (answer.status, chunked.get("file_size")), (200, len(content)))

    for file_id in (uploaded["file_id"], chunked["file_id"]):
        client.request("GET", f"/api/files/{file_id}/content", headers={"X-API-Key": KEY})
        answer = client.getresponse()
        body = answer.read()
        kept = content[: 64 * 1024]  # what the simulator keeps
        expect("its content", (answer.status, body == kept, len(body)), (200, True, len(kept)))
        client.request(
            "POST",
            f"/api/files/{file_id}/query",
            headers={"X-API-Key": KEY, "Content-Type": "application/json"},
            body=json.dumps({"query_request": {"query": "x", "max_results": 2}}),
        )
        expect("query", (client.getresponse().read() is not None), True)
        client.request("DELETE", f"/api/files/{file_id}", headers={"X-API-Key": KEY})
        answer = client.getresponse()
        answer.read()
        expect("delete", answer.status, 200)
    line = perigee.line(path="/api/files/upload")
    expect("log", (line["class"], line["bytes_in"] > len(content)), ("files", True))


@scenario(weight=2)
def browsers_preflight_and_cross_origin(rig):
    sim = rig.sim()
    perigee = rig.perigee([sim])
    preflight = perigee.ask(
        get(
            "/v1/chat",
            "Origin: https://a.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type,x-api-key",
            method="OPTIONS",
        )
    )
    expect(
        "preflight",
        (preflight.status, preflight.body, preflight.fields["access-control-allow-methods"]),
        (200, b"OK", "GET, POST, PUT, DELETE, OPTIONS, PATCH"),
    )
    bad = perigee.ask(
        get(
            "/v1/chat",
            "Origin: https://a.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: x-nonsense",
            method="OPTIONS",
        )
    )
    expect("a field that is not allowed", (bad.status, bad.body), (400, b"Disallowed CORS headers"))
    plain = perigee.ask(get("/v1/chat", method="OPTIONS"))
    expect("OPTIONS without CORS", plain.status, 404)
    simple = perigee.ask(get("/health", "Origin: https://a.example"))
    expect("a simple request", simple.fields["access-control-allow-origin"], "*")
    expect("it is there once", simple.raw.lower().count(b"access-control-allow-origin"), 1)


@scenario(weight=3)
def completions_in_the_shape_of_openai(rig):
    perigee = rig.perigee(rig.sims(3))
    body = {"messages": [{"role": "user", "content": "[[n=5 gap=20]]"}]}
    fields = (f"Authorization: Bearer {KEY}", "X-Session-ID: c")
    stream = Stream(
        perigee.port, request=post("/v1/chat/completions", {**body, "stream": True}, *fields)
    ).finish()
    expect("stream", (stream.status, stream.whole, stream.events[-1]), (200, True, b"data: [DONE]\n\n"))
    expect("finish reason", json.loads(stream.events[-2][6:])["choices"][0]["finish_reason"], "stop")
    answer = perigee.ask(post("/v1/chat/completions", body, *fields))
    expect("whole", (answer.status, answer.json()["object"]), (200, "chat.completion"))
    lines = until(
        "both in the log",
        lambda: (found := perigee.lines(path="/v1/chat/completions")) and len(found) == 2 and found,
    )
    expect("log", sorted(line.get("stream", "none") for line in lines), ["completed", "none"])


@scenario(weight=4)
def websocket_through_the_tunnel(rig):
    sim = rig.sim(name="w1")
    perigee = rig.perigee([sim], slots(1))
    metrics = rig.keep(WebSocket(perigee.port, "/ws/metrics", "Cookie: dashboard_token=x"))
    expect("upgraded", metrics.answer.status, 101)
    expect("a JSON frame at once", json.loads(metrics.message()), lambda m: "metrics" in m)
    metrics.send(9, b"hello")
    expect("ping answered", metrics.receive(), (10, b"hello"))
    voice = rig.keep(WebSocket(perigee.port, f"/ws/voice?session_id=v&api_key={VOICE_KEY}"))
    expect("the only slot is free again, so a second tunnel is possible", voice.answer.status, 101)
    big = json.dumps({"type": "audio", "data": "x" * 200_000}).encode()
    voice.send(1, big)
    expect("echo of 200 kB", len(voice.message()), lambda n: n > 100_000)
    until("tunnels are counted", lambda: perigee.backend("w1")["tunnels"] == 2)
    expect("and hold no slot", perigee.backend("w1")["in_flight"], 0)
    refused = rig.keep(WebSocket(perigee.port, "/ws/metrics"))
    expect("the worker's refusal passes", refused.answer.status, 403)
    metrics.send(8, b"\x03\xe8")
    opcode = 0
    while opcode != 8:
        opcode, _ = metrics.receive()
    expect("the end passes", metrics.wire.ended(3), "fin")
    metrics.close()
    voice.close()
    until("both are gone", lambda: perigee.backend("w1")["tunnels"] == 0)
    until("the worker sees it", lambda: "orbit_websocket_connections 0.0" in metrics_of(sim))


def metrics_of(sim):
    return sim.ask(get("/metrics"))[2].decode()


@scenario(weight=2)
def tunnels_are_bounded(rig):
    sim = rig.sim(name="w1")
    perigee = rig.perigee([sim], "limits: {tunnels: 2}\n")
    held = [rig.keep(WebSocket(perigee.port, "/ws/metrics", "Cookie: dashboard_token=x")) for _ in range(2)]
    expect("two", [w.answer.status for w in held], [101, 101])
    third = rig.keep(WebSocket(perigee.port, "/ws/metrics", "Cookie: dashboard_token=x"))
    expect("a third", (third.answer.status, third.answer.reason), (503, "queue_full"))
    held[0].close()
    until("one is free", lambda: perigee.backend("w1")["tunnels"] == 1)
    again = rig.keep(WebSocket(perigee.port, "/ws/metrics", "Cookie: dashboard_token=x"))
    expect("again", again.answer.status, 101)
    expect(
        "the worker's side of all is closed",
        until("sockets", lambda: "orbit_websocket_connections 2.0" in metrics_of(sim)),
    )


@scenario(weight=1)
def tunnel_bytes_that_come_early(rig):
    """Bytes behind the request's head are raw only after a 101; with any other answer they are a fault."""

    def script(connection, request):
        if "yes" in request.target:
            connection.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: x\r\n\r\nfrom the worker"
            )
            connection.drain()
            return "end"
        connection.send(scripted.whole(b"no tunnel"))
        return None

    worker = rig.worker(script)
    perigee = rig.perigee([worker])
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    with perigee.wire() as wire:
        wire.send(get("/ws/yes", *upgrade) + b"early")
        expect("101", wire.head().status, 101)
        expect("the worker's first bytes", wire.take(15), b"from the worker")
        wire.send(b" and late")
        until(
            "both reach the worker, in order",
            lambda: worker.traffic() and worker.traffic()[0].endswith(b"\r\n\r\nearly and late"),
        )
        wire.socket.shutdown(socket.SHUT_WR)
        until("the end reaches the worker", lambda: worker.clients()[0].ended == "fin")
    with perigee.wire() as wire:
        wire.send(get("/ws/no", *upgrade) + b"GET /ws/smuggled HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n")
        answer = wire.next_answer()
        expect("no tunnel", (answer.body, answer.fields.get("connection")), (b"no tunnel", "close"))
        expect("and nothing of what follows", wire.ended(3), lambda e: e in ("fin", "rst"))
    expect("nothing of it arrived", b"smuggled" in b"".join(worker.traffic()), False)


@scenario(weight=5)
def stop_reaches_the_right_worker_of_three(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims)
    streams = [Stream(perigee.port, "[[n=200 gap=50]]", f"s{i}") for i in range(6)]
    ids = [stream.id() for stream in streams]
    for stream in streams:
        expect("token", stream.first_token.wait(5))
    expect(
        "they are on several workers",
        [sim.counts()["chats_now"] for sim in sims],
        lambda n: sorted(n)[0] >= 1,
    )
    for number, (stream, request_id) in enumerate(zip(streams, ids)):
        answer = perigee.ask(
            post("/v1/chat/stop", {"session_id": f"s{number}", "request_id": request_id}, f"X-API-Key: {KEY}")
        )
        expect(f"stop {number}", (answer.status, answer.json()["status"]), (200, "cancelled"))
    for stream in streams:
        stream.finish(3)
        expect(
            "ended in order, before its time",
            (stream.whole, stream.done, len(stream.events) < 150),
            (True, False, True),
        )
    unknown = perigee.ask(
        post("/v1/chat/stop", {"session_id": "s0", "request_id": "nobody"}, f"X-API-Key: {KEY}")
    )
    expect("unknown id", (unknown.status, unknown.json()["status"]), (200, "not_found"))
    bad = perigee.ask(post("/v1/chat/stop", {"session_id": "s0"}, f"X-API-Key: {KEY}"))
    expect("a wrong body gets the worker's answer", bad.status, 422)
    lines = until(
        "all in the log", lambda: (found := perigee.lines(path="/v1/chat")) and len(found) == 6 and found
    )
    expect(
        "log says stopped, not failed",
        [(line["stream"], line["reason"]) for line in lines],
        [("stopped", "served")] * 6,
    )


@scenario(weight=4)
def thirty_chats_are_spread_evenly(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims, "balancing: {affinity: none}\n")
    streams = [Stream(perigee.port, "[[n=20 gap=50]]", f"s{i}") for i in range(30)]
    for stream in streams:
        expect("whole", stream.finish().done)
    expect(
        "chats of each",
        [sim.counts()["chats_finished"] for sim in sims],
        lambda n: sum(n) == 30 and min(n) >= 7,
    )
    expect("at once on each", [sim.counts()["chats_peak"] for sim in sims], lambda n: min(n) >= 5)


@scenario(weight=2)
def round_robin_and_least_outstanding(rig):
    for picker in ("round_robin", "least_outstanding"):
        workers = [rig.worker(name=f"{picker[:2]}{i}") for i in range(3)]
        perigee = rig.perigee(workers, f"balancing: {{picker: {picker}}}\npace: {{start: 0, recovered: 0}}\n")
        until("all are up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
        for _ in range(30):
            expect("status", perigee.ask(get("/docs")).status, 200)
        expect(
            picker,
            [len(w.requests) for w in workers],
            (lambda n: n == [10, 10, 10]) if picker == "round_robin" else (lambda n: sum(n) == 30),
        )


@scenario(weight=2)
def keep_alive_pipelining_and_old_clients(rig):
    sim = rig.sim()
    perigee = rig.perigee([sim])
    with perigee.wire() as wire:
        for number in range(20):
            expect(f"answer {number}", wire.ask(get("/health")).body, b'{"status":"ok"}')
        bodies = [f"/v1/autocomplete?q=how{i}" for i in range(5)]
        wire.send(
            get("/health")
            + get("/nowhere")
            + get("/health/")
            + b"".join(get(b, f"X-API-Key: {KEY}") for b in bodies)
        )
        expect(
            "pipelined answers in order",
            [wire.next_answer().status for _ in range(8)],
            [200, 404, 200] + [200] * 5,
        )
    requests = until(
        "the worker saw them",
        lambda: len((r := sim.control("GET", "/requests?path=/v1/autocomplete"))["requests"]) == 5 and r,
    )
    expect("in order", [r["target"] for r in requests["requests"]], bodies)
    old = perigee.ask(b"GET /health HTTP/1.0\r\n\r\n")
    expect(
        "HTTP/1.0", (old.status, old.fields.get("connection"), old.body), (200, "close", b'{"status":"ok"}')
    )
    with perigee.wire() as wire:
        kept = wire.ask(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        expect("HTTP/1.0 that stays", kept.fields.get("connection"), "keep-alive")
        expect("again", wire.ask(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").status, 200)
    with perigee.wire() as wire:
        wire.send(chat("[[n=3 gap=10]]").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        stream = wire.rest()
        expect(
            "a stream to HTTP/1.0 ends by closing",
            (b"chunked" in stream.lower(), stream.endswith(b"\n\n"), b'"done": true' in stream),
            (False, True, True),
        )
    with perigee.wire() as wire:
        expect("close is obeyed", wire.ask(get("/health", "Connection: close")).fields["connection"], "close")
        expect("and done", wire.ended(), "fin")


@scenario(weight=3)
def expect_100_continue(rig):
    sim = rig.sim()
    perigee = rig.perigee(
        [sim], "queue: {entries: 1, priority_entries: 0}\nprobe: {down_interval: 100ms, fall: 1, rise: 1}\n"
    )
    file = rig.folder / "body.txt"
    file.write_bytes(b"x" * 300_000)
    done = curl(
        "-v",
        "-F",
        f"file=@{file};type=text/plain",
        "-H",
        "Expect: 100-continue",
        "-H",
        f"X-API-Key: {KEY}",
        "-w",
        "%{http_code}",
        f"http://127.0.0.1:{perigee.port}/api/files/upload",
    )
    expect(
        "curl", (done.returncode, done.stdout[-3:], "HTTP/1.1 100 Continue" in done.stderr), (0, "200", True)
    )
    with perigee.wire() as wire:
        body = chat("[[n=2 gap=5]]")
        head, _, content = body.partition(b"\r\n\r\n")
        wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
        expect("leave", wire.until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.send(content)
        expect("answer", wire.head().status, 200)
    raw = sim.control("GET", "/requests?path=/v1/chat")["requests"][-1]["raw_head"]
    expect("Expect is not forwarded", "expect" in raw.lower(), False)
    sim.kill()
    until("down", lambda: perigee.admin("/readyz").status == 503)
    with perigee.wire() as wire:
        wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
        answer = Answer(wire.answer())
        expect(
            "nobody could take it: told before the body", (answer.status, answer.reason), (503, "no_backend")
        )
        expect("closed", wire.ended(), "fin")


@scenario(weight=1)
def interim_answers(rig):
    def script(connection, request):
        connection.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n" + scripted.whole(b"end")
        )

    perigee = rig.perigee([rig.worker(script)])
    with perigee.wire() as wire:
        wire.send(get("/docs"))
        heads = [Answer(wire.answer()) for _ in range(3)]
        expect(
            "103 passes, 100 does not",
            [(h.status, h.fields.get("link")) for h in heads],
            [(103, "</a>"), (103, "</b>"), (200, None)],
        )
    with Wire(perigee.port) as wire:
        wire.send(b"GET /docs HTTP/1.0\r\n\r\n")
        expect("none for HTTP/1.0", Answer(wire.answer()).status, 200)


@scenario(weight=3)
def nothing_strays_into_a_neighbour_s_stream(rig):
    """Interim heads, tunnels, refusals and errors on other connections while streams run: each stream
    stays its own."""

    def script(connection, request):
        if request.target == "/ws/metrics":
            connection.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: x\r\n\r\n"
            )
            return "end"
        if request.target == "/docs":
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </stray>\r\n\r\n")
            time.sleep(0.02)
            connection.send(scripted.whole(b"stray"))
            return None
        if request.target == "/redoc":
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </stray>\r\n\r\n")
            time.sleep(0.02)
            connection.reset()
            return "end"
        number = request.fields["x-session-id"]
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for token in range(150):
            connection.send(
                scripted.chunk(scripted.event(json.dumps({"response": f"{number}-{token}", "done": False})))
            )
            time.sleep(0.008)
        connection.send(scripted.chunk(scripted.event('{"done": true}')) + b"0\r\n\r\n")
        return None

    perigee = rig.perigee(
        [rig.worker(script)], slots(100) + "breaker: {consecutive: none, ratio: 0}\nretries: {other: 0}\n"
    )
    streams = [Stream(perigee.port, "x", f"stream{i}") for i in range(4)]
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    while any(stream.is_alive() for stream in streams):
        for data in (
            get("/ws/metrics", *upgrade),
            get("/docs"),
            get("/redoc"),
            get("/a//b"),
            b"nonsense\r\n\r\n",
        ):
            with perigee.wire() as wire:
                wire.send(data)
                wire.head()
    for number, stream in enumerate(streams):
        expect(f"stream {number}", (stream.whole, stream.error), (True, None))
        wanted = [
            scripted.event(json.dumps({"response": f"stream{number}-{t}", "done": False})) for t in range(150)
        ]
        expect("events", stream.events[:-1] == wanted)


@scenario(weight=1)
def answers_without_a_body(rig):
    """HEAD, 204 and 304 have none, whatever their fields say, and the connection goes on."""

    def script(connection, request):
        path = request.target
        if request.method == "HEAD":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        elif "204" in path:
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif "304" in path:
            connection.send(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: "a"\r\n\r\n')
        else:
            connection.send(scripted.whole(b"body"))

    perigee = rig.perigee([rig.worker(script)])
    with perigee.wire() as wire:
        head = wire.ask(get("/docs", method="HEAD"), head_only=True)
        expect("HEAD tells the length", (head.status, head.fields["content-length"]), (200, "1000"))
        expect("204", wire.ask(get("/static/204"), head_only=True).status, 204)
        expect("304", wire.ask(get("/static/304"), head_only=True).status, 304)
        expect("then a body", wire.ask(get("/static/x")).body, b"body")


@scenario(weight=6)
def endless_get_mcp_is_a_tunnel(rig):
    """GET /mcp holds a silent stream open; it must hold no slot."""
    sim = rig.sim(name="w1")
    perigee = rig.perigee([sim], slots(1))
    client = http_client(perigee)
    client.request(
        "POST",
        "/mcp",
        json.dumps(
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-03-26",
                    "capabilities": {},
                    "clientInfo": {"name": "t", "version": "1"},
                },
            }
        ),
        {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Host": "gateway.example",
        },
    )
    answer = client.getresponse()
    answer.read()
    session = answer.getheader("mcp-session-id")
    expect("a public Host is no obstacle", (answer.status, bool(session)), (200, True))
    with perigee.wire() as wire:
        wire.send(get("/mcp", "Accept: text/event-stream", f"Mcp-Session-Id: {session}"))
        expect("open", wire.head().status, 200)
        until("counted as a tunnel", lambda: perigee.backend("w1")["tunnels"] == 1)
        expect("the slot is free", perigee.ask(get("/docs")).status, 200)
    until("gone with its client", lambda: perigee.backend("w1")["tunnels"] == 0)


@scenario(weight=1)
def many_on_one_unix_socket(rig):
    path = rig.folder / "p.sock"
    sim = rig.sim()
    perigee = rig.perigee(
        [sim],
        arguments=lambda p: [
            "--listen",
            f"127.0.0.1:{p.port}",
            "--listen",
            f"unix:{path}",
            "--worker",
            f"http://127.0.0.1:{sim.port}",
            "--admin",
            f"127.0.0.1:{p.admin_port}",
        ],
    )
    results = run_all([lambda: curl("--unix-socket", path, "http://x/health").stdout for _ in range(8)])
    expect("answers", results, ['{"status":"ok"}'] * 8)
    expect("TCP too", perigee.ask(get("/health")).status, 200)
    perigee.signal(15)
    expect("exit", perigee.wait(), 0)
    expect("the socket's file is gone", path.exists(), False)
