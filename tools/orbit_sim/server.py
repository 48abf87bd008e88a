"""uvicorn's conduct on raw connections: one request at a time, pipelining, keep-alive, 100-continue, draining.

A Connection reads and parses; an Exchange is one request and its answer. Requests that are whole go to the worker,
which answers through the exchange, perhaps much later. All on the one event loop.
"""

import asyncio
import re
import socket
import struct

from . import http, wire
from .faults import latin

PIPELINE_LIMIT = 64 * 1024  # bytes read ahead while an answer is running


class Exchange:
    """One request and its answer. After `gone` everything written is dropped."""

    __slots__ = ("connection", "worker", "method", "path", "target", "query", "fields", "version", "body", "keep_alive",
                 "whole_at", "began_at", "fault", "late", "head_sent", "ended", "gone", "chat", "endpoint", "entry",
                 "status", "counted")

    def __init__(self, connection, head):
        self.connection = connection
        self.worker = connection.worker
        self.method = head.method
        self.path = head.path
        self.target = head.target
        self.query = head.query
        self.fields = head.fields
        self.version = head.version
        self.keep_alive = head.keep_alive
        self.body = b""
        self.whole_at = self.began_at = 0.0
        self.fault = None
        self.late = b""      # header lines that the outermost middleware adds
        self.head_sent = False
        self.ended = False
        self.gone = False
        self.chat = None     # the model's task that wants to know of a departure
        self.endpoint = None
        self.entry = None
        self.status = 0
        self.counted = False

    def field(self, name):
        return self.fields.get(name, b"").decode("latin-1")

    # --- whole answers ---

    def answer(self, status, value):
        body = wire.compact(value)
        self.respond(status, b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body), body)

    def answer_text(self, status, text, bare=False, extra=b""):
        body = text.encode()
        self.respond(status, b"%bcontent-length: %d\r\ncontent-type: text/plain; charset=utf-8\r\n" % (extra, len(body)),
                     body, bare)

    def respond(self, status, fields, body=b"", bare=False):
        """`bare`: none of the header fields that the inner middleware adds."""
        if self.gone or self.ended:
            self.end()
            return
        fault = self.fault
        if fault is not None:
            if fault.kind == "both_lengths":
                fields += b"transfer-encoding: chunked\r\n"
                body = wire.chunk(body) + wire.LAST_CHUNK
            elif fault.kind == "wrong_length":
                fields = re.sub(rb"content-length: (\d+)",
                                lambda match: b"content-length: %d" % max(int(match[1]) + fault.delta, 0), fields)
        head = self.make_head(status, fields, bare, b"")
        if self.method == "HEAD":
            body = b""
        self.head_sent = True
        self.status = status
        if fault is not None and fault.kind == "reset" and fault.when == "events":
            self.connection.write(head + body[:len(body) // 2])
            self.worker.loop.call_later(0.02, self.connection.drop, fault.how)
            self.ended = True
            return
        self.connection.write(head + body)
        self.end()

    def make_head(self, status, fields, bare, framing):
        inner = b"" if bare else wire.SECURITY + (wire.CORS if "origin" in self.fields else b"") + wire.VARY
        close = b"" if self.keep_alive else b"Connection: close\r\n"
        return b"".join((wire.status_line(status), fields, inner, self.late, framing, close, b"\r\n"))

    # --- answers in pieces ---

    def start_stream(self, fields):
        """The head of an answer whose length is not known."""
        if self.gone:
            return
        self.head_sent = True
        self.status = 200
        chunked = self.version == b"1.1"
        if not chunked:
            self.keep_alive = False
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        if self.fault is not None and self.fault.kind == "both_lengths":
            framing = b"content-length: 100\r\n" + framing
        self.connection.write(self.make_head(200, fields, False, framing))
        self.worker.metrics.observe(self)

    def send(self, data):
        if not self.gone:
            self.connection.write(wire.chunk(data) if self.version == b"1.1" else data)

    def end_stream(self):
        if not self.gone and not self.ended:
            if self.fault is not None and self.fault.kind == "no_last_chunk":
                self.ended = True
                self.connection.drop("fin")
                return
            if self.version == b"1.1":
                self.connection.write(wire.LAST_CHUNK)
        self.end()

    def end(self):
        if self.ended:
            return
        self.ended = True
        self.worker.metrics.observe(self)
        self.worker.exchange_ended(self)
        self.connection.exchange_ended(self)


class Connection(asyncio.Protocol):
    """`control_only`: on the control port, where nothing but /__sim is known."""

    __slots__ = ("worker", "control_only", "transport", "write", "buffer", "scanned", "exchange", "reading", "chunks",
                 "missing", "idle_since", "filed", "websocket", "number", "peer", "dead", "deaf", "paused", "control",
                 "body", "trickle")

    def __init__(self, worker, control_only=False):
        self.worker = worker
        self.control_only = control_only
        self.transport = None
        self.buffer = bytearray()
        self.scanned = 0
        self.exchange = None    # the one that is being read or answered
        self.reading = False    # its body is not whole
        self.chunks = None
        self.missing = 0
        self.idle_since = None  # set between exchanges
        self.filed = False      # in the worker's list of keep-alive deadlines
        self.websocket = None
        self.dead = False
        self.deaf = False
        self.paused = False
        self.control = control_only
        self.body = None
        self.trickle = None

    # --- asyncio's side ---

    def connection_made(self, transport):
        self.transport = transport
        self.write = transport.write
        self.peer = transport.get_extra_info("peername") or ("", 0)
        self.number = self.worker.connection_made(self)
        fault = None if self.control_only else self.worker.faults.take("connect")
        if fault is not None:
            self.worker.stats.faults += 1
            if fault.kind == "hang_connect":
                self.deaf = True
                transport.pause_reading()
            elif fault.kind == "reset":
                self.drop(fault.how)
            else:
                self.write(latin(fault.bytes))

    def connection_lost(self, error):
        self.dead = True
        self.worker.connection_lost(self)
        if self.websocket is not None:
            self.websocket.lost()
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.gone = True
            if self.reading:
                exchange.ended = True
            elif exchange.chat is not None:
                self.worker.client_left(exchange)
            else:
                self.worker.abandon(exchange)

    def pause_writing(self):
        self.paused = True
        if self.exchange is not None and self.exchange.chat is not None:
            self.exchange.chat.stalled = True

    def resume_writing(self):
        self.paused = False
        if self.exchange is not None and self.exchange.chat is not None:
            self.worker.driver.resume(self.exchange.chat)

    def data_received(self, data):
        if self.deaf or self.dead:
            return
        if self.websocket is not None:
            self.websocket.feed(data)
            return
        self.buffer += data
        self.proceed()

    # --- reading ---

    def proceed(self):
        try:
            while self.buffer and not self.dead:
                if self.exchange is None:
                    if not self.read_head():
                        return
                elif self.reading:
                    if not self.read_body():
                        return
                else:
                    if len(self.buffer) > PIPELINE_LIMIT:
                        self.transport.pause_reading()
                    return
        except http.Malformed:
            self.worker.stats.malformed += 1
            if self.exchange is not None:
                self.exchange.ended = True
                if self.exchange.entry is not None:
                    self.exchange.entry["malformed"] = True
            self.exchange = None
            self.buffer.clear()
            self.deaf = True
            self.write(wire.MALFORMED)
            self.transport.close()

    def read_head(self):
        end = http.find_end(self.buffer, self.scanned)
        if end < 0:
            if self.buffer[0] < 0x21 and self.buffer[0] not in b"\r\n" or len(self.buffer) > http.HEAD_LIMIT:
                raise http.Malformed
            self.scanned = len(self.buffer)
            return False
        raw = bytes(self.buffer[:end])
        del self.buffer[:end]
        self.scanned = 0
        self.idle_since = None
        head = http.parse_head(raw)
        exchange = self.exchange = Exchange(self, head)
        exchange.began_at = self.worker.clock()
        self.control = self.control_only or head.path == "/__sim" or head.path.startswith("/__sim/")
        if not self.control:
            exchange.entry = self.worker.log_request(exchange, raw)
            fault = self.worker.faults.take("head", exchange.method, exchange.path)
            if fault is not None and not self.early(fault):
                return False
        self.chunks = http.ChunkReader() if head.chunked else None
        self.missing = head.length
        self.body = bytearray()
        self.reading = head.chunked or head.length > 0
        if not self.reading:
            self.whole()
        elif exchange.field("expect").lower() == "100-continue" and head.version == b"1.1" and not self.buffer:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def early(self, fault):
        """A fault that strikes at the head. True: the request is read on."""
        self.worker.stats.faults += 1
        if fault.kind == "reset":
            self.drop(fault.how)
            return False
        body = latin(fault.body)
        self.exchange.keep_alive = not fault.close
        head = self.exchange.make_head(fault.status, b"content-length: %d\r\ncontent-type: text/plain; charset=utf-8\r\n"
                                       % len(body), False, b"")
        self.write(head + body)
        self.exchange.ended = True
        self.deaf = True  # the rest of the request stays unread, and nothing more is ever answered here
        self.exchange = None
        self.buffer.clear()
        if fault.close:
            self.transport.close()
        return False

    def read_body(self):
        if self.chunks is not None:
            whole = self.chunks.feed(self.buffer, self.body)
        else:
            taken = min(self.missing, len(self.buffer))
            self.body += self.buffer[:taken]
            del self.buffer[:taken]
            self.missing -= taken
            whole = self.missing == 0
        if whole:
            self.reading = False
            self.whole()
        return whole

    def whole(self):
        exchange = self.exchange
        exchange.body, self.body = bytes(self.body), None
        exchange.whole_at = self.worker.clock()
        if self.control:
            self.worker.control.handle(exchange)
        else:
            self.worker.log_whole(exchange)
            self.worker.dispatch(exchange)

    # --- after an answer ---

    def exchange_ended(self, exchange):
        if self.dead or self.exchange is not exchange:
            return
        self.exchange = None
        fault = exchange.fault
        if fault is not None and self.after(fault):
            return
        if not exchange.keep_alive or (self.worker.draining and not self.control):
            self.deaf = True
            self.close_when_written()
            return
        self.idle_since = self.worker.clock()
        if not self.filed:
            self.worker.file_keep_alive(self)
        if self.trickle is None:
            self.transport.resume_reading()
        if self.buffer:
            self.worker.loop.call_soon(self.proceed)

    def after(self, fault):
        """Faults that strike when the answer is complete. True: this connection is finished."""
        if fault.kind == "reset" and fault.when == "idle":
            self.worker.loop.call_later(0.005, self.drop, fault.how)
        elif fault.kind == "unsolicited":
            if fault.delay_ms > 0:
                self.worker.loop.call_later(fault.delay_ms * 1e-3, self.write_late, latin(fault.bytes))
            else:
                self.write(latin(fault.bytes))
        return False

    def write_late(self, data):
        if not self.dead:
            self.write(data)

    def start_trickle(self, fault):
        """From now on what is written leaves in small pieces."""
        self.trickle = bytearray()
        self.write = self.trickle.extend
        self.trickle_on(max(int(fault.bytes), 1), max(fault.every_ms, 1) * 1e-3)

    def trickle_on(self, size, pause):
        if self.dead:
            return
        if self.trickle:
            self.transport.write(bytes(self.trickle[:size]))
            del self.trickle[:size]
        elif self.exchange is None:  # all is out
            self.trickle = None
            self.write = self.transport.write
            if self.deaf:
                self.transport.close()
            return
        self.worker.loop.call_later(pause, self.trickle_on, size, pause)

    def close_when_written(self):
        if self.trickle is None:
            self.transport.close()

    def drop(self, how):
        """FIN or RST, whatever is still to be written."""
        if self.dead:
            return
        self.deaf = True
        if how == "rst":
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
