"""RFC 6455, as much as /ws/metrics (a JSON frame every 5 s) and /ws/voice (here: an echo) need. No extensions."""

import base64
import hashlib
import json
import struct
from urllib.parse import parse_qs

from . import chat, wire

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MESSAGE_LIMIT = 16 * 1024 * 1024
METRICS_EVERY_S = 5.0


def enter(worker, exchange):
    path, query = exchange.path, parse_qs(exchange.query)
    if path == "/ws/metrics":
        cookie = "dashboard_token=" in exchange.field("cookie")
        if not cookie and not exchange.field("authorization").startswith("Basic "):
            return refuse(exchange, 403)
        return accept(worker, exchange, Metrics)
    if path == "/ws/voice" or path.startswith("/ws/voice/"):
        adapter = chat.adapter_of(worker, query.get("api_key", [""])[0])
        wanted = path[len("/ws/voice/"):] or "voice"
        worker.state.catch_up()
        if adapter != "voice" or wanted != "voice" or worker.state.paused:
            return refuse(exchange, 500, "Internal Server Error")
        return accept(worker, exchange, Voice)
    refuse(exchange, 403)


def refuse(exchange, status, text=""):
    """What the websockets library writes when the application never accepts."""
    body = text.encode()
    exchange.connection.write(b"HTTP/1.1 %d %b\r\nDate: %b\r\nConnection: close\r\nContent-Length: %d\r\n"
                              b"Content-Type: text/plain; charset=utf-8\r\n\r\n%b"
                              % (status, wire.REASONS[status].encode(), wire.date(), len(body), body))
    exchange.keep_alive = False
    exchange.status = status
    exchange.end()


def accept(worker, exchange, kind):
    key = exchange.fields.get("sec-websocket-key", b"")
    if not key:
        return refuse(exchange, 403)
    digest = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    connection = exchange.connection
    connection.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: %b\r\ndate: %b\r\nserver: uvicorn\r\n\r\n" % (digest, wire.date()))
    exchange.ended = True
    worker.abandon(exchange)
    connection.exchange = None
    connection.websocket = kind(worker, connection)
    waiting, connection.buffer = bytes(connection.buffer), bytearray()
    if waiting:
        connection.websocket.feed(waiting)


def frame(opcode, payload):
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


class WebSocket:
    def __init__(self, worker, connection):
        self.worker = worker
        self.connection = connection
        self.buffer = bytearray()
        self.message = bytearray()
        self.opcode = 0
        self.closing = False
        worker.metrics.websockets += 1
        self.opened()

    def send(self, opcode, payload):
        if not self.connection.dead and not self.closing:
            self.connection.write(frame(opcode, payload))

    def close(self, code):
        self.send(CLOSE, struct.pack("!H", code))
        self.closing = True
        self.connection.transport.close()

    def feed(self, data):
        self.buffer += data
        while not self.closing and self.read_frame():
            pass

    def read_frame(self):
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        final, opcode, masked, size = buffer[0] & 0x80, buffer[0] & 0x0f, buffer[1] & 0x80, buffer[1] & 0x7f
        at = 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(buffer) < at + wide:
                return False
            size = int.from_bytes(buffer[at:at + wide], "big")
            at += wide
        if buffer[0] & 0x70 or not masked or (opcode >= 8 and (size > 125 or not final)):
            self.close(1002)
            return False
        if size + len(self.message) > MESSAGE_LIMIT:
            self.close(1009)
            return False
        if len(buffer) < at + 4 + size:
            return False
        mask = bytes(buffer[at:at + 4])
        payload = bytes(buffer[at + 4:at + 4 + size])
        del buffer[:at + 4 + size]
        stretched = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
        if opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            self.send(CLOSE, payload[:2])
            self.closing = True
            self.connection.transport.close()
        elif opcode in (0, TEXT, BINARY):
            if (opcode == 0) != bool(self.opcode):
                self.close(1002)
                return False
            self.opcode = self.opcode or opcode
            self.message += payload
            if final:
                message, self.message = bytes(self.message), bytearray()
                opcode, self.opcode = self.opcode, 0
                self.received(opcode, message)
        elif opcode != PONG:
            self.close(1002)
        return True

    def lost(self):
        self.worker.metrics.websockets -= 1

    def opened(self):
        pass

    def received(self, opcode, message):
        pass


class Metrics(WebSocket):
    timer = None

    def opened(self):
        self.tell()

    def tell(self):
        from .routes import breakers, pools
        thread_pools = {**pools(), "parallel_executor": {"max_workers": 10, "active_threads": 0, "queued_tasks": 0},
                        "adapter_init": {"max_workers": 5, "active_threads": 2, "queued_tasks": 0}}
        self.send(TEXT, wire.compact({
            "metrics": self.worker.metrics.json(), "adapters": breakers(self.worker), "thread_pools": thread_pools,
            "connections": {"websocket_clients": self.worker.metrics.websockets, "active_sessions": 0},
            "server_mode": {"adapters_available": True}}))
        self.timer = self.worker.loop.call_later(METRICS_EVERY_S, self.tell)

    def lost(self):
        super().lost()
        if self.timer is not None:
            self.timer.cancel()


class Voice(WebSocket):
    """Echoes what it is told; `{"type": "interrupt"}` is answered with `done`."""

    def received(self, opcode, message):
        if opcode == TEXT:
            try:
                told = json.loads(message)
            except ValueError:
                return self.send(TEXT, wire.compact({"type": "error", "message": "Invalid JSON"}))
            if isinstance(told, dict) and told.get("type") == "interrupt":
                return self.send(TEXT, wire.compact({"type": "done"}))
        self.send(opcode, message)
