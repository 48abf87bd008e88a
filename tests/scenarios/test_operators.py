"""What operators change while it runs: by the admin port and by the command line. Wrong names, methods, bodies and
tokens first; each change is seen in what it does, in the log, and in the events."""

import json
import subprocess
import time

import harness
from harness import Wire, expect, free_port, get, post, scenario, slots, until
from test_queue import Asked, Gate, waiting

CHANGES = ["reload", "drain", "pause", "resume", *(f"backends/w1/{word}" for word in ("drain", "enable", "eject", "limit"))]


def ask(perigee, path, body=None, *fields, method="POST", host="127.0.0.1"):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} /api/v1/{path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(data)}", *fields]
    if data and not any(f.lower().startswith("content-type") for f in fields):
        lines.append("Content-Type: application/json")
    with Wire(perigee.admin_port, timeout=10.0) as wire:
        return wire.ask("\r\n".join([*lines, "", ""]).encode() + data)


def command(perigee, *words):
    done = subprocess.run(
        [harness.PERIGEE, *words, "--config", str(perigee.config)], capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout + done.stderr


def actions(perigee):
    return [(e["action"], e["name"], e["status"]) for e in perigee.page("events")["events"] if e["kind"] == "operator"]


@scenario(weight=2)
def wrong_changes_change_nothing(rig):
    gate = Gate(rig, "w1")
    perigee = rig.perigee([gate.worker])
    for path in CHANGES:
        expect(f"GET {path}", perigee.admin("/api/v1/" + path).status, 405)
        expect(f"PUT {path}", ask(perigee, path, method="PUT").status, 405)
        expect(f"{path} from another site", ask(perigee, path, None, "Origin: http://evil.example").status, 403)
        expect(f"{path} under another name", ask(perigee, path, host="evil.example").status, 421)
        expect(f"{path} with no JSON", ask(perigee, path, b"{", "Content-Type: application/json").status, 400)
        expect(f"{path} as a form", ask(perigee, path, b"a=b", "Content-Type: text/plain").status, 415)
        expect(f"{path} with a stranger", ask(perigee, path, {"stranger": 1}).status, 400)
        expect(f"{path} with too much", ask(perigee, path, b" " * 5000).status, 413)
    for path in ("stop", "backends", "backends/w1", "backends/w1/restart", "status", "events"):
        expect(f"POST {path}", ask(perigee, path).status, 405)
    expect("no such pool", ask(perigee, "pause", {"pool": "fast"}).status, 404)
    for word in ("drain", "enable", "eject"):
        expect(f"no such worker {word}", ask(perigee, f"backends/w2/{word}").status, 404)
    expect("no such worker limit", ask(perigee, "backends/w2/limit", {"slots": 3}).status, 404)
    expect("a limit without a number", ask(perigee, "backends/w1/limit").status, 400)
    expect("a limit of nothing", ask(perigee, "backends/w1/limit", {"slots": 0}).status, 400)
    expect("serves", perigee.ask(get("/x")).status, 200)
    w1 = perigee.backend("w1")
    expect("untouched", (w1["draining"], w1["slots_limit"], w1["breaker"]["state"]), (False, None, "closed"))
    expect("what was tried is written down, too", ("pause", "fast", "404") in actions(perigee))


@scenario(weight=2)
def the_token_guards_changes(rig):
    gate = Gate(rig, "w1")
    port, admin = free_port(), free_port()
    file = rig.folder / "t.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\nworkers: [{{url: 'http://127.0.0.1:{gate.worker.port}', name: w1}}]\nshutdown_timeout: 2s\n"
        f"throttle: off\nadmin: {{address: '127.0.0.1:{admin}', token: correct-horse-battery}}\n"
    )
    perigee = rig.perigee([], arguments=lambda p: ["-c", str(file)], listen=port, admin=admin)
    perigee.config = file
    for path in CHANGES:
        expect(f"{path} without", ask(perigee, path).status, 401)
        expect(f"{path} with a wrong one", ask(perigee, path, None, "Authorization: Bearer correct-horse-batterz").status, 401)
    right = "Authorization: Bearer correct-horse-battery"
    expect("with the right one", ask(perigee, "pause", None, right).status, 200)
    status, text = command(perigee, "resume")
    expect("the command takes it from the file", (status, "resumed" in text), (0, True))
    words = [harness.PERIGEE, "resume", "--admin", f"127.0.0.1:{admin}"]
    without = subprocess.run(words, capture_output=True, text=True, timeout=30)
    expect("without", (without.returncode, "token" in without.stderr), (1, True))
    told = subprocess.run([*words, "--token", "correct-horse-battery"], capture_output=True, text=True, timeout=30)
    expect("or from the command line", told.returncode, 0)
    expect("never shown", "correct-horse" in perigee.log(), False)


