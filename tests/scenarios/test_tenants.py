"""Tenants beside each other: what each is charged, and how much of the sidecar one of them may have."""

import scripted
from harness import chat, expect, get, scenario, slots, until
from test_queue import Asked, Gate, waiting
from test_rates import echo


def key_of(name):
    return f"X-API-Key: {name}"


class Talker(Gate):
    """Its answers have two events; those to `dear` prompts say that they cost thousands of tokens."""

    def script(self, connection, request):
        if not self.always:
            self.open.acquire(timeout=20)
        output = 5000 if b"dear" in request.body else 2
        usage = f'{{"choices": [], "usage": {{"prompt_tokens": 9, "completion_tokens": {output}, "total_tokens": {9 + output}}}}}'
        word = '{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}'
        end = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
        connection.send(scripted.events(word, end, usage, "[DONE]"))

    def prompts(self):
        return [r.body.decode().split("who-")[1].split('"')[0] for r in self.worker.requests]


def talk(prompt, tenant):
    return chat(f"who-{prompt}", session=prompt, path="/v1/chat/completions", key=tenant)


@scenario(weight=2)
def turns_go_by_the_usage_that_an_answer_tells(rig):
    """Two events each; but what one tenant's answer says it cost is what it is charged."""
    gate = Talker(rig, "w")
    perigee = rig.perigee([gate.worker], slots(1) + "queue: {tenant_turns: yes}\n")
    asked = [Asked(perigee, talk("first", "somebody"))]
    until("the slot is taken", lambda: len(gate.worker.requests) == 1)
    for tenant, prompt in (("a", "a0-dear"), ("a", "a1"), ("b", "b0"), ("b", "b1"), ("b", "b2"), ("b", "b3")):
        asked.append(Asked(perigee, talk(prompt, tenant)))
        until("it waits", lambda: waiting(perigee) == len(asked) - 1)
    gate.always = True
    gate.let()
    for one in asked:
        expect("answered", one.result().status, 200)
    expect("the dear answer's tenant waits for all of the other's", gate.prompts()[1:], ["a0-dear", "b0", "b1", "b2", "b3", "a1"])


@scenario(weight=2)
def a_tenant_has_so_many_at_once(rig):
    """`concurrent`: what waits counts as well as what runs; every way in which a request can end gives its place back."""
    gate = Gate(rig, "w")
    perigee = rig.perigee(
        [gate.worker], slots(1) + "rate_limits:\n  - {name: few, class: other, concurrent: 2}\nqueue_wait: {other: 800ms}\n"
    )
    runs = Asked(perigee, get("/static/slow-1", key_of("a")))
    until("one runs", lambda: len(gate.targets()) == 1)
    with perigee.wire() as wire:
        wire.send(get("/static/slow-2", key_of("a")))
        until("one waits", lambda: waiting(perigee) == 1)
        third = perigee.ask(get("/static/slow-3", key_of("a")))
        expect("a third is refused", (third.status, third.reason), (429, "rate_limited"))
        expect("what is bounded", third.fields["ratelimit-policy"], '"few-concurrent";q=2;qu="concurrent-requests"')
        expect("nothing left", third.fields["ratelimit"], '"few-concurrent";r=0')
        expect("another try", int(third.fields["retry-after"]), lambda s: 1 <= s <= 3)
        waited = wire.next_answer()
        expect("the second waited too long", (waited.status, waited.reason), (503, "queue_timeout"))
    leaver = perigee.wire()
    leaver.send(get("/static/slow-4", key_of("a")))
    until("its place is free: another one waits", lambda: waiting(perigee) == 1)
    leaver.socket.close()
    until("it left", lambda: waiting(perigee) == 0)
    Asked(perigee, get("/static/slow-5", key_of("a")))
    until("so another may wait", lambda: waiting(perigee) == 1)
    page = perigee.page("rates")["policies"][0]
    expect("operators see it", (page["concurrent"], page["most_used_by"][0]["running"], page["refused"]["concurrent"]), (2, 2, 1))
    other = Asked(perigee, get("/static/slow-6", key_of("b")))
    until("another tenant has places of its own", lambda: waiting(perigee) == 2)
    gate.always = True
    gate.let()
    expect("served", (runs.result().status, other.result().status), (200, 200))
    expect("and all are free again", [perigee.ask(get("/static/x", key_of("a"))).status for _ in range(5)], [200] * 5)
    until("nobody runs", lambda: perigee.page("rates")["policies"][0]["most_used_by"] == [])
    expect("metric", perigee.metric("perigee_rate_limit_requests_total", policy="few", result="refused_concurrent"), 1)


@scenario(weight=1)
def an_abandoned_request_keeps_its_tenants_place_until_its_worker_is_done(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(4) + "abandoned: {http_workers: 60s}\nrate_limits:\n  - {concurrent: 1}\n")
    wire = perigee.wire()
    wire.send(get("/static/slow", key_of("a")))
    until("it runs", lambda: len(gate.targets()) == 1)
    wire.socket.close()
    until("its client has left", lambda: perigee.lines(reason="client_gone"))
    expect("the worker is still at it", perigee.ask(get("/static/x", key_of("a"))).status, 429)
    gate.let()
    until("now it is done", lambda: perigee.ask(get("/static/x", key_of("a"))).status == 200)


def limits_said(answer):
    return {name: value for name, value in answer.fields.items() if name.startswith("x-ratelimit-")}


@scenario(weight=1)
def openai_clients_hear_of_rates_in_their_own_words(rig):
    def worker(connection, request):
        if b"own-limiter" in request.body:
            connection.send(scripted.whole(b"{}", 200, "X-RateLimit-Remaining: 7", "content-type: application/json"))
        else:
            echo(connection, request)

    perigee = rig.perigee([rig.worker(worker)], slots(50) + "rate_limits:\n  - {name: r, class: chat, requests: 3, per: 3h, tokens: 90000}\n")
    path = "/v1/chat/completions"
    passed = perigee.ask(chat("hello", stream=False, path=path, key="a"))
    said = limits_said(passed)
    expect("status", passed.status, 200)
    expect("requests", [said[f"x-ratelimit-{word}-requests"] for word in ("limit", "remaining", "reset")], ["3", "2", "1h0m0s"])
    expect("tokens", said["x-ratelimit-limit-tokens"], "90000")
    expect("the draft's fields as well", "ratelimit" in passed.fields)
    own = perigee.ask(chat("own-limiter", stream=False, path=path, key="a"))
    expect("a worker's own limiter is not spoken over", limits_said(own), {"x-ratelimit-remaining": "7"})
    expect("the draft's fields stay", "ratelimit" in own.fields)
    native = perigee.ask(chat("hello", stream=False, key="a"))
    expect("ORBIT's own routes have the draft's alone", (limits_said(native), "ratelimit" in native.fields), ({}, True))
    refused = perigee.ask(chat("hello", path=path, key="a"))
    expect("refused", refused.status, 429)
    expect("nothing left", limits_said(refused)["x-ratelimit-remaining-requests"], "0")


@scenario()
def preflights_are_charged_to_nobody(rig):
    sim = rig.sim()
    perigee = rig.perigee([sim], "rate_limits:\n  - {name: r, requests: 2, per: 1h}\n")
    asks = ("Origin: https://a.example", "Access-Control-Request-Method: POST")
    for _ in range(5):
        expect("preflight", perigee.ask(get("/v1/chat", *asks, method="OPTIONS")).status, 200)
    for status in (200, 200, 429):
        expect("chat", perigee.ask(chat(stream=False)).status, status)
