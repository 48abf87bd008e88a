"""Rates: how much a tenant, an address, or everybody may ask for, what those are told who asked for more, and who is
told nothing: keys and passwords appear nowhere."""

import shutil
import signal
import subprocess
import threading
import time

import scripted

from harness import Answer, chat, expect, free_port, get, post, scenario, slots, until

PRECIOUS = "orbit_precious-key-of-acme-0123456789"
OTHER = "orbit_some-other-key-0123456789abcdef"


def echo(connection, request):
    """Answers chats with the usage that they ask for, all else with a word."""
    if request.method != "POST":
        connection.send(scripted.whole(b"ok"))
        return
    if b"with-usage" in request.body:
        usage = '{"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 23, "total_tokens": 123}}'
        word = '{"choices": [{"index": 0, "delta": {"content": "a \\"total_tokens\\": 9"}, "finish_reason": null}]}'
        end = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
        connection.send(scripted.events(word, end, usage, "[DONE]"))
    elif b"stream" in request.body:
        tokens = ['{"response": "a ", "done": false}'] * 10
        connection.send(scripted.events('{"request_id": "r"}', *tokens, '{"done": true}'))
    else:
        usage = b'{"response":"x \\"total_tokens\\": 1","metadata":{"total_tokens":500},"model":"m"}'
        connection.send(scripted.whole(usage, 200, "content-type: application/json"))


def asked(perigee, key=None, path="/v1/autocomplete?q=a", *fields):
    lines = [f"X-API-Key: {key}"] if key else []
    return perigee.ask(get(path, *lines, *fields))


def key_field(key):
    return f"X-API-Key: {key}"


