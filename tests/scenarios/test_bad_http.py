"""HTTP whose treatment is configured or depends on the route; test_conformance.py has the letter."""

import re

from harness import cases, expect, get, scenario, until


def expand(text):
    """{x*N} = N times x; {fields*N} = N fields."""
    text = re.sub(r"\{fields\*(\d+)\}", lambda m: "\r\n".join(f"X-{i}: {i}" for i in range(int(m[1]))), text)
    return re.sub(r"\{(\w)\*(\d+)\}", lambda m: m[1] * int(m[2]), text)


def bytes_of(case, line):
    if "raw" in case:
        return expand(case["raw"]).encode("latin-1")
    fields = "".join(f"{f}\r\n" for f in ["Host: a", *case.get("fields", [])])
    return expand(f"{case.get('line', line)}\r\n{fields}\r\n{case.get('body', '')}").encode("latin-1")


@scenario(limit=60, weight=4)
def what_is_forwarded(rig):
    """cases/forwarding.json: the lines that reach the worker, and the text that never does."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker])

    def one(case):
        before = len(worker.requests)
        expect("status", perigee.ask(bytes_of(case, "GET /docs HTTP/1.1")).status, 200)
        request = until("it arrives", lambda: len(worker.requests) == before + 1 and worker.requests[-1])
        lines = request.raw_head.decode("latin-1").split("\r\n")
        for wanted in case.get("reaches", []):
            expect(
                f"lines with `{wanted}`",
                lines,
                lambda have: wanted.lower() in [line.lower() for line in have],
            )
        if "never" in case:
            expect(
                f"`{case['never']}`",
                request.raw_head.decode("latin-1"),
                lambda head: case["never"].lower() not in head.lower(),
            )
        if "gets" in case:
            expect("body", request.body, case["gets"].encode())
        lengths = [line for line in lines if line.lower().startswith(("content-length", "transfer-encoding"))]
        expect("one framing at most", len(lengths), lambda n: n <= 1)
        expect("one Host", sum(line.lower().startswith("host:") for line in lines), 1)

    for case in cases("forwarding.json"):
        rig.row(case["rule"], one, case)


@scenario(weight=2)
def a_trusted_proxy_in_front(rig):
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], "trusted: [127.0.0.0/8]\n")
    perigee.ask(
        get(
            "/docs",
            "X-Forwarded-For: 9.9.9.9",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: chat.example",
            "X-Real-IP: 9.9.9.9",
        )
    )
    lines = worker.requests[-1].raw_head.decode().lower().split("\r\n")
    for wanted in (
        "x-forwarded-for: 9.9.9.9, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: chat.example",
        "x-real-ip: 9.9.9.9",
    ):
        expect(f"`{wanted}`", lines, lambda have: wanted in have)


@scenario(weight=2)
def a_body_that_grows_beyond_its_bound(rig):
    """A chunked body has no declared length: 413 when it passes the bound."""
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], "bodies: {json: 100KiB, upload: 300KiB}\n")
    for path, size in (("/api/threads", 110 * 1024), ("/api/files/upload", 310 * 1024)):
        with perigee.wire() as wire:
            wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            try:
                for _ in range(size // 1024):
                    wire.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
                wire.send(b"0\r\n\r\n")
            except OSError:
                pass
            answer = wire.next_answer()
            expect(path, (answer.status, answer.reason), (413, "too_large"))
    expect(
        "none looks whole to the worker",
        [t.endswith(b"0\r\n\r\n") for t in worker.traffic()],
        lambda ends: not any(ends),
    )
    expect("others", perigee.ask(get("/docs")).status, 200)


@scenario(weight=2)
def limits_that_are_configured(rig):
    worker = rig.worker(name="w")
    perigee = rig.perigee([worker], "heads: {bytes: 2KiB, fields: 20, target: 512}\n")
    expect("target", perigee.ask(get("/docs?" + "x" * 520)).status, 414)
    expect("head", perigee.ask(get("/docs", "X-A: " + "x" * 3000)).status, 431)
    expect("fields", perigee.ask(get("/docs", *(f"X-{i}: 1" for i in range(25)))).status, 431)
    expect(
        "within all", perigee.ask(get("/docs?" + "x" * 400, *(f"X-{i}: 1" for i in range(15)))).status, 200
    )
