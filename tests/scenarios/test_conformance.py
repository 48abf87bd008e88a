"""The cases of tests/data/conformance against the program: what a client may send, what a worker may send."""

import json
import re
import socket
import time
import zlib

import scripted
from harness import ROOT, expect, get, scenario, slots
from test_bad_http import expand

DATA = ROOT / "tests/data/conformance"
STEADY = slots(50) + "breaker: {consecutive: none, ratio: 0}\nheads: {bytes: 64KiB, target: 8KiB, fields: 100}\n"
BEFORE = b"GET /before HTTP/1.1\r\nHost: b\r\n\r\n"


def cases(name):
    """(class, case), with bytes for text."""
    for group, rows in json.loads((DATA / name).read_text()).items():
        for row in rows:
            for key in ("send", "forwarded", "delivered"):
                if key in row:
                    row[key] = expand(row[key]).encode("latin-1")
            yield group, row


def a_cut(data):
    """One place in it, the same in every run."""
    return 1 + zlib.crc32(data) % max(1, len(data) - 1)


def our_lines(host, old=False, request_id=b"*"):
    """What perigee adds to a request."""
    via = b"1.0" if old else b"1.1"
    forwarded_host = b"X-Forwarded-Host: %b\r\n" % host if host else b""
    return (
        b"Via: %b perigee\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n%bX-Real-IP: 127.0.0.1\r\n"
        b"X-Request-ID: %b\r\n" % (via, forwarded_host, request_id)
    )


def with_our_lines(case):
    text, request_id = case["forwarded"], expand(case.get("id", "*")).encode()
    host_sent = b"\nhost:" in case["send"].lower()
    while mark := re.search(rb"\{ours( 1\.0)?\}", text):
        host = re.findall(rb"\r\nHost: ([^\r]*)\r\n", text[: mark.start()])[-1]
        lines = our_lines(host if host_sent else b"", bool(mark[1]), request_id)
        text = text[: mark.start()] + lines + text[mark.end() :]
    return text


def masked(data):
    """Request ids of perigee's own making are not the same twice."""
    return re.sub(rb"(\r\nX-Request-ID: )[0-9a-v]{24}\r\n", rb"\1*\r\n", data)


def messages(data):
    """Canonical requests one by one."""
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        size = 0
        if length := re.search(rb"\r\nContent-Length: (\d+)", head):
            size = int(length[1])
        elif b"\r\nTransfer-Encoding: chunked" in head:
            while True:
                line = rest[size:].partition(b"\r\n")[0]
                size += len(line) + 2 + int(line, 16) + 2
                if int(line, 16) == 0:
                    break
        yield head + b"\r\n\r\n" + rest[:size]
        data = rest[size:]


class Recorder:
    """A worker's script that keeps every request's bytes and says ok."""

    def __init__(self):
        self.arrived = []

    def __call__(self, connection, request):
        begin = getattr(connection, "used", 0)
        connection.used = len(connection.received) - len(connection.buffer)
        self.arrived.append(connection.received[begin : connection.used])
        answer = scripted.whole()
        connection.send(answer[:-2] if request.method == "HEAD" else answer)


def send(wire, pieces):
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(0.002)
            wire.send(piece)
    except OSError:
        pass  # refused before all of it was sent


@scenario(limit=150, weight=14)
def requests_to_the_letter(rig):
    """requests.json: refused and closed, or at the worker in one form; also behind another request, twice,
    and split."""
    recorder = Recorder()
    worker = rig.worker(recorder, name="w")
    perigee = rig.perigee([worker], STEADY)
    before = masked(b"GET /before HTTP/1.1\r\nHost: b\r\n" + our_lines(b"b") + b"\r\n")

    def one(case):
        whole = case["send"]
        forwarded = list(messages(with_our_lines(case))) if "forwarded" in case else []
        for number, message in enumerate(forwarded):
            # What follows a request for an upgrade is not read as HTTP: not granted, the connection ends.
            if b"\r\nConnection: Upgrade\r\n" in message.partition(b"\r\n\r\n")[0] + b"\r\n":
                case["closes"], forwarded = True, forwarded[: number + 1]
                break
        once = not case.get("closes") and "status" not in case
        if case.get("incomplete"):
            recorder.arrived.clear()
            with perigee.wire(timeout=5.0) as wire:
                send(wire, [whole])
                expect("nothing is said", wire.silent(0.05))
            expect("nothing reached the worker", recorder.arrived, [])
            return
        play(case, [whole], forwarded)
        play(case, [BEFORE + whole + whole], [before] + forwarded * (2 if once else 1))
        cut = a_cut(whole)
        play(case, [BEFORE + whole[:cut], whole[cut:]], [before] + forwarded)

    def play(case, pieces, wanted):
        recorder.arrived.clear()
        with perigee.wire(timeout=5.0) as wire:
            send(wire, pieces)
            for number, message in enumerate(wanted):
                answer = wire.next_answer(head_only=message.startswith(b"HEAD "))
                expect("status of a good request", answer.status, 200)
                last = number + 1 == len(wanted)
                closes = last and case.get("closes", False)
                expect("says that it closes", answer.fields.get("connection") == "close", closes)
            if "status" in case:
                answer = wire.next_answer(head_only=whole_is_head(case))
                expect("status", answer.status, case["status"])
                reason = "too_large" if answer.status in (413, 414, 431) else "bad_request"
                expect("reason", answer.reason, reason)
                expect("says that it closes", answer.fields.get("connection"), "close")
            if "status" in case or case.get("closes"):
                expect("closed", wire.ended(4.0), lambda e: e in ("fin", "rst"))
            else:
                expect("no further byte", wire.buffer, b"")
        expect("what reached the worker", [masked(m) for m in recorder.arrived], wanted)

    def whole_is_head(case):
        return case["send"].startswith(b"HEAD ")

    for group, case in cases("requests.json"):
        if case.get("only") != "parser":
            rig.row(f"{group}: {case['rule']}", one, case)
    traffic = b"".join(worker.traffic())
    expect("no stray byte at the worker", traffic.count(b"\r\n\r\nGET /admin/info HTTP/1.1\r\nHost: a\r\nVia"), 0)