@scenario(weight=2)
def a_tenant_over_its_rate_is_told_when_to_come_back(rig):
    perigee = rig.perigee(
        [rig.worker(echo)],
        slots(50) + f"tenants: {{acme: {{keys: ['{PRECIOUS}'], priority: high}}}}\n"
        "rate_limits:\n  - {name: search, class: search, requests: 3, per: 30s}\n"
        "  - {name: everybody, by: all, requests: 1000, per: 1s, path: /v1/*}\n",
    )
    first = [asked(perigee, PRECIOUS) for _ in range(3)]
    expect("served", [a.status for a in first], [200] * 3)
    expect("the policy is said", first[0].fields["ratelimit-policy"], '"search";q=3;w=30, "everybody";q=1000;w=1')
    expect("what is left", [a.fields["ratelimit"].split(",")[0] for a in first], lambda all: [
        word.startswith(f'"search";r={left};t=') for word, left in zip(all, (2, 1, 0))
    ] == [True] * 3)
    refused = asked(perigee, PRECIOUS)
    expect("refused", (refused.status, refused.reason), (429, "rate_limited"))
    expect("when", int(refused.fields["retry-after"]), lambda s: 8 <= s <= 12)
    expect("FastAPI's shape", list(refused.json()), ["detail"])
    expect("nothing left", refused.fields["ratelimit"], lambda text: text.startswith('"search";r=0;t='))
    expect("its connection may go on", "close" not in refused.fields.get("connection", ""))
    expect("another key is another tenant", asked(perigee, OTHER).status, 200)
    expect("a bearer token is the same key", asked(perigee, None, "/v1/autocomplete?q=a", f"Authorization: Bearer {PRECIOUS}").status, 429)
    expect("no key: the address", [asked(perigee).status for _ in range(4)], [200, 200, 200, 429])
    expect("another class is not held to it", asked(perigee, PRECIOUS, "/static/x").status, 200)
    expect("health never", "ratelimit" in asked(perigee, PRECIOUS, "/health").fields, False)
    openai = perigee.ask(post("/v1/chat/completions", {}, key_field(PRECIOUS)))
    expect("chats have rates of their own", openai.status, 200)
    with perigee.wire() as wire:
        wire.send(
            f"POST /api/files/1/query HTTP/1.1\r\nHost: x\r\nX-API-Key: {PRECIOUS}\r\nContent-Length: 50\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        waiting = Answer(wire.answer(False))
        expect("who waits for leave gets none", waiting.status, 429)
        expect("and is closed: its body may come all the same", waiting.fields["connection"], "close")
    line = perigee.line(reason="rate_limited")
    expect("log", (line["status"], line["priority"], line.get("backend")), (429, "high", None))
    expect("metric", perigee.metric("perigee_rate_limit_requests_total", policy="search", result="refused_requests"), 4)
    page = perigee.page("rates")["policies"]
    expect("operators see names and hashes", page[0]["most_used_by"], lambda keys: sorted(
        len(k["key"]) for k in keys) == [4, 16, 16] and any(k["key"] == "acme" and k["requests_used"] == 3 for k in keys))
    nothing_tells(perigee, PRECIOUS, OTHER)


def nothing_tells(perigee, *secrets):
    """No page, log or message holds a secret."""
    until("the log is written", lambda: perigee.access_text() != "")
    pages = ["/", "/metrics", *(f"/api/v1/{p}" for p in ("status", "backends", "queues", "config", "rates"))]
    texts = {page: perigee.admin(page).body.decode() for page in pages}
    texts |= {"log": perigee.log(), "access log": perigee.access_text()}
    for place, text in texts.items():
        for secret in secrets:
            expect(f"{place} holds {secret[:12]}…", secret in text, False)


@scenario(weight=2)
def tokens_are_counted_when_they_are_known(rig):
    """The door takes an estimate; the answer's usage, or the events of its stream, is what counts."""
    perigee = rig.perigee(
        [rig.worker(echo)], "rate_limits:\n  - {name: tok, class: chat, tokens: 1000, per: 1000s}\n"
    )
    first = perigee.ask(post("/v1/chat", {"messages": []}, key_field(PRECIOUS)))
    expect("served", first.status, 200)
    expect("named", first.fields["ratelimit-policy"], '"tok-tokens";q=1000;w=1000')

    def used():
        keys = perigee.page("rates")["policies"][0]["most_used_by"]
        return keys[0]["tokens_used"] if keys else 0

    until("the usage that the answer names, not the one in its text", lambda: 498 <= used() <= 500)
    expect("the next one", perigee.ask(post("/v1/chat", {"messages": []}, key_field(PRECIOUS))).status, 200)
    refused = perigee.ask(post("/v1/chat/completions", {"messages": []}, key_field(PRECIOUS)))
    expect("then no more", (refused.status, refused.reason), (429, "rate_limited"))
    expect("OpenAI's shape", (refused.json()["error"]["type"], refused.json()["error"]["code"]), ("rate_limit_error", "rate_limited"))
    expect("metric", perigee.metric("perigee_rate_limit_requests_total", policy="tok", result="refused_tokens"), 1)
    expect("counted", perigee.metric("perigee_rate_limit_tokens_total", policy="tok"), 1000)
    with perigee.wire() as wire:
        wire.send(chat("hello", session="t", fields=[key_field(OTHER)]))
        expect("a stream is served", wire.head().status, 200)
        list(wire.stream())
    tokens = until("its events are counted", lambda: perigee.metric("perigee_rate_limit_tokens_total", policy="tok") - 1000)
    expect("ten events and the prompt", tokens, lambda n: 11 <= n <= 80)
    before = perigee.metric("perigee_rate_limit_tokens_total", policy="tok")
    with perigee.wire() as wire:
        wire.send(chat("with-usage", session="u", path="/v1/chat/completions", fields=[key_field(OTHER)]))
        expect("a stream that names its usage", wire.head().status, 200)
        list(wire.stream())
    counted = until("is counted by it", lambda: perigee.metric("perigee_rate_limit_tokens_total", policy="tok") - before)
    expect("tokens", counted, 123)
    expect("what is no chat has no tokens", asked(perigee, PRECIOUS).status, 200)


@scenario(weight=2)
def a_reload_changes_rates_and_forgets_nothing(rig):
    rule = "rate_limits:\n  - {name: a, class: search, requests: %d, per: 100s}\n"
    perigee = rig.perigee([rig.worker(echo)], rule % 4)
    expect("four go", [asked(perigee, PRECIOUS).status for _ in range(5)], [200] * 4 + [429])
    perigee.write_config(more=rule % 4 + "log_level: info\n")
    perigee.reload()
    expect("still none left", asked(perigee, PRECIOUS).status, 429)
    perigee.write_config(more=rule % 8)
    perigee.reload()
    expect("twice as many: what was used stands", [asked(perigee, PRECIOUS).status for _ in range(5)], [200] * 4 + [429])
    perigee.write_config(more="")
    perigee.reload()
    free = asked(perigee, PRECIOUS)
    expect("gone", (free.status, "ratelimit" in free.fields), (200, False))
    perigee.write_config(more=rule % 4)
    perigee.reload()
    expect("begun anew", asked(perigee, PRECIOUS).status, 200)


@scenario(weight=2)
def priority_is_earned_not_claimed(rig):
    tenants = f"tenants: {{acme: {{keys: ['{PRECIOUS}'], priority: low}}}}\n"
    route = "routes: [{path: /static/x, priority: high}]\naccess_log: {flush: 50ms}\n"

    def seen(perigee, *fields):
        perigee.ask(get("/static/x", *fields))
        until("logged", lambda: len(perigee.lines(path="/static/x")) == seen.count + 1)
        seen.count += 1
        return perigee.lines(path="/static/x")[-1]["priority"]

    worker = rig.worker(echo)
    seen.count = 0
    perigee = rig.perigee([worker], tenants + route)
    expect("the route's", seen(perigee), "high")
    expect("the key's before it, even down", seen(perigee, key_field(PRECIOUS)), "low")
    expect("a claim is nothing", seen(perigee, key_field(PRECIOUS), "X-Priority: critical"), "low")
    seen.count = 0
    trusting = rig.perigee([worker], tenants + route + "trusted: [127.0.0.1]\n")
    expect("a trusted peer's word is first", seen(trusting, key_field(PRECIOUS), "X-Priority: normal"), "normal")


# --- several sidecars ---------------------------------------------------------------------------------------


class Redis:
    """A server of its own on a loopback port, keeping nothing on disk."""

    def __init__(self, rig, *options):
        program = shutil.which("redis-server")
        if program is None:
            raise AssertionError("redis-server is missing: tools/install-packages test")
        self.port = free_port()
        self.command = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
                        "--daemonize", "no", *options]
        self.process = None
        rig.things.append(self.kill)
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def answers():
            try:
                with scripted.socket.create_connection(("127.0.0.1", self.port), 1):
                    return True
            except OSError:
                return False

        until("redis listens", answers)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def say(self, *words):
        with scripted.socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            sock.sendall(("*%d\r\n" % len(words) + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)).encode())
            return sock.recv(65536)


