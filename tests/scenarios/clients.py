"""Clients for scenarios: many streams at once, and a WebSocket."""

import base64
import hashlib
import json
import os
import struct
import threading
import time

from harness import Wire, chat, expect

ECHO = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Stream(threading.Thread):
    """One streamed chat in a thread. Afterwards: `status`, `events`, `times`, `whole` (its last chunk
    came), `error`."""

    def __init__(self, port, prompt="hello", session=None, request=None):
        super().__init__(daemon=True)
        self.port = port
        self.request = request or chat(prompt, session)
        self.status = self.began = self.ended = self.error = None
        self.events, self.times = [], []
        self.whole = False
        self.fields = {}
        self.request_id = threading.Event()
        self.first_token = threading.Event()
        self.stop_reading = False
        self.start()

    def run(self):
        self.began = time.monotonic()
        try:
            with Wire(self.port, timeout=30.0) as wire:
                wire.send(self.request)
                head = wire.head()
                self.status, self.fields = head.status, head.fields
                if head.fields.get("transfer-encoding") != "chunked":
                    wire.take(int(head.fields.get("content-length", 0)))
                    self.whole = True
                    return
                for at, event in wire.stream():
                    self.events.append(event)
                    self.times.append(at)
                    if b"request_id" in event:
                        self.request_id.set()
                    if b'"response"' in event or b'"content"' in event:
                        self.first_token.set()
                    if self.stop_reading:
                        return
                self.whole = True
        except (OSError, EOFError, ValueError) as error:
            self.error = error
        finally:
            self.ended = time.monotonic()

    def id(self):
        if not self.request_id.wait(10):
            raise AssertionError(f"no request id within 10 s (status {self.status}, {self.error})")
        return json.loads(self.events[0][6:])["request_id"]

    def finish(self, seconds=30):
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"a stream did not end within {seconds} s")
        return self

    @property
    def text(self):
        return b"".join(self.events)

    @property
    def done(self):
        return self.whole and b'"done": true' in self.text


def run_all(functions):
    """Runs them at once, each in a thread; returns their results in order, raises the first error."""
    results = [None] * len(functions)
    errors = []

    def call(index, function):
        try:
            results[index] = function()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=call, args=pair, daemon=True) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    return results


class WebSocket:
    """RFC 6455 as a client, without extensions."""

    def __init__(self, port, path, *fields):
        self.wire = Wire(port)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = "".join(f"{f}\r\n" for f in fields)
        self.wire.send(
            (
                f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{lines}\r\n"
            ).encode()
        )
        self.answer = self.wire.head()
        if self.answer.status == 101:
            accept = base64.b64encode(hashlib.sha1(key.encode() + ECHO).digest()).decode()
            expect("accept", self.answer.fields.get("sec-websocket-accept"), accept)
            expect("upgrade", self.answer.fields.get("upgrade", "").lower(), "websocket")

    def send(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        head = struct.pack("!B", 0x80 | opcode)
        head += (
            struct.pack("!B", 0x80 | size)
            if size < 126
            else struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
        )
        stretched = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
        self.wire.send(head + mask + masked)

    def receive(self):
        """(opcode, payload) of the next frame."""
        first, second = self.wire.take(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self.wire.take(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self.wire.take(8))[0]
        return first & 0x0F, self.wire.take(size)

    def message(self):
        opcode, payload = self.receive()
        expect("a text or binary frame", opcode, lambda o: o in (1, 2))
        return payload

    def close(self):
        self.wire.socket.close()