def joined(raw):
    """An answer with the chunks of its body joined to one; what has no end keeps none."""
    head, mark, rest = raw.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked" not in head:
        return raw
    body, whole = b"", False
    while match := re.match(rb"([0-9a-f]+)\r\n", rest):
        size = int(match[1], 16)
        piece = rest[match.end() : match.end() + size]
        rest = rest[match.end() + size + 2 :]
        body += piece
        if size == 0:
            whole = True
            break
    return head + mark + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if whole else b"")


def without_chance(raw):
    raw = re.sub(rb"\r\nDate: (?!Sun, 06 Nov 1994)[^\r]*\r\n", b"\r\n{date}", raw)
    return re.sub(rb"(\r\n|\})X-Request-ID: [0-9a-v]{24}\r\n", rb"\1{id}", raw)


@scenario(limit=150, weight=12)
def answers_to_the_letter(rig):
    """answers.json: delivered in one form, or refused, or visibly cut; the next client always gets its own."""
    now = {}

    def script(connection, request):
        if request.target.startswith("/own"):
            now["own"] = connection.number
            connection.send(scripted.whole(request.target.encode()))
            return None
        case = now["case"]
        now["number"] = connection.number
        for i, piece in enumerate(now["pieces"]):
            if i:
                time.sleep(0.002)
            connection.send(piece)
        if case.get("ends") or b"HTTP/1.1 101 " in case.get("delivered", b""):
            connection.fin()
            return "end"
        return None

    worker = rig.worker(script, name="w")
    perigee = rig.perigee([worker], STEADY + "retries: {voice: 0, other: 0}\n")
    requests = {
        "GET": get("/docs"),
        "HEAD": get("/docs", method="HEAD"),
        "websocket": get("/ws/x", "Connection: Upgrade", "Upgrade: websocket"),
        "1.0": b"GET /docs HTTP/1.0\r\nHost: x\r\n\r\n",
        "1.0 kept": b"GET /docs HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
    }

    def one(number, case):
        cut = a_cut(case["send"])
        for again, pieces in enumerate(([case["send"]], [case["send"][:cut], case["send"][cut:]])):
            now.update(case=case, pieces=pieces, own=None, number=None)
            with perigee.wire(timeout=5.0) as wire:
                wire.send(requests[case.get("asked", "GET")])
                watch(case, wire)
            target = f"/own-{number}-{again}"
            answer = perigee.ask(get(target))
            expect("the next client's own answer", (answer.status, answer.body), (200, target.encode()))
            if case.get("kept") and not case.get("ends"):
                expect("on the same connection to the worker", now["own"], now["number"])
            else:
                expect("on another connection to the worker", now["own"], lambda n: n != now["number"])

    def watch(case, wire):
        asked = case.get("asked", "GET")
        if "delivered" not in case:
            answer = wire.next_answer(head_only=asked == "HEAD")
            expect("refused", (answer.status, answer.reason), (502, "upstream_failed"))
            expect("nothing of the worker's", b"uvicorn" in answer.raw, False)
            return
        if case.get("cut"):
            try:
                raw = wire.rest()
            except ConnectionResetError:
                raw = wire.buffer
            if raw.startswith(b"HTTP/1.1 502 "):
                return  # nothing had gone out when it broke
            got = without_chance(joined(raw))
            expect("what came of it", got, lambda g: case["delivered"].startswith(g))
            return
        raw = b""
        head_only = asked == "HEAD" or b"HTTP/1.1 304 " in case["delivered"]
        while True:
            answer = wire.answer(head_only)
            raw += joined(answer)
            status = int(answer.split(b" ", 2)[1])
            if status >= 200 or status == 101:
                break
        if status == 101:
            raw += wire.rest()
        expect("delivered", without_chance(raw), case["delivered"])
        if b"\r\nConnection: close\r\n" in raw:
            expect("closed", wire.ended(4.0), lambda e: e in ("fin", "rst"))
        elif status != 101:
            expect("no further byte", wire.silent(0.001))

    for number, (group, case) in enumerate(cases("answers.json")):
        if not case.get("incomplete"):
            rig.row(f"{group}: {case['rule']}", one, number, case)