@scenario(weight=2)
def pause_and_resume(rig):
    gate = Gate(rig, "w1")
    perigee = rig.perigee([gate.worker])
    expect("pause", ask(perigee, "pause", {"pool": "default"}).json(), {"done": "paused: pool default"})
    asked = Asked(perigee, get("/x"))
    until("it waits", lambda: waiting(perigee) == 1)
    expect("the page says so", perigee.page("queues")["pools"][0]["paused"])
    perigee.write_config(more="queue_wait: 20s\n")
    perigee.reload()
    expect("kept by a reload", perigee.page("queues")["pools"][0]["paused"])
    expect("still waits", waiting(perigee), 1)
    expect("health is critical and passes", perigee.ask(get("/health")).status, 200)
    status, text = command(perigee, "resume")
    expect("resume", (status, "resumed" in text), (0, True))
    expect("answered", asked.result().status, 200)
    expect("audit", [a[0] for a in actions(perigee)], ["pause", "resume"])
    expect("log", perigee.log().count(" audit "), 2)


@scenario(weight=3)
def workers_are_drained_limited_ejected_and_enabled(rig):
    gates = [Gate(rig, "w1"), Gate(rig, "w2"), Gate(rig, "w3")]
    perigee = rig.perigee([g.worker for g in gates], slots(4))
    until("all up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))

    def reached(count=8):
        before = [len(g.targets()) for g in gates]
        for i in range(count):
            expect("answered", perigee.ask(get(f"/x-{i}")).status, 200)
        return [len(g.targets()) - b for g, b in zip(gates, before)]

    def only(which):
        for i in range(3):
            if i != which:
                expect("drain", ask(perigee, f"backends/w{i + 1}/drain").status, 200)

    def all_in():
        for i in range(3):
            expect("enable", ask(perigee, f"backends/w{i + 1}/enable").status, 200)

    expect("drain", ask(perigee, "backends/w1/drain").status, 200)
    expect("nothing to it", reached()[0], 0)
    perigee.write_config(more=slots(4) + "queue_wait: 20s\n")
    perigee.reload()
    expect("kept by a reload", (perigee.backend("w1")["draining"], reached()[0]), (True, 0))
    expect("enable", ask(perigee, "backends/w1/enable").status, 200)
    only(0)
    expect("it serves again", reached(2), [2, 0, 0])
    all_in()

    expect("limit", ask(perigee, "backends/w2/limit", {"slots": 1}).status, 200)
    expect("slots", (perigee.backend("w2")["slots"], perigee.backend("w2")["slots_limit"]), (1, 1))
    perigee.write_config(more=slots(4))
    perigee.reload()
    expect("kept", perigee.backend("w2")["slots"], 1)
    status, text = command(perigee, "limit", "w2", "none")
    expect("taken back", (status, "no limit" in text, perigee.backend("w2")["slots_limit"]), (0, True, None))

    expect("eject", ask(perigee, "backends/w3/eject", {"seconds": 60}).status, 200)
    expect("open", perigee.backend("w3")["breaker"]["state"], "open")
    expect("nothing to it", reached()[2], 0)
    status, _ = command(perigee, "enable", "w3")
    expect("enabled", (status, perigee.backend("w3")["breaker"]["state"]), (0, "half_open"))
    only(2)
    expect("trials go through", reached(3), [0, 0, 3])
    expect("and close it", perigee.backend("w3")["breaker"]["state"], "closed")
    status, text = command(perigee, "drain", "w9")
    expect("no such worker", (status, "no worker" in text), (1, True))
    classes = {c["name"]: c for c in perigee.page("classes")["classes"]}
    expect("classes", classes["chat"]["limit"], 2000)
    expect("breakers", {b["backend"] for b in perigee.page("breakers")["breakers"]}, {"w1", "w2", "w3"})


@scenario(weight=2)
def reload_tells_what_is_wrong(rig):
    gate = Gate(rig, "w1")
    perigee = rig.perigee([gate.worker])
    expect("reload", (command(perigee, "reload")[0], perigee.page("status")["reloads"]["succeeded"]), (0, 1))
    good = perigee.config.read_text()
    perigee.config.write_text(good + "queue_wiat: 3s\n")
    answer = ask(perigee, "reload")
    expect("wrong", (answer.status, "queue_wait" in answer.json()["detail"]), (422, True))
    expect("nothing changed", perigee.ask(get("/x")).status, 200)
    perigee.config.write_text(good)
    status, text = command(perigee, "status")
    expect("status", (status, json.loads(text)["reloads"]["failed"]), (0, 1))
    kinds = [(e["kind"], e.get("result")) for e in perigee.page("events")["events"] if e["kind"] == "reload"]
    expect("events", kinds, [("reload", "succeeded"), ("reload", "failed")])


@scenario(weight=3)
def drain_finishes_what_runs_and_ends(rig):
    gate = Gate(rig, "w1")
    perigee = rig.perigee([gate.worker], "shutdown_timeout: 10s\n")
    asked = Asked(perigee, get("/slow"))
    until("it runs", lambda: len(gate.targets()) == 1)
    status, text = command(perigee, "drain")
    expect("drain", (status, "draining" in text), (0, True))
    expect("not ready", perigee.admin("/readyz").status, 503)
    expect("twice", ask(perigee, "drain").status, 409)
    gate.let()
    expect("what ran is answered", asked.result().status, 200)
    expect("and it ends", perigee.wait(), 0)
    expect("nobody is there any longer", command(perigee, "status")[0], 3)


@scenario(weight=3)
def routes_by_model(rig):
    """`model` in the body, first or last, decides class, priority and pool; in the order that is written."""
    gates = [Gate(rig, "a"), Gate(rig, "b")]
    for gate in gates:
        gate.always = True
    perigee = rig.perigee(
        [g.worker for g in gates],
        """pools: {big: {workers: [b]}, small: {workers: [a]}}
routes:
  - {model: "gpt-4*", priority: high, pool: big}
  - {path: /v1/special, class: files, pool: big}
  - {model: "*mini", class: search, pool: small}
  - {path: /v1/chat/completions, pool: small}
""",
    )
    until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))

    filler = {"messages": [{"role": "user", "content": "x" * 500}]}
    cases = [
        ("no model", filler, None, ("a", "chat", "normal")),
        ("another", {"model": "llama", **filler}, None, ("a", "chat", "normal")),
        ("first", {"model": "gpt-4o", **filler}, None, ("b", "chat", "high")),
        ("last", {**filler, "model": "gpt-4o"}, None, ("b", "chat", "high")),
        ("escaped", b'{"mod\\u0065l": "gpt\\u002d4o"}', None, ("b", "chat", "high")),
        ("the first route wins", {"model": "gpt-4-mini", **filler}, None, ("b", "chat", "high")),
        ("a star in front", {"model": "phi-mini", **filler}, None, ("a", "search", "normal")),
        ("a route before it wins", {"model": "phi-mini"}, "/v1/special", ("b", "files", "normal")),
        ("no JSON", b"model gpt-4o", None, ("a", "chat", "normal")),
        ("not at the top", {"x": {"model": "gpt-4o"}}, None, ("a", "chat", "normal")),
        ("no text", {"model": 4}, None, ("a", "chat", "normal")),
        ("last in a long one", {"m": "y" * 60_000, "model": "gpt-4o"}, None, ("b", "chat", "high")),
        ("beyond what is looked at", {"m": "y" * 300_000, "model": "gpt-4o"}, None, ("a", "chat", "normal")),
    ]
    seen = []
    for title, body, path, _ in cases:
        before = [len(g.targets()) for g in gates]
        answer = perigee.ask(post(path or "/v1/chat/completions", body))
        expect(title, answer.status, 200)
        where = [len(g.targets()) - b for g, b in zip(gates, before)]
        seen.append(("ab"[where.index(1)], answer.fields["x-request-id"]))
    for (title, _, _, wanted), (where, number) in zip(cases, seen):
        line = perigee.line(id=number)
        expect(title, (where, line["class"], line["priority"]), wanted)


