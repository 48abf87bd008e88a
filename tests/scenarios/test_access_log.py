"""The access log: one line of JSON for each request, with the fields that an operator needs and no secret."""

import json
import re

import scripted
from clients import Stream
from harness import chat, curl, expect, get, post, scenario, slots, until
from support import KEY

ALWAYS = {
    "time",
    "id",
    "method",
    "path",
    "class",
    "priority",
    "reason",
    "status",
    "bytes_in",
    "bytes_out",
    "total_ms",
}


@scenario(weight=4)
def one_line_for_each_request(rig):
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], slots(20))
    expect("stream", Stream(perigee.port, "[[n=3 gap=20]]", "s").finish().done)
    expect("get", perigee.ask(get("/health", "X-Request-ID: mine-1")).status, 200)
    expect("refused", perigee.ask(b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status, 400)
    expect("later refused", perigee.ask(get("/a/../b")).status, 400)
    expect("missing", perigee.ask(get("/missing")).status, 404)
    lines = until("five lines", lambda: len(l := perigee.lines()) == 5 and l, 5)
    for line in lines[:2] + lines[3:]:
        if line["reason"] == "served":
            expect(
                f"fields of {line['path']}",
                set(line),
                lambda have: (ALWAYS | {"backend", "attempts", "queue_ms", "connect_ms", "head_ms"}) <= have,
            )
    stream, health, bad, dots, missing = lines
    expect(
        "stream",
        (
            stream["path"],
            stream["class"],
            stream["priority"],
            stream["backend"],
            stream["stream"],
            stream["attempts"],
        ),
        ("/v1/chat", "chat", "normal", "w", "completed", 1),
    )
    expect("the worker's id too", stream["worker_id"], lambda i: len(i) == 36)
    expect("timings add up", stream["total_ms"] >= stream["first_event_ms"] >= 0)
    expect("times", re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", stream["time"]) is not None)
    expect(
        "the client's request id",
        (health["id"], health["class"], health["priority"]),
        ("mine-1", "health", "critical"),
    )
    expect("refused", (bad["reason"], bad["status"], "backend" in bad), ("bad_request", 400, False))
    expect("dots", (dots["reason"], dots["status"]), ("bad_request", 400))
    expect("a worker's 404 is served", (missing["reason"], missing["status"]), ("served", 404))


@scenario(weight=3)
def bytes_are_counted_once(rig):
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])
    requests = [get("/docs?1"), post("/api/threads", b"x" * 5000), get("/docs?22"), get("/health")]
    with perigee.wire() as wire:
        wire.send(b"".join(requests))
        answers = [wire.next_answer() for _ in requests]
    lines = until("lines", lambda: len(l := perigee.lines()) == 4 and l, 5)
    expect("in", [line["bytes_in"] for line in lines], [len(r) for r in requests])
    expect("out", [line["bytes_out"] for line in lines], [len(a.raw) for a in answers])


