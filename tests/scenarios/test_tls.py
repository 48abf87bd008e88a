"""TLS towards clients and towards workers: who is let in, what certificates are shown, what a cut looks like."""

import hashlib
import shutil
import socket
import ssl
import subprocess
import time

import harness
from harness import ROOT, Wire, chat, expect, get, post, scenario, until
from scripted import chunk, whole

DATA = ROOT / "tests" / "data" / "tls"


def file(name):
    return str(DATA / name)


def pair(name, key=None):
    return f"{{cert: '{file(name + '.pem')}', key: '{file((key or name) + '.key')}'}}"


ONE = f"{{certificates: [{pair('server')}]}}"
TWO = f"{{certificates: [{pair('server')}, {pair('other')}]}}"


def trusting(ca="ca.pem", shows=None, alpn=None, least=None, most=None):
    """What a client trusts, shows and speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file(ca))
    if shows:
        context.load_cert_chain(file(shows + ".pem"), file(shows + ".key"))
    if alpn:
        context.set_alpn_protocols(alpn)
    if least:
        context.minimum_version = least
    if most:
        context.maximum_version = most
    return context


def serving(name="server", clients_ca=None):
    """What a worker shows and asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file(name + ".pem"), file(name + ".key"))
    if clients_ca:
        context.load_verify_locations(file(clients_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsWire(Wire):
    """A raw connection to perigee, under TLS."""

    def __init__(self, port, context=None, name="orbit.test", timeout=10.0, session=None):
        plain = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        try:
            self.socket = (context or trusting()).wrap_socket(plain, server_hostname=name, session=session)
        except BaseException:
            plain.close()
            raise
        self.buffer = b""

    def shown(self):
        """The certificate of the other side, as PEM."""
        return ssl.DER_cert_to_PEM_cert(self.socket.getpeercert(binary_form=True))


def first_certificate(name):
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert((DATA / name).read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n"))


def refused(function):
    """The error with which TLS refuses."""
    try:
        function()
    except (ssl.SSLError, ConnectionResetError, EOFError) as error:
        return error
    raise AssertionError("was let in")


def handshakes(perigee, side, kind):
    return perigee.metric("perigee_tls_handshakes_total", side=side, kind=kind)


def failures(perigee, side, reason):
    return perigee.metric("perigee_tls_handshake_failures_total", side=side, reason=reason)


@scenario(weight=3)
def requests_over_tls(rig):
    big = bytes(range(256)) * 4096 * 5

    def script(connection, request):
        if request.target == "/big":
            connection.send(whole(big))
        elif request.target == "/digest":
            connection.send(whole(hashlib.sha256(request.body).hexdigest().encode()))
        else:
            connection.send(whole(b"ok"))

    worker = rig.worker(script)
    perigee = rig.perigee([worker], tls=ONE)

    def forwarded():
        with TlsWire(perigee.tls_port) as wire:
            expect("first", wire.ask(get("/docs?tls")).status, 200)
            expect("second on the same connection", wire.ask(get("/docs?tls2", "X-Forwarded-Proto: http")).status, 200)
        perigee.ask(get("/docs?plain"))
        schemes = {r.target: r.fields["x-forwarded-proto"] for r in worker.requests}
        expect("schemes", schemes, {"/docs?tls": "https", "/docs?tls2": "https", "/docs?plain": "http"})

    def large():
        with TlsWire(perigee.tls_port) as wire:
            expect("down", wire.ask(get("/big")).body == big)
            body = big[:6_000_000]
            answer = wire.ask(post("/digest", body))
            expect("up", answer.body.decode(), hashlib.sha256(body).hexdigest())

    def slow_reader():
        with TlsWire(perigee.tls_port) as wire:
            wire.send(get("/big"))
            time.sleep(0.5)
            expect("whole", wire.next_answer().body == big)

    def versions():
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            with TlsWire(perigee.tls_port, trusting(least=version, most=version)) as wire:
                expect("version", wire.socket.version(), name)
                expect("forward secrecy", wire.socket.cipher()[0], lambda c: "ECDHE" in c or c.startswith("TLS_"))
                expect("compression", wire.socket.compression(), None)
                expect("served", wire.ask(get("/docs")).status, 200)

    def old_version():
        context = trusting(least=ssl.TLSVersion.TLSv1, most=ssl.TLSVersion.TLSv1_1)
        context.set_ciphers("ALL:@SECLEVEL=0")
        refused(lambda: TlsWire(perigee.tls_port, context))
        expect("counted", failures(perigee, "client", "version"), 1)

    def alpn():
        with TlsWire(perigee.tls_port, trusting(alpn=["h2", "http/1.1"])) as wire:
            expect("chosen", wire.socket.selected_alpn_protocol(), "http/1.1")
        with TlsWire(perigee.tls_port) as wire:
            expect("not asked", wire.socket.selected_alpn_protocol(), None)
        refused(lambda: TlsWire(perigee.tls_port, trusting(alpn=["h2"])))
        expect("counted", failures(perigee, "client", "protocol"), 1)

    def closing():
        # An end in good order says so: Python raises where close_notify is missing.
        with TlsWire(perigee.tls_port) as wire:
            wire.socket.suppress_ragged_eofs = False
            wire.send(get("/docs", "Connection: close"))
            wire.next_answer()
            expect("ended", wire.socket.recv(10), b"")

    for title, function in [
        ("the worker sees https", forwarded),
        ("five megabytes down, six up", large),
        ("a slow reader", slow_reader),
        ("1.2 and 1.3", versions),
        ("1.1 is refused", old_version),
        ("ALPN is http/1.1 only", alpn),
        ("the last answer ends with close_notify", closing),
    ]:
        rig.row(title, function)
    expect("counted", handshakes(perigee, "client", "full"), lambda n: n >= 8)


@scenario(weight=3)
def streams_over_tls(rig):
    perigee = rig.perigee([rig.sim(name="w")], tls=ONE)
    with TlsWire(perigee.tls_port) as wire:
        wire.send(chat("[[n=20 gap=10]]"))
        expect("status", wire.head().status, 200)
        events = list(wire.stream())
        expect("whole", b'"done": true' in events[-1][1])
        spread = events[-1][0] - events[0][0]
        expect("as they come", spread, lambda s: s > 0.1)
    # A client that leaves stops its stream.
    with TlsWire(perigee.tls_port) as wire:
        wire.send(chat("[[n=200 gap=50]]"))
        wire.head()
        wire.chunk()
    until("the slot is free", lambda: perigee.backend("w")["in_flight"] == 0)


@scenario(weight=2)
def certificates_by_name(rig):
    perigee = rig.perigee([rig.worker()], tls=TWO)
    for asked, shown in [
        ("orbit.test", "server.pem"),
        ("other.test", "other.pem"),
        ("OTHER.test", "other.pem"),
        ("a.wild.test", "other.pem"),
        ("b.a.wild.test", "server.pem"),
        ("nobody.test", "server.pem"),
        (None, "server.pem"),
    ]:

        def one(asked=asked, shown=shown):
            context = trusting()
            context.check_hostname = False
            with TlsWire(perigee.tls_port, context, asked) as wire:
                expect("certificate", wire.shown(), first_certificate(shown))
                expect("served", wire.ask(get("/docs")).status, 200)

        rig.row(f"asked for {asked}", one)


@scenario(weight=3)
def certificates_of_clients(rig):
    worker = rig.worker()
    ca = file("clients-ca.pem")

    def asked(perigee, shows):
        with TlsWire(perigee.tls_port, trusting(shows=shows)) as wire:
            answer = wire.ask(get("/docs"))
        expect("status", answer.status, 200)

    required = rig.perigee([worker], tls=ONE[:-1] + f", client_ca: '{ca}', client_auth: required}}")
    rig.row("required, good", asked, required, "client")
    rig.row("required, none", lambda: refused(lambda: asked(required, None)))
    rig.row("required, a stranger's", lambda: refused(lambda: asked(required, "stranger")))
    expect(
        "counted",
        [failures(required, "client", r) for r in ("certificate_missing", "certificate_untrusted")],
        [1, 1],
    )
    expect("logged", "certificate_missing" in required.log() and "peer=127.0.0.1" in required.log())
    optional = rig.perigee([worker], tls=ONE[:-1] + f", client_ca: '{ca}', client_auth: optional}}")
    rig.row("optional, good", asked, optional, "client")
    rig.row("optional, none", asked, optional, None)
    rig.row("optional, a stranger's", lambda: refused(lambda: asked(optional, "stranger")))
    told = [name for r in worker.requests for name in r.fields if "cert" in name or "ssl" in name]
    expect("the worker is told nothing of it", told, [])


@scenario(weight=4)
def what_is_no_handshake(rig):
    perigee = rig.perigee([rig.worker()], "client: {head: 700ms}\n", tls=ONE)

    def plain_http():
        with Wire(perigee.tls_port) as wire:
            wire.send(get("/health"))
            rest = wire.rest()
            expect("an alert at most", len(rest), lambda n: n < 20)
        until("counted", lambda: failures(perigee, "client", "not_tls") == 1)

    def stalled():
        with Wire(perigee.tls_port) as wire:
            wire.send(b"\x16\x03\x01\x02")
            began = time.monotonic()
            expect("ended", wire.ended(5) in ("fin", "rst"))
            expect("by the clock of heads", time.monotonic() - began, lambda s: 0.5 < s < 3)
        until("counted", lambda: failures(perigee, "client", "timeout") == 1)

    def silent():
        with Wire(perigee.tls_port) as wire:
            expect("ended", wire.ended(5) in ("fin", "rst"))
        expect("not counted", failures(perigee, "client", "timeout"), 1)

    def leaves():
        with Wire(perigee.tls_port) as wire:
            wire.send(b"\x16\x03\x01\x02\x00\x01")
        until("counted", lambda: failures(perigee, "client", "closed") == 1)

    def many():
        for _ in range(50):
            with Wire(perigee.tls_port) as wire:
                wire.send(b"GET / HTTP/1.1\r\n\r\n")
                wire.rest()
        until("all counted", lambda: failures(perigee, "client", "not_tls") == 51)
        expect("few lines of log", perigee.log().count("result=not_tls"), lambda n: 1 <= n <= 3)

    rig.row("plain HTTP", plain_http)
    rig.row("a handshake that stalls", stalled)
    rig.row("a connection that says nothing", silent)
    rig.row("a client that leaves", leaves)
    rig.row("many of them", many)
    with TlsWire(perigee.tls_port) as wire:
        expect("others are served", wire.ask(get("/docs")).status, 200)


@scenario(weight=3)
def sessions_are_resumed(rig):
    perigee = rig.perigee([rig.worker()], "io_threads: 2\n", tls=ONE)

    def session(context, of=None):
        with TlsWire(perigee.tls_port, context, session=of) as wire:
            expect("served", wire.ask(get("/docs")).status, 200)
            return wire.socket.session, wire.socket.session_reused

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):

        def one(version=version):
            context = trusting(least=version, most=version)
            ticket, reused = session(context)
            expect("first", reused, False)
            # On whatever loop it falls, with others on both.
            with perigee.wire():
                for _ in range(4):
                    ticket, reused = session(context, ticket)
                    expect("again", reused, True)
            perigee.reload()
            ticket, reused = session(context, ticket)
            expect("after a reload", reused, True)

        rig.row(version.name, one)
    expect("counted", handshakes(perigee, "client", "resumed"), 10)


@scenario(limit=60, weight=5)
def a_reload_reads_certificates_again(rig):
    folder = rig.folder
    for name in ("pem", "key"):
        shutil.copy(file(f"server.{name}"), folder / f"mine.{name}")
    mine = f"{{certificates: [{{cert: '{folder}/mine.pem', key: '{folder}/mine.key'}}]}}"
    sim = rig.sim(name="w")
    perigee = rig.perigee([sim], tls=mine)
    context = trusting()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def shown():
        with TlsWire(perigee.tls_port, context) as wire:
            expect("served", wire.ask(get("/health")).status, 200)
            return wire.shown()

    def put(cert, key):
        shutil.copy(file(cert), folder / "mine.pem")
        shutil.copy(file(key), folder / "mine.key")

    kept = rig.keep(TlsWire(perigee.tls_port, context).socket)
    kept_wire = TlsWire.__new__(TlsWire)
    kept_wire.socket, kept_wire.buffer = kept, b""
    stream = TlsWire(perigee.tls_port, context)
    rig.keep(stream.socket)
    stream.send(chat("[[n=60 gap=50]]"))
    stream.head()
    stream.chunk()

    def new_ones():
        put("other.pem", "other.key")
        perigee.reload()
        expect("new connections see the new one", shown(), first_certificate("other.pem"))
        expect("a kept connection goes on", kept_wire.ask(get("/health")).status, 200)
        expect("the log is silent about restarts", "needs_restart=true" not in perigee.log())

    def bad(cert, key, names, says):
        def one():
            put("other.pem", "other.key")
            if cert is None:
                (folder / "mine.pem").unlink()
            else:
                put(cert, key)
            perigee.reload(succeeds=False)
            status = perigee.page("status")["reloads"]["last_error"]
            expect("why", status, lambda t: f"mine.{names}" in t and says in t and "listen[1].tls" in t)
            expect("in the log", f"mine.{names}" in perigee.log())
            expect("nothing changed", shown(), first_certificate("other.pem"))
            checked = subprocess.run(
                [harness.PERIGEE, "check", str(perigee.config)], capture_output=True, text=True, check=False
            )
            expect("`check` says so too", checked.returncode == 1 and says in checked.stderr)

        return one

    def expired():
        put("expired.pem", "expired.key")
        perigee.reload()
        expect("warned", "the certificate has expired" in perigee.log())
        expect("used", shown(), first_certificate("expired.pem"))
        expect("told", perigee.metric("perigee_tls_certificate_expiry_timestamp_seconds"), 978307200)
        checked = subprocess.run(
            [harness.PERIGEE, "check", str(perigee.config)], capture_output=True, text=True, check=False
        )
        expect("`check` warns", checked.returncode == 0 and "has expired" in checked.stdout)

    def other_settings():
        put("server.pem", "server.key")
        perigee.write_config(tls=mine[:-1] + ", min_version: '1.3'}")
        perigee.reload()
        refused(lambda: TlsWire(perigee.tls_port, trusting(most=ssl.TLSVersion.TLSv1_2)))
        expect("the certificate", shown(), first_certificate("server.pem"))
        expect("told", "key=listen[1].tls" in perigee.log() and "needs_restart=true" not in perigee.log())

    rig.row("a new certificate", new_ones)
    rig.row("no such file", bad(None, None, "pem", "No such file"))
    rig.row("not a certificate", bad("make.sh", "other.key", "pem", "no certificate"))
    rig.row("another's key", bad("other.pem", "server.key", "key", "does not belong"))
    rig.row("an encrypted key", bad("server.pem", "encrypted.key", "key", "no passphrase"))
    rig.row("expired: a warning", expired)
    rig.row("other settings need no restart", other_settings)
    events = [data for _, data in stream.stream()]
    expect("the stream went through all of it", b'"done": true' in events[-1])


@scenario(weight=2)
def a_start_with_a_bad_certificate(rig):
    perigee = rig.perigee([rig.worker()], tls=f"{{certificates: [{pair('server', 'other')}]}}", wait=None)
    expect("status", perigee.wait(), 1)
    expect("why", perigee.log(), lambda t: "other.key" in t and "does not belong" in t)


@scenario(limit=60, weight=6)
def workers_over_tls(rig):
    ca = file("ca.pem")
    stranger = file("stranger-ca.pem")

    def served(perigee):
        for number in range(3):
            expect("served", perigee.ask(get(f"/docs?{number}")).status, 200)

    def good():
        worker = rig.worker(name="w", tls=serving())
        perigee = rig.perigee([worker], f"upstream: {{tls: {{ca_file: '{ca}'}}}}\n")
        served(perigee)
        expect("Host as the client sent it", worker.requests[0].fields["host"], "x")
        time.sleep(1.2)
        perigee.ask(post("/admin/x", b"{}"))
        expect("handshakes", handshakes(perigee, "worker", "full"), lambda n: n >= 1)
        expect("mostly resumed", handshakes(perigee, "worker", "resumed"), lambda n: n >= 1)
        expect("no failures", failures(perigee, "worker", "other"), 0)

    def never_up(title, settings, context, reason):
        def one():
            worker = rig.worker(name="w", tls=context)
            perigee = rig.perigee([worker], f"upstream: {{tls: {settings}}}\n", wait="alive")
            until("counted", lambda: failures(perigee, "worker", reason))
            expect("not served", perigee.ask(get("/docs")).status, 503)
            expect("logged", f"result={reason}" in perigee.log() and "worker=w" in perigee.log())
            expect("nothing reached it", worker.requests, [])

        rig.row(title, one)

    def own_settings():
        worker = rig.worker(name="w", tls=serving("other"))
        url = f"https://127.0.0.1:{worker.port}"
        line = f"{{url: '{url}', name: w, tls: {{ca_file: '{ca}', server_name: other.test}}}}"
        perigee = rig.perigee([line], f"upstream: {{tls: {{ca_file: '{stranger}'}}}}\n")
        served(perigee)

    def unverified():
        worker = rig.worker(name="w", tls=serving("stranger"))
        perigee = rig.perigee([worker], "upstream: {tls: {verify: false}}\n")
        served(perigee)
        expect("warned", "upstream.tls.verify" in perigee.log())

    def our_certificate():
        worker = rig.worker(name="w", tls=serving(clients_ca="clients-ca.pem"))
        shown = f"cert: '{file('client.pem')}', key: '{file('client.key')}'"
        perigee = rig.perigee([worker], f"upstream: {{tls: {{ca_file: '{ca}', {shown}}}}}\n")
        served(perigee)

    def plain_worker():
        perigee = rig.perigee(
            [f"https://127.0.0.1:{rig.sim().port}"], f"upstream: {{tls: {{ca_file: '{ca}'}}}}\n", wait="alive"
        )
        until("counted", lambda: failures(perigee, "worker", "not_tls"))
        expect("not served", perigee.ask(get("/docs")).status, 503)

    def from_plain_to_tls():
        plain = rig.worker(name="w")
        perigee = rig.perigee([plain], f"upstream: {{tls: {{ca_file: '{ca}'}}}}\n")
        served(perigee)
        port = plain.port
        plain.close()
        until("down", lambda: not perigee.backend("w")["up"])
        worker = rig.worker(name="w", tls=serving(), port=port)
        perigee.write_config(workers=[worker])
        perigee.reload()
        until("up", lambda: perigee.backend("w")["up"])
        served(perigee)

    rig.row("verified by the CA", good)
    rig.row("its own settings and name", own_settings)
    rig.row("verify: false", unverified)
    rig.row("our certificate is shown", our_certificate)
    never_up("another CA", f"{{ca_file: '{stranger}'}}", serving(), "certificate_untrusted")
    never_up("for another name", f"{{ca_file: '{ca}'}}", serving("other"), "certificate_name")
    never_up("the wrong name", f"{{ca_file: '{ca}', server_name: x.test}}", serving(), "certificate_name")
    never_up("expired", f"{{ca_file: '{ca}', server_name: orbit.test}}", serving("expired"), "certificate_expired")
    rig.row("a worker without TLS", plain_worker)
    rig.row("a worker that begins to speak TLS", from_plain_to_tls)


@scenario(weight=4)
def an_answer_that_is_cut(rig):
    """An answer that ends by closing is whole only if TLS says that it ends."""

    def script(connection, request):
        if request.target == "/chunked":
            connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"part"))
        else:
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\npart")
        time.sleep(0.2)
        if request.target == "/whole":
            try:
                connection.socket.settimeout(5)
                connection.socket.unwrap().close()
            except OSError:
                pass
        else:
            connection.socket.shutdown(socket.SHUT_WR)  # FIN alone
        return "end"

    worker = rig.worker(script, name="w", tls=serving())
    perigee = rig.perigee([worker], f"upstream: {{tls: {{ca_file: '{file('ca.pem')}'}}}}\n", tls=ONE)

    def complete():
        with perigee.wire() as wire:
            wire.send(get("/whole", "Connection: close"))
            raw = wire.rest()
        expect("with its last chunk", raw.endswith(b"\r\n4\r\npart\r\n0\r\n\r\n"))
        expect("served", perigee.line(path="/whole")["reason"], "served")

    def cut():
        with perigee.wire() as wire:
            wire.send(get("/cut"))
            raw = wire.rest()
        expect("without its last chunk", raw.endswith(b"part\r\n"))
        expect("failed", perigee.line(path="/cut")["reason"], "upstream_failed")

    def cut_for_old_clients():
        with perigee.wire() as wire:
            wire.send(b"GET /cut10 HTTP/1.0\r\nHost: x\r\n\r\n")
            try:
                wire.rest()
                raise AssertionError("an end in good order")
            except ConnectionResetError:
                pass

    def cut_for_tls_clients():
        with TlsWire(perigee.tls_port) as wire:
            wire.socket.suppress_ragged_eofs = False
            wire.send(b"GET /cuttls HTTP/1.0\r\nHost: x\r\n\r\n")
            refused(wire.rest)

    rig.row("whole", complete)
    rig.row("cut, in chunks", cut)
    rig.row("cut, for HTTP/1.0", cut_for_old_clients)
    rig.row("cut, for HTTP/1.0 over TLS", cut_for_tls_clients)


@scenario(weight=2)
def a_tunnel_through_tls(rig):
    def script(connection, request):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        while True:
            data = connection.more()
            if not data:
                return "end"
            connection.send(data.upper())

    worker = rig.worker(script, tls=serving())
    perigee = rig.perigee([worker], f"upstream: {{tls: {{ca_file: '{file('ca.pem')}'}}}}\n", tls=ONE)
    with TlsWire(perigee.tls_port) as wire:
        wire.send(
            get("/ws", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        )
        expect("switched", wire.head().status, 101)
        wire.send(b"hello")
        expect("echo", wire.take(5), b"HELLO")
        big = b"x" * 30_000  # in turns: a socket of Python's ssl cannot be read and written by two threads at once
        for _ in range(10):
            wire.send(big)
            expect("much of it", wire.take(len(big)), big.upper())
