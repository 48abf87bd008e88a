"""uvicorn's conduct: what is read, what is refused, how connections live and die."""

import contextlib
import time

from support import KEY, Sim, chat_request, request, split, wait_for
from orbit_sim import http

GOOD = b"POST /a%2Fb?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX-A:  b c \r\n\r\n"
BAD = {
    "no version": b"GET /\r\nHost: x\r\n\r\n",
    "version 2": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "name that is no token": b"GET / HTTP/1.1\r\nHost: x\r\nA(b: c\r\n\r\n",
    "control in value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "length +1": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
    "unequal lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
}


def refused(raw):
    try:
        http.parse_head(raw)
    except http.Malformed:
        return True
    return False


def test_a_head_is_read():
    head = http.parse_head(GOOD)
    assert (head.method, head.path, head.query, head.length) == ("POST", "/a/b", "q=1", 3)
    assert head.fields["x-a"] == b"b c" and head.keep_alive and not head.chunked


def test_what_h11_refuses_is_refused():
    for name, raw in BAD.items():
        assert refused(raw), name


def test_what_h11_accepts_is_accepted():
    assert not refused(b"GET / HTTP/1.1\nHost: x\n\n")
    assert not refused(b"GET / HTTP/1.0\r\n\r\n")
    assert not refused(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n")
    both = http.parse_head(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert both.chunked and both.length == 0
    assert not http.parse_head(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Foo, Close\r\n\r\n").keep_alive


def test_chunks_are_read_however_they_are_split():
    coded = b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT"
    for size in range(1, len(coded) + 1):
        reader, buffer, body, whole = http.ChunkReader(), bytearray(), bytearray(), False
        for at in range(0, len(coded), size):
            buffer += coded[at:at + size]
            whole = whole or reader.feed(buffer, body)
        assert whole and bytes(body) == b"abc0123456789" and bytes(buffer) == b"NEXT", size


def test_broken_chunks_are_refused():
    for coded in (b"zz\r\nabc\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"\r\n", b"123456789012345678901\r\n", b"3 x\r\nabc"):
        try:
            http.ChunkReader().feed(bytearray(coded), bytearray())
        except http.Malformed:
            continue
        raise AssertionError(coded)


def test_malformed_requests_are_answered_with_plain_400_and_closed():
    with Sim() as sim:
        for name, raw in BAD.items():
            with sim.client() as client:
                client.send(raw)
                answer = client.answer()
                assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"Invalid HTTP request received."), name
        with sim.client() as client:
            client.send(b"POST /v1/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            assert client.answer().startswith(b"HTTP/1.1 400 ") and client.ended() == "fin"
        assert sim.counts()["malformed"] == len(BAD) + 1
        entry = sim.control("GET", "/requests")["requests"][-1]
        assert entry["complete"] is False and entry["raw_head"].startswith("POST /v1/chat ")


def test_a_request_may_come_byte_by_byte():
    with Sim() as sim, sim.client() as client:
        for byte in request("POST", "/v1/chat/stop", {"session_id": "s", "request_id": "r"}):
            client.send(bytes([byte]))
        assert b'"not_found"' in client.answer()


def test_big_heads_pass():
    with Sim() as sim:
        for size in (60_000, 70_000):
            status, _, body = sim.ask(request("GET", "/health", extra="X-Foo: " + "a" * size + "\r\n"))
            assert (status, body) == (200, b'{"status":"ok"}')
        with sim.client() as client:
            # Answered and closed before all of it was read: the rest may meet a reset.
            with contextlib.suppress(ConnectionError):
                client.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Foo: " + b"a" * 400_000)
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_expect_100_continue():
    with Sim() as sim, sim.client() as client:
        whole = request("POST", "/v1/chat/stop", {"session_id": "s", "request_id": "r"}, extra="Expect: 100-continue\r\n")
        head, _, body = whole.partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert client.answer() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.silent(0.1)
        client.send(body)
        assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order_one_at_a_time():
    with Sim("--provider-delay-ms", "100") as sim, sim.client() as client:
        client.send(chat_request("[[n=2]]", session="a") + request("GET", "/health") + chat_request("[[n=1]]", False, "b"))
        first = client.answer()
        assert b"text/event-stream" in first and b'"done": true' in first
        assert client.answer().endswith(b'{"status":"ok"}')
        assert b'"response":"alpha"' in client.answer()
        assert sim.counts()["chats_peak"] == 1


def test_a_stream_for_http_1_0_ends_by_closing():
    with Sim() as sim, sim.client() as client:
        client.send(chat_request("[[n=2 gap=5]]").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = client.rest()
        assert b"Connection: close\r\n" in answer and b"chunked" not in answer.lower().split(b"\r\n\r\n")[0]
        assert answer.count(b"\n\ndata: ") == 3 and answer.endswith(b"}\n\n")


def test_idle_connections_are_closed_after_the_keep_alive_time():
    with Sim("--keep-alive-s", "0.4") as sim:
        with sim.client() as fresh, sim.client() as client:
            for _ in range(3):
                client.send(request("GET", "/health"))
                client.answer()
                time.sleep(0.15)
            began = time.monotonic()
            assert client.ended() == "fin"
            assert 0.1 < time.monotonic() - began < 0.6
            assert fresh.ended(0.1) == "open", "one that never asked has no timer in uvicorn"


def test_connection_close_is_obeyed():
    with Sim() as sim, sim.client() as client:
        client.send(request("GET", "/health", extra="Connection: close\r\n"))
        assert b"\r\nConnection: close\r\n" in client.answer() and client.ended() == "fin"


def test_paths_are_decoded_before_routing_and_dots_are_not_resolved():
    with Sim() as sim:
        assert sim.ask(request("GET", "/%61dmin/info"))[0] == 200
        assert sim.ask(chat_request("[[n=1 gap=1]]", False, path="/v1%2Fchat"))[0] == 200
        for path in ("/v1/../health", "/./health", "//health", "/health/ready/", "/v1/chat/"):
            assert sim.ask(request("GET", path))[0] == 404, path


def test_head_is_404_without_a_body():
    with Sim() as sim, sim.client() as client:
        client.send(request("HEAD", "/health") + request("GET", "/health"))
        assert client.answer(head_only=True).startswith(b"HTTP/1.1 404 ")
        assert client.answer().endswith(b'{"status":"ok"}')


def test_many_connections_at_once():
    with Sim() as sim:
        clients = [sim.client() for _ in range(800)]
        try:
            for client in clients:
                client.send(request("GET", "/health"))
            for client in clients:
                assert split(client.answer())[0] == 200
            assert sim.counts()["connections_now"] == 800
        finally:
            for client in clients:
                client.socket.close()
        assert wait_for(lambda: sim.counts()["connections_now"] == 0)


def test_the_request_log_is_bounded_and_exact():
    with Sim("--request-log", "5") as sim:
        for number in range(12):
            sim.ask(request("GET", f"/health?n={number}", extra="X-Odd: \xe9\r\n".encode("latin-1").decode("utf-8", "ignore")))
        sim.ask(request("POST", "/v1/chat/stop", b'{"a": "\xff"}'))
        log = sim.control("GET", "/requests")
        assert log["total"] == 13 and len(log["requests"]) == 5
        last = log["requests"][-1]
        assert last["raw_head"].encode("latin-1") == request("POST", "/v1/chat/stop", b'{"a": "\xff"}')[:-len(b'{"a": "\xff"}')]
        assert last["body"].encode("latin-1") == b'{"a": "\xff"}' and last["complete"] and last["body_bytes"] == 10
        assert [one["target"] for one in sim.control("GET", "/requests?path=/health&limit=2")["requests"]] == \
            ["/health?n=10", "/health?n=11"]
        assert KEY in last["raw_head"]
