"""Where connections come in and go out: several listeners, Unix sockets, IPv6, PROXY headers, systemd; and what is
believed of who says where it comes from."""

import os
import signal
import socket
import stat
import struct
import subprocess
import threading

import harness
from harness import Wire, expect, free_port, get, post, scenario, until

LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Place(Wire):
    """A client of any listener."""

    def __init__(self, address, family=None):
        family = family or (socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket = socket.socket(family)
        self.socket.settimeout(10)
        self.socket.connect(address)
        self.buffer = b""


def unix_listener(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    return listener


def block(command, family, rest):
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(rest)) + rest


@scenario(limit=60, weight=4)
def several_listeners_at_once(rig):
    worker = rig.worker()
    path = rig.folder / "p.sock"
    six = free_port()
    stale = unix_listener(path)  # the file of a process that is gone
    stale.close()
    places = [f'"[::1]:{six}"', f"{{address: 'unix:{path}', mode: 0660}}"]
    perigee = rig.perigee([worker], listeners=places)

    def everywhere():
        with Place(("::1", six), socket.AF_INET6) as wire:
            expect("IPv6", wire.ask(get("/six")).status, 200)
        with Place(str(path)) as wire:
            expect("Unix", wire.ask(get("/unix")).status, 200)
        expect("IPv4", perigee.ask(get("/four")).status, 200)

    everywhere()
    for target, client in (("/six", "::1"), ("/unix", "unix"), ("/four", "127.0.0.1")):
        expect(f"the log of {target}", perigee.line(path=target)["client"], client)
        seen = next(r for r in worker.requests if r.target == target)
        expect(f"told of {target}", seen.fields["x-forwarded-for"], client)
    expect("permissions", stat.S_IMODE(os.stat(path).st_mode), 0o660)

    perigee.reload()
    everywhere()
    kept = Place(str(path))
    expect("before the reload", kept.ask(get("/kept")).status, 200)
    perigee.reload()
    expect("after it, the same connection", kept.ask(get("/kept")).status, 200)
    kept.socket.close()

    perigee.signal(signal.SIGTERM)
    expect("status", perigee.wait(), 0)
    expect("the file is gone", path.exists(), False)


@scenario(weight=2)
def a_unix_socket_in_use_is_not_taken(rig):
    path = rig.folder / "p.sock"
    live = rig.keep(unix_listener(path))
    other = rig.folder / "notes.txt"
    other.write_text("dear diary")
    for place in (path, other):
        config = rig.folder / "c.yaml"
        config.write_text(f"listen: unix:{place}\nadmin: off\nworkers: [http://127.0.0.1:1]\n")
        done = subprocess.run([harness.PERIGEE, "--config", config], capture_output=True, text=True, timeout=10, check=False)
        expect("status", done.returncode, 1)
        expect("said", done.stderr, lambda text: "cannot listen" in text and "in use" in text)
    expect("the file", other.read_text(), "dear diary")
    expect("the socket", path.exists(), True)
    del live


@scenario(weight=2)
def workers_on_unix_sockets_and_ipv6(rig):
    path = rig.folder / "worker.sock"
    unix = rig.worker(listener=unix_listener(path))
    six = rig.worker(listener=socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=64))
    perigee = rig.perigee(
        [f"{{url: 'unix:{path}', name: u}}", f"{{url: 'http://[::1]:{six.port}', name: s}}"],
        "balancing: {picker: round_robin}\n",
    )
    until("both are up", lambda: perigee.backend("u")["up"] and perigee.backend("s")["up"])
    for number in range(8):
        expect("answer", perigee.ask(get(f"/{number}")).status, 200)
    expect("over the Unix socket", len(unix.requests), lambda n: n > 0)
    expect("over IPv6", len(six.requests), lambda n: n > 0)
    expect("both together", len(unix.requests) + len(six.requests), 8)