def sharing(redis, more="", timeout="5ms"):
    return f"redis: {{url: 'redis://127.0.0.1:{redis.port}/0', timeout: {timeout}, sidecars: 2, secret: the-same-for-all}}\n{more}{slots(50)}"


def connected(*perigees):
    for perigee in perigees:
        until("connected to redis", lambda p=perigee: p.metric("perigee_redis_connected") == 1)


class Asking(threading.Thread):
    """One client that asks as fast as it is answered, for so long."""

    def __init__(self, perigee, seconds):
        super().__init__(daemon=True)
        self.perigee, self.seconds = perigee, seconds
        self.statuses, self.slowest = [], 0.0
        self.start()

    def run(self):
        end = time.monotonic() + self.seconds
        with self.perigee.wire() as wire:
            while time.monotonic() < end:
                began = time.monotonic()
                self.statuses.append(wire.ask(get("/v1/autocomplete?q=a", key_field(PRECIOUS))).status)
                self.slowest = max(self.slowest, time.monotonic() - began)


def storm(perigees, clients, seconds):
    """Accepted, asked, elapsed."""
    began = time.monotonic()
    asking = [Asking(perigees[i % len(perigees)], seconds) for i in range(clients)]
    for client in asking:
        client.join(seconds + 20)
    elapsed = time.monotonic() - began
    statuses = [s for client in asking for s in client.statuses]
    expect("only two kinds of answers", set(statuses) <= {200, 429})
    return statuses.count(200), len(statuses), elapsed