@scenario(weight=4)
def at_most_one_controller_of_a_queue(rig):
    for text, says in [
        ("overload: [codel, pi]\n", "at most one"),
        ("overload: codle\n", "codel"),
        ("pools: {p: {workers: ['127.0.0.1:1'], overload: {codel: true}}}\n", "at most one"),
    ]:
        file = rig.folder / "o.yaml"
        file.write_text("workers: [http://127.0.0.1:1]\n" + text)
        done = subprocess.run([harness.PERIGEE, "check", str(file)], capture_output=True, text=True, timeout=20)
        expect(text, (done.returncode, says in done.stderr), (1, True))
    gate = Gate(rig, "w1")
    perigee = rig.perigee([gate.worker], slots(1) + "overload: lifo\n")
    running = Asked(perigee, get("/slow"))
    until("it runs", lambda: len(gate.targets()) == 1)
    first = Asked(perigee, get("/first"))
    until("one waits", lambda: waiting(perigee) == 1)
    time.sleep(0.6)
    second = Asked(perigee, get("/second"))
    # Nothing was served yet, so the interval is a second; nobody else has to come for it to be noticed.
    expect("the oldest is told", (first.result().status, first.result().reason), (503, "throttled"))
    expect("the newest still waits", waiting(perigee), 1)
    page = perigee.page("queues")["pools"][0]
    expect("the page says why", (page["overload"], page["overloaded"]), ("lifo", True))
    gate.let()
    expect("and is served", second.result().status, 200)
    expect("what ran", running.result().status, 200)