@scenario(limit=60, weight=4)
def proxy_headers_come_in_from_listed_peers_only(rig):
    worker = rig.worker()
    listed, others = free_port(), free_port()
    path = rig.folder / "p.sock"
    perigee = rig.perigee(
        [worker],
        "client: {head: 1s}\ntrusted: [203.0.113.9]\naccess_log: {flush: 50ms}\n",
        listeners=[
            f"{{address: '127.0.0.1:{listed}', proxy_protocol: {{from: 127.0.0.1}}}}",
            f"{{address: '127.0.0.1:{others}', proxy_protocol: {{from: [10.0.0.0/8]}}}}",
            f"{{address: 'unix:{path}', proxy_protocol: {{from: unix}}}}",
        ],
    )
    inet = socket.inet_aton("203.0.113.8") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 1, 2)
    inet6 = socket.inet_pton(socket.AF_INET6, "2001:db8::8") + bytes(16) + struct.pack("!HH", 1, 2)

    def good(where, header, client, target):
        with Place(where) as wire:
            wire.send(header[:5])
            wire.send(header[5:] + get(target))
            expect("status", wire.next_answer().status, 200)
            expect("and again", wire.ask(get(target + "/2")).status, 200)
        for name in (target, target + "/2"):
            expect("client in the log", perigee.line(path=name)["client"], client)
            seen = next(r for r in worker.requests if r.target == name)
            expect("client told", seen.fields["x-forwarded-for"], client)

    at = ("127.0.0.1", listed)
    rig.row("version 1", good, at, LINE, "203.0.113.7", "/v1")
    rig.row("version 2", good, at, block(0x21, 0x11, inet + b"\x04\0\x03abc"), "203.0.113.8", "/v2")
    rig.row("version 2, IPv6", good, at, block(0x21, 0x21, inet6), "2001:db8::8", "/v6")
    rig.row("unknown", good, at, b"PROXY UNKNOWN\r\n", "127.0.0.1", "/unknown")
    rig.row("local", good, at, block(0x20, 0, b""), "127.0.0.1", "/local")
    rig.row("over a Unix socket", good, str(path), LINE, "203.0.113.7", "/unix")

    def trust():
        with Place(at) as wire:
            header = LINE.replace(b"203.0.113.7", b"203.0.113.9")
            wire.send(header + get("/trusted", "X-Forwarded-For: 198.51.100.1"))
            expect("status", wire.next_answer().status, 200)
        expect("client", perigee.line(path="/trusted")["client"], "198.51.100.1")

    rig.row("trust follows the header's address", trust)

    def bad(data, ended=("fin", "rst")):
        before = len(worker.requests)
        with Place(at) as wire:
            wire.send(data)
            expect("ended", wire.ended(4.0), lambda how: how in ended)
        expect("requests", len(worker.requests), before)

    rig.row("a request without a header", bad, get("/none"))
    rig.row("a broken header", bad, b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n" + get("/broken"))
    rig.row("an endless header", bad, block(0x21, 0x11, bytes(60000)))
    rig.row("half a header", bad, LINE[:20])
    expect("counted", perigee.metric("perigee_proxy_headers_refused_total"), 4.0)

    def unlisted():
        with Place(("127.0.0.1", others)) as wire:
            answer = wire.ask(LINE + get("/unlisted"))
            expect("a header is no request", (answer.status, answer.reason), (400, "bad_request"))
        with Place(("127.0.0.1", others)) as wire:
            expect("a request is", wire.ask(get("/plain")).status, 200)

    rig.row("from a peer that is not listed", unlisted)


class Teller:
    """A worker that wants a PROXY header on each connection and answers with it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.seen = []
        self.bad = []
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with sock:
            data = b""
            header = None
            while True:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
                if header is None:
                    header, data = self.header(data)
                    if header is None:
                        continue
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    self.seen.append((header, b"perigee-probe" in head))
                    body = header.encode()
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def header(self, data):
        if data.startswith(b"PROXY ") and b"\r\n" in data:
            line, _, rest = data.partition(b"\r\n")
            return line.decode(), rest
        if data.startswith(SIGNATURE) and len(data) >= 16:
            size = struct.unpack("!H", data[14:16])[0]
            whole = data[12 : 16 + size]
            if whole[0] == 0x20:
                return "local", data[16 + size :]
            source, target = socket.inet_ntoa(whole[4:8]), socket.inet_ntoa(whole[8:12])
            ports = struct.unpack("!HH", whole[12:16])
            return f"{source} {target} {ports[0]} {ports[1]}", data[16 + size :]
        if not (b"PROXY ".startswith(data[:6]) or SIGNATURE.startswith(data[:12])):
            self.bad.append(data)
        return None, data


@scenario(limit=60, weight=4)
def proxy_headers_go_out_to_workers_that_want_them(rig):
    for version, form, nobody in (("v1", "PROXY TCP4 {} {} {} {}", "PROXY UNKNOWN"), ("v2", "{} {} {} {}", "local")):
        teller = rig.keep(Teller())
        perigee = rig.perigee([f"{{url: 'http://127.0.0.1:{teller.port}', kind: http, proxy_protocol: {version}}}"])
        with perigee.wire() as wire:
            port = wire.socket.getsockname()[1]
            for _ in range(3):
                answer = wire.ask(get("/a"))
                wanted = form.format("127.0.0.1", "127.0.0.1", port, perigee.port)
                expect("told", answer.body.decode(), wanted)
        with perigee.wire() as wire:
            port = wire.socket.getsockname()[1]
            expect("another client", str(port) in wire.ask(get("/b")).body.decode())
        expect("nothing without a header", teller.bad, [])
        expect("probes are for nobody", {h for h, probe in teller.seen if probe}, {nobody})
        expect("no connection is kept", perigee.metric("perigee_upstream_reuses_total"), 0.0)


@scenario(weight=2)
def traces_and_hops(rig):
    worker = rig.worker()
    perigee = rig.perigee([worker], "trusted: [127.0.0.1]\ntracing: {start: true}\n")
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    perigee.ask(get("/good", f"traceparent: {good}", "tracestate: a=b"))
    perigee.ask(get("/bad", "traceparent: 00-x", "tracestate: a=b"))
    perigee.ask(get("/hops", "X-Forwarded-For: 1.1.1.1, 198.51.100.7", "Forwarded: for=1.1.1.1"))
    seen = {r.target: r.fields for r in worker.requests}
    expect("passed", (seen["/good"]["traceparent"], seen["/good"]["tracestate"]), (good, "a=b"))
    expect("in the log", perigee.line(path="/good")["trace_id"], good[3:35])
    expect("replaced", seen["/bad"]["traceparent"], lambda t: t.startswith("00-") and len(t) == 55)
    expect("its state is gone", "tracestate" in seen["/bad"], False)
    expect("client", perigee.line(path="/hops")["client"], "198.51.100.7")
    expect("forwarded", seen["/hops"]["forwarded"], lambda f: f.startswith("for=1.1.1.1, for=127.0.0.1;"))
    expect("real", seen["/hops"]["x-real-ip"], "198.51.100.7")


@scenario(weight=3)
def an_operator_s_routes(rig):
    sim = rig.sim()
    open_to_all = rig.perigee([sim])
    done = subprocess.run(
        [harness.PERIGEE, "check", open_to_all.config], capture_output=True, text=True, timeout=10, check=False
    )
    expect("loopback is not the world", "OPEN" in done.stdout, False)
    world = rig.folder / "world.yaml"
    world.write_text("listen: 3000\nworkers: [http://127.0.0.1:3001]\n")
    done = subprocess.run([harness.PERIGEE, "check", world], capture_output=True, text=True, timeout=10, check=False)
    expect("check", done.stdout, lambda text: "OPEN" in text and "admin_routes: trusted" in text)

    closed = rig.perigee([sim], "admin_routes: trusted\n")
    answer = closed.ask(post("/admin/pause", {}, f"X-API-Key: {harness.support.KEY}", "Origin: http://page"))
    expect("status", (answer.status, answer.reason), (403, "forbidden"))
    expect("body", answer.json(), lambda body: "operators" in body["detail"])
    expect("readable for a page", answer.fields.get("access-control-allow-origin"), "*")
    expect("chats go on", closed.ask(harness.chat(stream=False)).status, 200)
    closed.write_config(more="admin_routes: trusted\ntrusted: [127.0.0.1]\n")
    closed.reload()
    answer = closed.ask(post("/admin/pause", {}, f"X-API-Key: {harness.support.KEY}"))
    expect("a trusted peer", answer.status, 200)


@scenario(weight=2)
def an_operator_s_routes_by_model(rig):
    """A route by `model` leads to ORBIT from the pool of another kind: it leads no client around `admin_routes`."""
    front, sim = rig.worker(), rig.sim(name="orbit")
    pools = (
        "pools: {front: {workers: [front]}, back: {workers: [orbit]}}\n"
        "routes: [{model: 'fake*', pool: back}, {path: '/*', pool: front}]\n"
    )
    perigee = rig.perigee(
        [f"{{url: 'http://127.0.0.1:{front.port}', kind: http, name: front}}", sim], f"{pools}admin_routes: trusted\n"
    )
    key = f"X-API-Key: {harness.support.KEY}"
    until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
    for path in ("/admin/pause", "/admin/%70ause", "/admin%2Fpause"):
        answer = perigee.ask(post(path, {"model": "fake-2"}, key))
        expect(path, (answer.status, answer.reason), (403, "forbidden"))
        expect("sent to workers", perigee.line(id=answer.fields["x-request-id"])["attempts"], 0)
    chat = {"model": "fake-2", "messages": [{"role": "user", "content": "hello"}]}
    answer = perigee.ask(post("/v1/chat/completions", chat, key, "X-Session-ID: s"))
    expect("chats go on", answer.status, 200)
    expect("as chats", perigee.line(id=answer.fields["x-request-id"])["class"], "chat")
    perigee.write_config(more=f"{pools}admin_routes: trusted\ntrusted: [127.0.0.1]\n")
    perigee.reload()
    expect("a trusted peer", perigee.ask(post("/admin/pause", {"model": "fake-2"}, key)).status, 200)


class Manager:
    """systemd's side of sd_notify."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)
        self.heard = []

    def close(self):
        self.socket.close()

    def next(self, *but):
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            if lines[0] not in but:
                return lines


@scenario(limit=60, weight=5)
def systemd_hears_of_every_step(rig):
    worker = rig.worker()

    def told(address, name):
        manager = rig.keep(Manager(address))
        perigee = rig.perigee([worker], environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"})
        expect("first", manager.next("WATCHDOG=1")[0], "READY=1")
        expect("alive", [manager.next()[0] for _ in range(3)], ["WATCHDOG=1"] * 3)
        perigee.reload()
        lines = manager.next("WATCHDOG=1")
        expect("reloading", (lines[0], lines[1].split("=")[0]), ("RELOADING=1", "MONOTONIC_USEC"))
        expect("ready again", manager.next("WATCHDOG=1"), ["READY=1", "STATUS="])
        perigee.write_config(text="nonsense: 1\n")
        perigee.reload(succeeds=False)
        expect("reloading", manager.next("WATCHDOG=1")[0], "RELOADING=1")
        expect("still ready", manager.next("WATCHDOG=1"), lambda l: l[0] == "READY=1" and "failed" in l[1])
        perigee.signal(signal.SIGTERM)
        expect("stopping", manager.next("WATCHDOG=1"), ["STOPPING=1"])
        expect("status", perigee.wait(), 0)

    path = str(rig.folder / "notify.sock")
    rig.row("by a path", told, path, path)
    name = f"perigee-test-{os.getpid()}"
    rig.row("by an abstract name", told, "\0" + name, "@" + name)


@scenario(limit=60, weight=4)
def sockets_that_systemd_opened(rig):
    worker = rig.worker()
    port, path = free_port(), rig.folder / "passed.sock"
    by_address = rig.keep(socket.create_server(("127.0.0.1", port)))
    by_name = rig.keep(unix_listener(path))
    unwanted = rig.keep(socket.create_server(("127.0.0.1", 0)))
    waiting = Place(("127.0.0.1", port))  # connected before there is a program
    waiting.send(get("/early"))
    perigee = rig.perigee(
        [worker],
        listeners=[f"127.0.0.1:{port}", "systemd:web"],
        passed=[("perigee.socket", by_address), ("web", by_name), ("other", unwanted)],
    )
    expect("served from the queue", waiting.next_answer().status, 200)
    with Place(str(path)) as wire:
        expect("by name", wire.ask(get("/named")).status, 200)
    expect("said", perigee.log(), lambda text: "fits no `listen`" in text and "other" in text)
    perigee.signal(signal.SIGTERM)
    expect("status", perigee.wait(), 0)
    expect("its file is not ours to remove", path.exists(), True)
    with Place(("127.0.0.1", port)):
        pass  # the socket is still open, in systemd's hands

    config = rig.folder / "missing.yaml"
    config.write_text("listen: systemd:web\nadmin: off\nworkers: [http://127.0.0.1:1]\n")
    done = subprocess.run(
        [harness.PERIGEE, "--config", config],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "web"},
    )
    expect("not for us", (done.returncode, "no socket of this name" in done.stderr), (1, True))
