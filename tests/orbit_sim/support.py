"""A simulator in a process of its own, and a client that sends and reads bytes as they are."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "tools", "orbit-sim")
KEY = "orbit_EXAMPLEKEY1xxxxxxxxxxxxxxxxxxxxx"
KEY2 = "orbit_EXAMPLEKEY2xxxxxxxxxxxxxxxxxxxxx"
VOICE_KEY = "orbit_VOICE" + "x" * 27

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tools"))


class Client:
    """One connection. Reads answers one by one; `closed()` and `silent()` say what comes beside them."""

    def __init__(self, port, timeout=10.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return data

    def take(self, size):
        while len(self.buffer) < size:
            if not self.more():
                raise EOFError(f"closed after {len(self.buffer)} of {size} bytes: {self.buffer[:200]!r}")
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise EOFError(f"closed before {mark!r}: {self.buffer[:300]!r}")
        return self.take(self.buffer.index(mark) + len(mark))

    def answer(self, head_only=False):
        """The bytes of the next answer, framing included."""
        head = self.until(b"\r\n\r\n")
        lower = head.lower()
        status = int(head.split(b" ", 2)[1])
        if head_only or status in (101, 204) or status < 200:
            return head
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while True:
                line = self.until(b"\r\n")
                body += line + self.take(int(line, 16) + 2)
                if int(line, 16) == 0:
                    return head + body
        if b"content-length:" in lower:
            return head + self.take(int(lower.split(b"content-length:")[1].split(b"\r\n")[0]))
        return head + self.rest()

    def events(self, count):
        """The next `count` SSE events of a chunked answer whose head has been read."""
        return [self.chunk() for _ in range(count)]

    def chunk(self):
        size = int(self.until(b"\r\n"), 16)
        data = self.take(size)
        self.take(2)
        return data

    def rest(self):
        """Everything to the end of the connection."""
        while self.more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def silent(self, seconds):
        """True when nothing comes, not even the end, for so long."""
        if self.buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            return bool(self.more()) and False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10.0)

    def ended(self, seconds=2.0):
        """'fin', 'rst', 'open' or 'data'."""
        if self.buffer:
            return "data"
        self.socket.settimeout(seconds)
        try:
            return "data" if self.more() else "fin"
        except TimeoutError:
            return "open"
        except ConnectionResetError:
            return "rst"
        finally:
            self.socket.settimeout(10.0)


def chat_request(prompt, stream=True, session="s", key=KEY, path="/v1/chat", extra="", **more):
    body = json.dumps({"messages": [{"role": "user", "content": prompt}], "stream": stream, **more})
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {key}\r\n"
            f"X-Session-ID: {session}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}").encode()


def request(method, path, body=b"", key=KEY, extra=""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        extra += "Content-Type: application/json\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n{extra}{length}\r\n".encode() + body


def split(answer):
    """(status, head, body) of an answer with a length."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, body


class Sim:
    """A running simulator. Everything it is asked goes through its control port."""

    def __init__(self, *options, environment=None):
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, "--port", "0", "--control-port", "0", *map(str, options)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        if not line.startswith("orbit-sim ready"):
            raise RuntimeError(f"orbit-sim did not start: {line!r}")
        words = dict(word.split("=", 1) for word in line.split()[2:])
        self.port, self.control_port, self.pid = int(words["port"]), int(words["control_port"]), int(words["pid"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def terminate(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def client(self, **options):
        return Client(self.port, **options)

    def control(self, method, path, body=None, expect=200):
        with Client(self.control_port) as client:
            client.send(request(method, "/__sim" + path, body if body is not None else b""))
            status, _, answer = split(client.answer())
        if status != expect:
            raise AssertionError(f"{method} /__sim{path} answered {status}: {answer!r}")
        return json.loads(answer)

    def set(self, **settings):
        return self.control("POST", "/settings", settings)

    def fault(self, kind, **fields):
        return self.control("POST", "/faults", {"kind": kind, **fields})["ids"][0]

    def clear(self):
        self.control("POST", "/reset", {"what": ["stats", "requests", "faults", "state"]})

    def stats(self):
        return self.control("GET", "/stats")

    def counts(self):
        return self.stats()["counts"]

    def ask(self, data):
        with self.client() as client:
            client.send(data)
            return split(client.answer())


def wait_for(condition, seconds=5.0):
    """Polls until true; the last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)
