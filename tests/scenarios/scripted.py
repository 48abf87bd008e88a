"""A worker that does exactly what its script says, byte for byte, and remembers every byte that it was sent.

Probes of perigee (it names itself in User-Agent) are answered as an ORBIT worker would, or as the scenario wants, and
kept apart: whatever else arrives is traffic.
"""

import re
import socket
import struct
import threading
import time

READY = b'{"ready":true,"healthy_ratio":1.0,"healthy_adapters":2,"total_adapters":2}'


def whole(body=b"ok", status=200, *fields):
    """A plain answer with its length."""
    lines = "".join(f"{f}\r\n" for f in fields)
    return (
        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%b\r\n" % (status, len(body), lines.encode("latin-1")) + body
    )


def events(*texts):
    """An SSE answer in chunks, with its last chunk."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(chunk(event(t)) for t in texts) + b"0\r\n\r\n"


def event(text):
    return b"data: " + text.encode() + b"\n\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


class Request:
    def __init__(self, raw_head, connection, began):
        self.raw_head = raw_head
        self.connection = connection
        self.at = began
        lines = raw_head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.method, self.target = self.line.split(" ")[:2]
        self.fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.fields.setdefault(name.lower(), value.strip())
        self.body = b""


class Connection:
    """The worker's side of one connection, in a thread of its own."""

    def __init__(self, worker, sock, number):
        self.worker = worker
        self.socket = sock
        self.number = number
        self.buffer = b""
        self.received = b""
        self.ended = None  # "fin" or "rst" when the other side went
        self.ended_at = None
        self.opened_at = time.monotonic()
        self.probe = False

    def more(self):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            if self.ended is None:
                self.ended, self.ended_at = (
                    "rst" if isinstance(error, ConnectionResetError) else "closed"
                ), time.monotonic()
            return b""
        if not data and self.ended is None:
            self.ended, self.ended_at = "fin", time.monotonic()
        self.buffer += data
        self.received += data
        return data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def read_body(self, request):
        if request.fields.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = self.take_line()
                if line is None:
                    return False
                size = int(line, 16)
                data = self.take(size + 2)
                if data is None:
                    return False
                request.body += data[:size]
                if size == 0:
                    return True
        size = int(request.fields.get("content-length", "0"))
        data = self.take(size)
        if data is None:
            return False
        request.body = data
        return True

    def take(self, size):
        while len(self.buffer) < size:
            if not self.more():
                return None
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def take_line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                return None
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def send(self, data):
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def fin(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self):
        """Closes with RST."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self.socket.close()

    def drain(self):
        while self.more():
            pass

    def run(self):
        try:
            self.serve()
        except OSError:
            pass
        finally:
            self.socket.close()

    def serve(self):
        while not self.worker.closing:
            head = self.read_head()
            if head is None:
                return
            request = Request(head, self, time.monotonic())
            if request.fields.get("user-agent") == "perigee-probe":
                self.probe = True
                self.worker.answer_probe(self, request)
                continue
            self.worker.note(request)
            if self.worker.read_bodies and not self.read_body(request):
                return
            if self.worker.script(self, request) == "end":
                self.drain()
                return


class Worker:
    """`script(connection, request)` is called for each request, with its body unless `read_bodies` is off;
    what it
    returns: None = the next request may come, "end" = read and remember until the other side closes."""

    def __init__(
        self, script=None, name=None, read_bodies=True, probes=True, port=0, orbit=True, tls=None, listener=None
    ):
        self.script = script or (lambda connection, request: connection.send(whole()) and None)
        self.name = name
        self.read_bodies = read_bodies
        self.probes = (
            probes  # False: probes are never answered; an event: when it is set; bytes: this is the answer
        )
        self.orbit = orbit
        self.tls = tls  # an ssl.SSLContext
        self.requests = []
        self.connections = []
        self.lock = threading.Lock()
        self.closing = False
        self.listener = listener or socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.probed = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        if self.tls:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        with self.lock:
            connection = Connection(self, sock, len(self.connections))
            self.connections.append(connection)
        connection.run()

    def note(self, request):
        with self.lock:
            self.requests.append(request)

    def answer_probe(self, connection, request):
        self.probed += 1
        if isinstance(self.probes, threading.Event):
            self.probes.wait(15)
        if self.probes is False:
            return
        if isinstance(self.probes, bytes):
            connection.send(self.probes)
        elif not self.orbit:
            connection.send(whole(b"not found", 404))
        elif request.target.startswith("/health/ready"):
            connection.send(whole(READY, 200, "content-type: application/json"))
        elif request.target.startswith("/health"):
            connection.send(whole(b'{"status":"ok"}', 200, "content-type: application/json"))
        else:
            connection.send(whole(b"", 404))

    def traffic(self):
        """Every byte that was not a probe's, connection by connection, without the empty ones."""
        with self.lock:
            return [
                c.received
                for c in self.connections
                if c.received
                and not re.match(
                    rb"GET \S+ HTTP/1\.1\r\n(?:[^\r]+\r\n)*User-Agent: perigee-probe", c.received
                )
            ]

    def clients(self):
        """Connections that are not the prober's."""
        with self.lock:
            return [c for c in self.connections if c.received and not c.probe]

    def stop_listening(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def close(self):
        self.closing = True
        try:
            self.stop_listening()
        except OSError:
            pass
        with self.lock:
            for connection in self.connections:
                connection.close()