@scenario(limit=60, weight=4)
def sidecars_keep_one_rate(rig):
    """Eight clients, two sidecars: together no more than the rate, and, while Redis answers, no less."""
    redis = Redis(rig)
    worker = rig.worker(echo)
    rule = sharing(redis, "rate_limits:\n  - {name: one, class: search, requests: 50, per: 1s, burst: 20}\n", "1s")  # exact: however slow the machine
    perigees = [rig.perigee([worker], rule), rig.perigee([worker], rule)]
    connected(*perigees)
    accepted, total, elapsed = storm(perigees, 8, 2.0)
    expect("asked far more", total, lambda n: n > 150)
    expect(f"accepted of {total} in {elapsed:.2f} s", accepted, lambda n: 70 <= n <= 20 + 50 * elapsed)
    expect("nobody decided alone", [p.metric("perigee_redis_fallbacks_total") for p in perigees], [0, 0])
    # Somebody flushes the scripts: the next call says it in full.
    redis.say("SCRIPT", "FLUSH")
    time.sleep(0.5)
    expect("still asked", asked(perigees[0], PRECIOUS).status, 200)
    expect("of redis", perigees[0].metric("perigee_redis_fallbacks_total"), 0)
    keys = redis.say("KEYS", "*").decode()
    expect("keys hold no key", PRECIOUS not in keys and "perigee:{" in keys and "one:r" in keys)
    nothing_tells(perigees[0], PRECIOUS, "the-same-for-all")


@scenario(limit=60, weight=6)
def redis_goes_and_comes(rig):
    """Stopped, killed, started: no request waits for it longer than its bound, and rates hold in parts meanwhile."""
    redis = Redis(rig)
    rule = sharing(redis, "rate_limits:\n  - {name: one, class: search, requests: 100, per: 1s, burst: 10}\n")
    perigee = rig.perigee([rig.worker(echo)], rule + "access_log: {flush: 50ms}\n")
    connected(perigee)
    expect("served", asked(perigee, PRECIOUS).status, 200)
    for away in ("hangs", "dead"):
        before = perigee.metric("perigee_redis_fallbacks_total")
        if away == "hangs":
            redis.process.send_signal(signal.SIGSTOP)
        else:
            redis.kill()
        client = Asking(perigee, 1.5)
        client.join(15)
        accepted = client.statuses.count(200)
        # Half of the rate is this sidecar's; what Redis had left when it went comes on top.
        expect(f"{away}: accepted", accepted, lambda n: 40 <= n <= 10 + 100 * 1.5)
        expect(f"{away}: limited", 429 in client.statuses)
        expect(f"{away}: the slowest", client.slowest, lambda s: s < 1.0)  # a busy machine; see the log below for ours
        expect(f"{away}: counted", perigee.metric("perigee_redis_fallbacks_total"), lambda n: n > before)
        until("seen", lambda: perigee.metric("perigee_redis_connected") == 0)
        until("told", lambda: "is away" in said(perigee))
        if away == "hangs":
            redis.process.send_signal(signal.SIGCONT)
        else:
            redis.start()
        until("back", lambda: perigee.metric("perigee_redis_connected") == 1, 12)
        until("told, too", lambda: "answers" in said(perigee))
        calls = perigee.metric("perigee_redis_answers_total")
        asked(perigee, PRECIOUS)
        expect("asked again", perigee.metric("perigee_redis_answers_total"), lambda n: n > calls)
    # Refused without Redis means refused in the turn in which it came: those that waited for it can be told apart.
    until("logged", lambda: len(perigee.lines(status=429)) > 50)
    waited = [line["total_ms"] for line in perigee.lines(status=429) if line["total_ms"] > 2]
    expect("few waited for one that was gone", waited, lambda all: len(all) <= 4 and max(all, default=0) < 250)


def said(perigee):
    """The newest line of the log about Redis."""
    return ([""] + [line for line in perigee.log().splitlines() if "Redis" in line])[-1]


@scenario(limit=60, weight=3)
def a_wrong_password_is_no_end_and_is_not_told(rig):
    redis = Redis(rig, "--requirepass", "open-sesame-77")
    worker = rig.worker(echo)
    rule = "redis: 'redis://:%s@127.0.0.1:%d'\nrate_limits:\n  - {name: one, class: search, requests: 2, per: 100s}\n"
    wrong = rig.perigee([worker], rule % ("hunter2-hunter2", redis.port))
    until("refused", lambda: wrong.page("rates")["redis"]["trouble"] == "user or password refused")
    expect("limited all the same", [asked(wrong, PRECIOUS).status for _ in range(3)], [200, 200, 429])
    nothing_tells(wrong, "hunter2", PRECIOUS)
    wrong.write_config(more=rule % ("open-sesame-77", redis.port))
    wrong.reload()
    connected(wrong)
    nothing_tells(wrong, "hunter2", "open-sesame")
