"""The admin port: what it tells, to whom, and that it tells it whatever the data plane is doing."""

import json
import socket
import time

import exposition
from clients import Stream
from harness import Wire, chat, expect, free_port, get, scenario, slots, until
from support import KEY

PAGES = ["status", "backends", "queues", "config"]


def local_address():
    """An address of this machine that is not loopback, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return None


@scenario(weight=3)
def every_page(rig):
    sims = rig.sims(3)
    perigee = rig.perigee(sims)
    for stream in [Stream(perigee.port, "[[n=3 gap=10]]", f"s{i}") for i in range(6)]:
        expect("whole", stream.finish().done)
    perigee.ask(get("/v1/autocomplete?q=how", f"X-API-Key: {KEY}"))
    perigee.ask(b"nonsense\r\n\r\n")
    expect("healthz", (perigee.admin("/healthz").status, perigee.admin("/healthz").body), (200, b"ok\n"))
    expect("readyz", perigee.admin("/readyz").status, 200)
    for name in PAGES:
        answer = perigee.admin("/api/v1/" + name)
        expect(
            name,
            (answer.status, answer.fields["content-type"], isinstance(answer.json(), dict)),
            (200, "application/json", True),
        )
    backends = perigee.page("backends")["backends"]
    expect(
        "backends",
        [(b["name"], b["kind"], b["up"]) for b in backends],
        [(f"w{i}", "orbit", True) for i in (1, 2, 3)],
    )
    expect("grants", sum(b["grants"] for b in backends), lambda n: n >= 7)
    status = perigee.page("status")
    expect(
        "status",
        (status["ready"], status["stopping"], status["waiting"], len(status["backends"])),
        (True, False, 0, 3),
    )
    expect("index", b"/metrics" in perigee.admin("/").body)
    expect("HEAD", perigee.admin("/healthz", method="HEAD").status, 200)
    expect("unknown", perigee.admin("/nowhere").status, 404)
    expect(
        "no change by GET, and nothing but GET here",
        perigee.admin("/api/v1/status", method="POST").status,
        lambda s: s in (404, 405),
    )
    expect("not cached", perigee.admin("/api/v1/status").fields["cache-control"], "no-store")


@scenario(weight=3)
def metrics_that_parse(rig):
    sims = rig.sims(2)
    perigee = rig.perigee(sims)
    for stream in [Stream(perigee.port, "[[n=3 gap=10]]", f"s{i}") for i in range(4)]:
        expect("whole", stream.finish().done)
    perigee.ask(get("/no/such/path?x=" + "y" * 50, method="PROPFIND"))
    perigee.ask(b"nonsense\r\n\r\n")
    page = perigee.admin("/metrics")
    expect("type", page.fields["content-type"], lambda t: t.startswith("text/plain; version=0.0.4"))
    wrong, series = exposition.problems(page.body.decode())
    expect("problems", wrong, [])
    expect("names", [name for name, _ in series if not name.startswith(("perigee_", "process_"))], [])
    expect("closed label sets", [l for _, l in series if "PROPFIND" in str(l) or "such" in str(l)], [])
    for name in (
        "perigee_queue_wait_seconds_count",
        "perigee_first_event_seconds_count",
        "perigee_request_duration_seconds_count",
    ):
        expect(
            name,
            any(n == name for n, _ in series) or sorted({n for n, _ in series if n.endswith("_count")}),
            lambda ok: ok is True,
        )
    chats = sum(v for (n, l), v in series.items() if n == "perigee_requests_total" and ("class", "chat") in l)
    expect("chats", chats, 4.0)
    expect("workers up", sum(v for (n, _), v in series.items() if n == "perigee_backend_up"), 2.0)
    time.sleep(0.1)
    again, later = exposition.problems(perigee.admin("/metrics").body.decode())
    expect("problems", again, [])
    expect(
        "counters never fall",
        [key for key, value in series.items() if key[0].endswith("_total") and later.get(key, 0) < value],
        [],
    )


@scenario(weight=1)
def the_configuration_is_redacted(rig):
    sim = rig.sim(name="w")
    port, admin = free_port(), free_port()
    file = rig.folder / "t.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\nworkers: [http://127.0.0.1:{sim.port}]\nshutdown_timeout: 2s\n"
        f"admin: {{address: '127.0.0.1:{admin}', token: correct-horse-battery}}\nredis: redis://user:hunter2-secret@127.0.0.1:1/0\n"
    )
    perigee = rig.perigee([], arguments=lambda p: ["-c", str(file)], listen=port, admin=admin)
    for name in [*("/api/v1/" + p for p in PAGES), "/metrics", "/"]:
        expect(f"{name} without the token", perigee.admin(name).status, 401)
        expect(
            f"{name} with a wrong one",
            perigee.admin(name, "Authorization: Bearer correct-horse-batterz").status,
            401,
        )
        answer = perigee.admin(name, "Authorization: Bearer correct-horse-battery")
        expect(f"{name} with it", answer.status, 200)
        expect("no secret", b"correct-horse" in answer.body or b"hunter2" in answer.body, False)
    expect("401 says how", perigee.admin("/metrics").fields["www-authenticate"], "Bearer")
    expect(
        "probes need none", (perigee.admin("/healthz").status, perigee.admin("/readyz").status), (200, 200)
    )
    said = perigee.log() + perigee.access_text()
    expect("nor in the log", "correct-horse" in said or "hunter2" in said, False)


@scenario(weight=2)
def a_token_where_others_can_reach_it(rig):
    address = local_address()
    sim = rig.sim()
    perigee = rig.perigee([sim])
    expect("loopback only by default", bool(perigee.admin("/healthz")))
    if address is None:
        return
    try:
        socket.create_connection((address, perigee.admin_port), timeout=1).close()
        raise AssertionError(f"the admin port answers on {address}")
    except (ConnectionRefusedError, TimeoutError):
        pass


@scenario(weight=1)
def a_browser_cannot_be_led_here(rig):
    """DNS rebinding: a name that is not one of this port's. Other sites' forms: nothing changes by GET."""
    perigee = rig.perigee([rig.sim()])
    for host, status in (
        ("evil.example", 421),
        ("evil.example:9300", 421),
        ("localhost", 200),
        ("127.0.0.1:9300", 200),
        ("[::1]:9300", 200),
        ("127.0.0.1.evil.example", 421),
    ):
        expect(host, perigee.admin("/api/v1/status", host=host).status, status)
    answer = perigee.admin("/api/v1/status", "Origin: https://evil.example")
    expect("no CORS", "access-control-allow-origin" in answer.fields, False)
    for raw in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\nHost: a\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 40000 + b"\r\n\r\n",
    ):
        with Wire(perigee.admin_port) as wire:
            expect("refused", wire.ask(raw).status, lambda s: s in (400, 431))
            expect("closed", wire.ended(2), lambda e: e in ("fin", "rst"))


@scenario(limit=60, weight=5, alone=True)
def it_answers_while_the_data_plane_is_busy(rig):
    sims = rig.sims(2, "--profile", "ideal")
    perigee = rig.perigee(sims, slots(3) + "queue_wait: {chat: 20s}\n")
    streams = [Stream(perigee.port, "[[n=30 gap=20]]", f"s{i}") for i in range(60)]
    until("a queue", lambda: perigee.page("status")["waiting"] > 20)
    worst = 0.0
    for _ in range(10):
        for path in ("/readyz", "/metrics", "/api/v1/status", "/api/v1/queues"):
            began = time.monotonic()
            expect(path, perigee.admin(path).status, 200)
            worst = max(worst, time.monotonic() - began)
        time.sleep(0.05)
    expect("longest answer", worst, lambda s: s < 1.0)
    for stream in streams:
        expect("whole", stream.finish().done)


@scenario(weight=2)
def many_connections_to_it(rig):
    """Sixty that say nothing, and one more that is answered; readers that do not read hold nobody up."""
    perigee = rig.perigee([rig.sim()])
    idle = [Wire(perigee.admin_port) for _ in range(50)]
    for wire in idle[:10]:
        wire.send(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
    expect("answered", perigee.admin("/healthz").status, 200)
    expect("the data plane too", perigee.ask(get("/health")).status, 200)
    for wire in idle:
        wire.socket.close()
    with Wire(perigee.admin_port) as wire:
        for _ in range(3):
            expect("kept alive", wire.ask(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").status, 200)
    expect("chat", perigee.ask(chat(stream=False)).status, 200)
