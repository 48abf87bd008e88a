"""Every capture of a real worker whose request is whole, sent to the simulator and compared, volatile fields masked."""

import json
import os
import re
import threading
import time

from support import ROOT, Client, Sim

DATA = os.path.join(ROOT, "tests", "data", "orbit")
MARK = b"\n=== response (bytes as received) ===\n"
CUT = re.compile(rb"\n\.\.\. \(cut here, \d+ bytes in all\)\n?$")
CUT_REQUEST = re.compile(rb"\.\.\. \(\d+ bytes of request in all\)$")

with open(os.path.join(DATA, "replay.json"), encoding="utf-8") as _file:
    REPLAY = json.load(_file)


def capture(name):
    """(request, response, whether the response was cut)."""
    with open(os.path.join(DATA, "traces", name + ".http"), "rb") as file:
        request, _, response = file.read().partition(MARK)
    whole = CUT.sub(b"", response)
    return request, whole, whole != response


def names():
    return sorted(name[:-5] for name in os.listdir(os.path.join(DATA, "traces")) if name.endswith(".http"))


def masked(data, needs):
    text = data.decode("latin-1")
    for pattern, replacement in REPLAY["volatile"] + needs.get("mask", []):
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def exchange(port, request, responses=1):
    with Client(port) as client:
        client.send(request)
        return b"".join(client.answer(head_only=request.startswith(b"HEAD")) for _ in range(responses))


def prepare(sim, needs, put):
    """Brings the simulator into the state that the trace needs; fills `put` with what the request must say instead."""
    for step in needs.get("before", []):
        request = capture(step["trace"])[0] if "trace" in step else step["send"].encode("latin-1")
        for _ in range(step.get("times", 1)):
            answer = exchange(sim.port, request)
        if "take" in step:
            put[step["for"].encode()] = re.search(step["take"].encode(), answer)[1]


def swap(data, put, back=False):
    for old, new in put.items():
        data = data.replace(new, old) if back else data.replace(old, new)
    return data


def stopped(sim, client, stop):
    """Reads a stream to its n-th token, then stops it from another connection; the whole answer."""
    head = client.until(b"\r\n\r\n")
    body = b""
    while body.count(b"data: ") < stop["after_event"] + 1:
        body += client.until(b"\n\n\r\n")
    request = capture(stop["request"])[0].replace(stop["for"].encode(), re.search(stop["take"].encode(), body)[1])
    answer = exchange(sim.port, request)
    assert b'"status":"cancelled"' in answer, answer
    return head + body + client.until(b"0\r\n\r\n")


def frames(client, count):
    """WebSocket frames as they come, without their lengths."""
    data = b""
    for _ in range(count):
        start = client.take(2)
        size = start[1] & 0x7f
        if size == 126:
            size = int.from_bytes(client.take(2), "big")
        elif size == 127:
            size = int.from_bytes(client.take(8), "big")
        data += start[:1] + client.take(size)
    return data


class Bytes(Client):
    """Reads a capture with the client's own means."""

    def __init__(self, data):
        self.buffer = data

    def more(self):
        return b""


def replay(sim, name):
    needs = REPLAY["traces"].get(name, {})
    request, expected, cut = capture(name)
    sim.clear()
    defaults = sim.control("GET", "/settings")
    settings = needs.get("settings", {})
    if settings:
        sim.set(**settings)
    try:
        put = {}
        prepare(sim, needs, put)
        if "while" in needs:
            step = needs["while"]
            other = sim.client()
            other.send(step["send"].encode("latin-1"))
            other.until(b"\r\n\r\n")
            put[step["for"].encode()] = re.search(step["take"].encode(), other.until(b"\n\n"))[1]
        threading.Event().wait(needs.get("wait_ms", 0) / 1000)
        with sim.client() as client:
            client.send(swap(request, put))
            if "stop" in needs:
                answer = stopped(sim, client, needs["stop"])
            elif "frames" in needs:
                answer = client.answer(head_only=True) + frames(client, needs["frames"])
                theirs = Bytes(expected)
                expected, cut = theirs.answer(head_only=True) + frames(theirs, needs["frames"]), False
            elif needs.get("held"):
                answer = client.answer(head_only=True)
                assert client.silent(0.3), "the held answer said something, or ended"
            else:
                answer = b"".join(client.answer(head_only=name.startswith("head-"))
                                  for _ in range(expected.count(b"HTTP/1.1 ") or 1))
                assert client.buffer == b"", f"bytes after the answer: {client.buffer[:100]!r}"
    finally:
        if settings:
            sim.set(**{key: defaults[key] for key in settings})
    mine, theirs = masked(swap(answer, put, back=True), needs), masked(expected, needs)
    if cut:
        mine = mine[:len(theirs)]
    if mine != theirs:
        raise AssertionError(difference(mine, theirs))


