"""The other surfaces: every route, files, MCP, A2A, WebSockets, limits, readiness."""

import base64
import json
import os
import re
import struct

from support import KEY, KEY2, ROOT, VOICE_KEY, Sim, chat_request, request, wait_for


def routes():
    with open(os.path.join(ROOT, "tests", "data", "orbit", "routes.tsv"), encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                path, method, _ = line.rstrip("\n").split("\t")
                yield method, path


def test_every_route_is_there():
    body = {"username": "admin", "password": "admin"}
    with Sim("--login-ms", "1") as sim:
        for method, path in routes():
            if method == "WS" or path in ("/static/*", "/admin/shutdown", "/admin/restart"):
                continue
            path = re.sub(r"\{[^}]*\}", "x", path)
            with sim.client() as client:
                client.send(request(method, path, body if method in ("POST", "PUT", "PATCH") else b""))
                head = client.answer(head_only=True)
            assert b"text/plain" not in head or not head.startswith(b"HTTP/1.1 404"), (method, path, head)


def test_admin_routes_want_a_credential():
    with Sim() as sim:
        for method, path in routes():
            if not path.startswith("/admin/") or path in ("/admin/login",) or "{" in path or method == "WS":
                continue
            assert sim.ask(request(method, path, key="bad"))[0] == 401, (method, path)


def test_login():
    with Sim("--login-ms", "1") as sim:
        status, _, body = sim.ask(request("POST", "/auth/login", {"username": "admin", "password": "admin"}))
        token = json.loads(body)["token"]
        assert status == 200 and len(token) == 64
        assert sim.ask(request("GET", "/admin/info", key="", extra=f"Authorization: Bearer {token}\r\n"))[0] == 200
        assert sim.ask(request("POST", "/auth/login", {"username": "admin"}))[0] == 422


def test_readiness_is_told_by_the_body():
    with Sim() as sim:
        for wanted, status, ready in (("true", 200, True), ("false", 200, False), ("missing", 503, False)):
            sim.set(ready=wanted)
            got, _, body = sim.ask(request("GET", "/health/ready"))
            assert (got, json.loads(body)["ready"]) == (status, ready)
        sim.set(ready=True, healthy_adapters=1)
        assert json.loads(sim.ask(request("GET", "/health/ready"))[2]) == \
            {"ready": False, "healthy_ratio": 0.5, "healthy_adapters": 1, "total_adapters": 2}


def upload(content, kind="text/plain"):
    body = (b'--B\r\nContent-Disposition: form-data; name="file"; filename="n.txt"\r\nContent-Type: ' + kind.encode()
            + b"\r\n\r\n" + content + b"\r\n--B--\r\n")
    return request("POST", "/api/files/upload", body, extra="Content-Type: multipart/form-data; boundary=B\r\n")


def test_files():
    with Sim() as sim:
        number = json.loads(sim.ask(upload(b"x" * 2500))[2])["file_id"]
        assert sim.ask(request("GET", f"/api/files/{number}", key=KEY2))[0] == 403
        shown = request("GET", f"/api/files/{number}")
        assert wait_for(lambda: json.loads(sim.ask(shown)[2])["processing_status"] == "completed")
        asked = {"query_request": {"query": "x", "max_results": 1}}
        assert sim.ask(request("POST", f"/api/files/{number}/query", asked))[0] == 200
        assert sim.ask(request("POST", "/api/files/upload", b"", extra="Content-Type: multipart/form-data\r\n"))[0] == 422
        assert sim.ask(request("DELETE", "/api/files"))[0] == 200
        assert sim.ask(request("GET", f"/api/files/{number}"))[0] == 404


def test_a_file_of_51_mb_is_refused():
    with Sim() as sim:
        status, _, body = sim.ask(upload(b"a" * (51 * 1024 * 1024)))
        assert status == 400 and body == b'{"detail":"File size exceeds maximum 52428800 bytes"}'


def test_mcp_host_and_sessions():
    with Sim() as sim:
        def ask(message, session="", host="127.0.0.1:1"):
            data = json.dumps(message).encode()
            extra = f"Mcp-Session-Id: {session}\r\n" if session else ""
            return sim.ask((f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n{extra}"
                            f"X-Session-ID: m\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data)

        start = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        assert ask(start, host="example.com")[0] == 400
        session = re.search(rb"mcp-session-id: (\w+)", ask(start, host="localhost")[1])[1].decode()
        listed = ask({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, session)[2]
        assert len(listed) > 92_000 and b'"chat_completions"' in listed
        called = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "chat", "arguments": {"messages": 5}}}
        assert b'"isError":true' in ask(called, session)[2]
        sim.clear()
        assert ask({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, session)[0] == 404


def test_a2a_tasks():
    def ask(sim, method, **params):
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        status, _, body = sim.ask(request("POST", "/a2a", message, extra=f"Authorization: Bearer {KEY}\r\n"))
        assert status == 200
        return json.loads(body)

    said = {"role": "user", "parts": [{"type": "text", "text": "hi [[n=1 gap=1]]"}]}
    with Sim() as sim:
        assert ask(sim, "tasks/get", id="t")["error"]["code"] == -32001
        assert ask(sim, "tasks/send", id="t", message=said)["result"]["status"]["state"] == "completed"
        assert ask(sim, "tasks/cancel", id="t")["result"]["status"]["state"] == "canceled"
        assert ask(sim, "nope")["error"]["code"] == -32601
        assert ask(sim, "tasks/send", id="t")["error"]["code"] == -32602


def handshake(path, extra=""):
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n").encode()


def masked(opcode, payload, final=True):
    mask = b"\x01\x02\x03\x04"
    size = len(payload)
    head = struct.pack("!BB", (0x80 if final else 0) | opcode, 0x80 | (size if size < 126 else 126 if size < 65536 else 127))
    head += b"" if size < 126 else struct.pack("!H", size) if size < 65536 else struct.pack("!Q", size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def frame(client):
    first, size = client.take(2)
    if size == 126:
        size = int.from_bytes(client.take(2), "big")
    elif size == 127:
        size = int.from_bytes(client.take(8), "big")
    return first & 0x0f, client.take(size)


def test_voice_echoes():
    with Sim() as sim, sim.client() as client:
        client.send(handshake(f"/ws/voice?api_key={VOICE_KEY}&session_id=v") + masked(1, b'{"early":1}'))
        assert client.answer().startswith(b"HTTP/1.1 101 ")
        assert frame(client) == (1, b'{"early":1}'), "bytes sent before the 101 was seen"
        client.send(masked(2, b"x" * 70_000))
        assert frame(client) == (2, b"x" * 70_000)
        client.send(masked(1, b'{"a":', final=False) + masked(9, b"ping") + masked(0, b"1}"))
        assert frame(client) == (10, b"ping") and frame(client) == (1, b'{"a":1}')
        client.send(masked(1, b'{"type":"interrupt"}'))
        assert json.loads(frame(client)[1]) == {"type": "done"}
        client.send(masked(8, struct.pack("!H", 1000)))
        assert frame(client) == (8, struct.pack("!H", 1000)) and client.ended() == "fin"


def test_frames_without_a_mask_are_refused():
    with Sim() as sim, sim.client() as client:
        client.send(handshake(f"/ws/voice/voice?api_key={VOICE_KEY}"))
        client.answer()
        client.send(b"\x81\x02{}")
        assert frame(client) == (8, struct.pack("!H", 1002))


def test_voice_is_refused_while_paused():
    with Sim() as sim:
        sim.ask(request("POST", "/admin/pause"))
        assert sim.ask(handshake(f"/ws/voice?api_key={VOICE_KEY}"))[0] == 500


def test_ws_metrics_are_counted():
    with Sim() as sim:
        with sim.client() as client:
            client.send(handshake("/ws/metrics", "Cookie: dashboard_token=x\r\n"))
            client.answer()
            assert json.loads(frame(client)[1])["connections"]["websocket_clients"] == 1
            assert b"orbit_websocket_connections 1.0" in sim.ask(request("GET", "/metrics"))[2]
            sim.terminate()
            assert frame(client)[0] == 8


def test_the_rate_limit_spares_health():
    with Sim("--rate-limit", "2") as sim:
        assert [sim.ask(request("GET", "/v1/autocomplete?q=hello"))[0] for _ in range(3)][-1] == 429
        status, head, _ = sim.ask(request("GET", "/health"))
        assert status == 200 and b"x-ratelimit" not in head


def test_quota_counts_chats_by_key():
    with Sim("--quota-daily", "10") as sim:
        for _ in range(6):
            assert sim.ask(chat_request("[[n=1 gap=1]]", False))[0] == 200
        status, head, _ = sim.ask(chat_request("[[n=1 gap=1]]", False))
        assert status == 200 and b"x-throttle-delay: 100\r\n" in head
        assert b"x-throttle-delay: 0\r\n" in sim.ask(chat_request("[[n=1 gap=1]]", False, "t", KEY2))[1]


def test_nothing_is_printed_beside_the_ready_line():
    with Sim() as sim:
        sim.ask(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n")
        sim.ask(chat_request("[[n=1]]", False))
        sim.terminate()
        assert sim.process.stdout.read() == ""