@scenario(weight=3)
def no_secret_is_ever_written(rig):
    """Keys, tokens, cookies, prompts, answers, session and user ids: in fields, query, body, path."""
    secret = "s3cr3t-marker"
    sims = rig.sims(2)
    perigee = rig.perigee(sims, slots(20) + "log_level: debug\n")
    key = "orbit_" + secret + "x" * (32 - len(secret))
    fields = [
        f"Authorization: Bearer {secret}",
        f"Cookie: session={secret}",
        f"X-User-ID: {secret}",
        f"Referer: http://x/{secret}",
        f"User-Agent: {secret}",
        f"X-Custom: {secret}",
        f"Origin: http://{secret}",
    ]
    expect(
        "stream",
        Stream(perigee.port, request=chat(f"{secret} [[n=3 gap=5]]", secret, key=key, fields=fields))
        .finish()
        .status,
        200,
    )
    perigee.ask(chat(f"{secret} [[n=2]]", secret, stream=False, key=key, fields=fields))
    perigee.ask(get(f"/v1/autocomplete?q={secret}&api_key={secret}", *fields))
    perigee.ask(get(f"/ws/voice?api_key={secret}&session_id={secret}", *fields))
    perigee.ask(get(f"/v1/autocomplete?q=x#{secret}", *fields))
    perigee.ask(f"GET http://{secret}:{secret}@a/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    perigee.ask(f"GET / HTTP/1.1\r\nHost: {secret}!bad host\r\n\r\n".encode())
    perigee.ask(f"{secret} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    perigee.ask(post("/v1/chat/stop", {"session_id": secret, "request_id": "none"}, f"X-API-Key: {key}"))
    perigee.ask(post("/auth/login", {"username": "admin", "password": secret}))
    curl(
        "-F",
        f"file={secret}",
        "-u",
        f"{secret}:{secret}",
        f"http://127.0.0.1:{perigee.port}/api/files/upload?key={secret}",
    )
    sims[0].kill()
    perigee.ask(chat(secret, secret, key=key, fields=fields))
    until("lines", lambda: len(perigee.lines()) >= 12, 5)
    said = perigee.log() + perigee.access_text()
    where = [line for line in said.splitlines() if secret in line]
    expect("lines with a secret", where, [])
    pages = b"".join(
        perigee.admin(p).body
        for p in ("/metrics", "/api/v1/status", "/api/v1/backends", "/api/v1/queues", "/api/v1/config")
    )
    expect("pages with one", secret.encode() in pages, False)


@scenario(weight=3)
def what_a_client_sends_cannot_forge_a_line(rig):
    worker = rig.worker(
        lambda c, r: c.send(scripted.whole(b"x", 200, 'X-Request-ID: a"b\\c')) and None, name="w"
    )
    perigee = rig.perigee([worker])
    paths = [
        "/docs%0a%7b%22a%22%3a1%7d",
        '/docs"},{"reason":"forged"',
        "/docs" + "x" * 3000,
        "/docs%22%5c%5c",
    ]
    for path in paths:
        perigee.ask(get(path))
    lines = until("lines", lambda: len(l := perigee.lines()) == 4 and l, 5)
    expect(
        "each parses, none is forged",
        [line["reason"] for line in lines],
        lambda reasons: set(reasons) <= {"served", "bad_request"},
    )
    expect("long paths are cut and marked", [len(line["path"]) <= 512 for line in lines], [True] * 4)
    raw = perigee.access_text()
    expect("lines", raw.count("\n"), 4)
    expect("no line is huge", max(map(len, raw.splitlines())) < 8192)


@scenario(weight=2)
def off_and_in_a_file(rig):
    sim = rig.sim(name="w")
    off = rig.perigee([sim], "access_log: off\n")
    expect("served", off.ask(get("/health")).status, 200)
    path = rig.folder / "access.jsonl"
    filed = rig.perigee([sim], f"access_log: {{destination: '{path}', flush: 100ms}}\n")
    expect("served", filed.ask(get("/health")).status, 200)
    until("in the file", lambda: path.exists() and path.read_text().count("\n") == 1, 5)
    moved = rig.folder / "access.1"
    path.rename(moved)
    filed.signal(10)  # SIGUSR1: opens it anew
    expect("served", filed.ask(get("/docs")).status, 200)
    until("in a new file", lambda: path.exists() and "/docs" in path.read_text(), 5)
    expect("none on standard output", (off.access_text(), filed.access_text()), ("", ""))
    expect("private", oct(path.stat().st_mode & 0o007), "0o0")
    expect("JSON", json.loads(path.read_text().splitlines()[0])["path"], "/docs")


@scenario(weight=2)
def all_lines_are_written_at_the_end(rig):
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], slots(20))
    with perigee.wire() as wire:
        for number in range(300):
            wire.send(get(f"/docs?{number}"))
        for _ in range(300):
            wire.next_answer()
    perigee.signal(15)
    expect("exit", perigee.wait(), 0)
    expect("lines", len(perigee.lines(path="/docs")), 300)