def difference(mine, theirs):
    for number, (ours, real) in enumerate(zip(mine.split("\n"), theirs.split("\n")), 1):
        if ours != real:
            at = next((at for at, (a, b) in enumerate(zip(ours, real)) if a != b), min(len(ours), len(real)))
            start = max(at - 60, 0)
            return f"line {number}, column {at}:\n  simulated {ours[start:at + 120]!r}\n  real      {real[start:at + 120]!r}"
    return f"{len(mine)} characters simulated, {len(theirs)} real; the longer one ends in " \
           f"{(mine[len(theirs):] or theirs[len(mine):])[:200]!r}"


def test_the_data_file_names_only_captures_and_skips_only_cut_requests():
    known = set(names())
    for name, needs in REPLAY["traces"].items():
        assert name in known, f"replay.json speaks of {name}, which is no capture"
    for name in known:
        cut = CUT_REQUEST.search(capture(name)[0]) is not None
        assert cut == ("skip" in REPLAY["traces"].get(name, {})), f"{name}: cut is {cut}, skip must be the same"


def test_a_difference_is_found():
    """The comparison itself: a wrong byte, a missing header, a shorter body."""
    _, expected, _ = capture("get-health")
    theirs = masked(expected, {})
    for wrong in (expected.replace(b"ok", b"OK"), expected.replace(b"vary: Origin\r\n", b""), expected[:-1]):
        assert masked(wrong, {}) != theirs


def timing(name):
    """[(ms since the request was sent, bytes)] of a capture."""
    with open(os.path.join(DATA, "traces", name + ".timing"), encoding="utf-8") as file:
        return [(float(when), int(size)) for when, size in (line.split() for line in file if not line.startswith("#"))]


def test_tokens_arrive_one_by_one_as_in_the_captured_timings():
    """The sizes of the pieces, and the gaps between tokens; the real worker's own delays before them are its own."""
    with Sim() as sim:
        for name, before in (("chat-stream", 2), ("completions-stream", 1)):
            with sim.client() as client:
                client.send(capture(name)[0])
                came = [(time.monotonic(), len(client.until(b"\r\n\r\n")))]
                while came[-1][1] != 5:
                    line = client.until(b"\r\n")
                    size = len(line) + len(client.take(int(line, 16) + 2))
                    came.append((time.monotonic(), size))
            real = timing(name)
            sizes = [size for _, size in came]
            sizes[-2:] = [sum(sizes[-2:])]  # the last event and the last chunk were read together
            assert sizes == [size for _, size in real], (name, sizes, real)
            tokens = range(before + 2, before + 6)  # the real first one of completions came late
            for at in tokens:
                mine = (came[at][0] - came[at - 1][0]) * 1000
                assert abs(mine - (real[at][0] - real[at - 1][0])) < 45, (name, at, mine, real)


def replays():
    """(name, callable) of each trace that is not skipped; four simulators share them."""
    return [(f"replay {name}", name) for name in names() if "skip" not in REPLAY["traces"].get(name, {})]


def run_replays(report, sims=4):
    todo = replays()
    todo.sort(key=lambda one: not one[1].startswith(("throttle", "get-metrics")))  # the long ones first
    lock = threading.Lock()

    def work():
        with Sim() as sim:
            while True:
                with lock:
                    if not todo:
                        return
                    title, name = todo.pop(0)
                try:
                    replay(sim, name)
                    report(title, None)
                except Exception as error:  # a test's failure of any kind is that test's failure
                    report(title, error)

    threads = [threading.Thread(target=work) for _ in range(sims)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
