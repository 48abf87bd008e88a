"""Chat over real sockets: the order of checks, stop, departures, sessions, the loop that delays everything."""

import json
import time

from support import KEY, KEY2, Sim, chat_request, request, split, wait_for


def stream(client):
    """(seconds to the head, [(seconds, event)]) of a streamed answer."""
    began = time.monotonic()
    client.until(b"\r\n\r\n")
    head = time.monotonic() - began
    events = []
    while True:
        data = client.chunk()
        if not data:
            return head, events
        events.append((time.monotonic() - began, data))


def test_a_stream_in_time():
    with Sim() as sim, sim.client() as client:
        client.send(chat_request("[[n=5 gap=100 first=200]]"))
        head, events = stream(client)
        assert 0.009 < head < 0.08, head
        times = [when for when, _ in events]
        assert times[0] - head < 0.03
        assert 0.23 < times[1] < 0.32, times
        for early, late in zip(times[1:5], times[2:6]):
            assert 0.06 < late - early < 0.15, times
        assert [json.loads(data[6:])["response"] for _, data in events[1:6]] == \
            ["alpha ", "bravo ", "charlie ", "delta ", "echo "]
        assert json.loads(events[-1][1][6:])["done"] is True


def test_a_non_stream_takes_as_long_as_its_tokens():
    with Sim() as sim:
        began = time.monotonic()
        status, _, body = sim.ask(chat_request("[[n=5 gap=100 first=100]]", stream=False))
        assert status == 200 and json.loads(body)["response"] == "alpha bravo charlie delta echo"
        assert 0.5 < time.monotonic() - began < 0.75


def test_the_checks_come_in_orbits_order():
    with Sim() as sim:
        good = {"messages": [{"role": "user", "content": "x [[n=1]]"}]}

        def ask(body, key=KEY, session="Y"):
            extra = f"X-Session-ID: {session}\r\n" if session else ""
            return sim.ask(request("POST", "/v1/chat", body, key=key, extra=extra))[0]

        sim.ask(chat_request("[[n=1]]", False, "Y", KEY2))
        sim.ask(request("POST", "/admin/pause"))
        assert ask({"messages": "no"}, "bad", "") == 422
        assert ask(good, "bad", "") == 503
        sim.ask(request("POST", "/admin/resume"))
        assert ask(good, "bad", "") == 401
        assert ask(good, KEY, "") == 400
        assert ask(good, KEY, "Y") == 403
        assert ask(good, KEY, "Z") == 200
        assert sim.counts()["chats_refused"] == 5


def test_bodies_are_validated_like_fastapis():
    cases = [
        (b"", [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]),
        (b"[1]", [{"type": "model_attributes_type", "loc": ["body"], "input": [1],
                   "msg": "Input should be a valid dictionary or object to extract fields from"}]),
        (b'{"messages": 1}', [{"type": "list_type", "loc": ["body", "messages"], "msg": "Input should be a valid list",
                               "input": 1}]),
        (b'{"messages": [1]}', [{"type": "dict_type", "loc": ["body", "messages", 0], "input": 1,
                                 "msg": "Input should be a valid dictionary"}]),
        (b'{"messages": [], "model": 5}', [{"type": "string_type", "loc": ["body", "model"], "input": 5,
                                            "msg": "Input should be a valid string"}]),
    ]
    with Sim() as sim:
        for body, problems in cases:
            status, _, answer = sim.ask(request("POST", "/v1/chat", body, extra="X-Session-ID: s\r\n"))
            assert (status, json.loads(answer)["detail"]) == (422, problems), body
        for stream_value in ('"maybe"', "null", "{}"):
            body = ('{"messages": [{"role": "user", "content": "x"}], "stream": %s}' % stream_value).encode()
            assert sim.ask(request("POST", "/v1/chat", body, extra="X-Session-ID: s\r\n"))[0] == 422, stream_value


def test_keys_may_be_listed():
    with Sim("--api-keys", "one=simple-chat,two=second-chat") as sim:
        assert sim.ask(chat_request("[[n=1]]", False, key="one"))[0] == 200
        assert sim.ask(chat_request("[[n=1]]", False, key=KEY))[0] == 401
        body = json.loads(sim.ask(chat_request("[[n=1]]", False, "t", "two", "/v1/chat/completions"))[2])
        assert body["system_fingerprint"] == "second-chat"


def test_stop_is_for_its_session_and_leaves_the_provider_running():
    with Sim() as sim, sim.client() as client:
        client.send(chat_request("[[n=30 gap=50 first=100]]"))
        client.until(b"\r\n\r\n")
        number = json.loads(client.chunk()[6:])["request_id"]
        client.chunk()
        stop = {"session_id": "other", "request_id": number}
        assert b"not_found" in sim.ask(request("POST", "/v1/chat/stop", stop))[2]
        assert b"cancelled" in sim.ask(request("POST", "/v1/chat/stop", {**stop, "session_id": "s"}, key=KEY2))[2]
        rest = client.until(b"0\r\n\r\n")
        assert b'"done": true' not in rest and rest.count(b"data: ") < 4
        counts = sim.counts()
        assert counts["chats_stopped"] == 1 and counts["chats_now"] == 0 and counts["provider_now"] == 1
        assert wait_for(lambda: sim.counts()["provider_now"] == 0)
        assert b"not_found" in sim.ask(request("POST", "/v1/chat/stop", {**stop, "session_id": "s"}))[2]


def test_a_client_that_leaves_a_stream_frees_the_provider_soon():
    with Sim() as sim:
        with sim.client() as client:
            client.send(chat_request("[[n=100 gap=100]]"))
            client.until(b"alpha")
        assert wait_for(lambda: sim.counts()["chats_aborted"] == 1, 1.0)
        counts = sim.counts()
        assert counts["provider_now"] == 0 and counts["chats_now"] == 0 and counts["chats_finished"] == 0
        history = json.loads(sim.ask(request("GET", "/admin/chat-history/s"))[2])
        assert history["count"] == 0


def test_a_client_that_leaves_a_non_stream_is_not_noticed():
    with Sim() as sim:
        with sim.client() as client:
            client.send(chat_request("[[n=3 gap=100]]", stream=False))
            time.sleep(0.05)
        assert wait_for(lambda: sim.counts()["chats_wasted"] == 1, 2.0)
        assert json.loads(sim.ask(request("GET", "/admin/chat-history/s"))[2])["count"] == 2


def test_overlapping_turns_of_a_session_are_counted():
    with Sim() as sim, sim.client() as one, sim.client() as two:
        one.send(chat_request("[[n=3 gap=50]]"))
        one.until(b"\r\n\r\n")
        two.send(chat_request("[[n=3 gap=50]]"))
        stream(two)
        assert sim.counts()["overlapping_turns"] == 1
        sim.ask(chat_request("[[n=1]]", False))
        assert sim.counts()["overlapping_turns"] == 1


def test_beyond_the_providers_connections_heads_come_and_tokens_wait():
    with Sim("--provider-connections", "2") as sim:
        clients = [sim.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(chat_request("[[n=4 gap=100]]", session=str(number)))
        for client in clients:
            client.until(b"\r\n\r\n")
            client.chunk()
        assert wait_for(lambda: sim.counts()["provider_waiting"] == 1, 1.0)
        waited = stream_rest(clients[2])
        assert waited > 0.4 and sim.counts()["provider_peak"] == 2
        for client in clients:
            client.socket.close()


def stream_rest(client):
    began = time.monotonic()
    client.until(b"0\r\n\r\n")
    return time.monotonic() - began


def test_health_waits_for_the_loop():
    with Sim() as sim, sim.client() as client:
        client.send(request("GET", "/health"))
        client.answer()
        sim.control("POST", "/reset", {})
        sim.control("POST", "/stall", {"ms": 500})
        began = time.monotonic()
        client.send(request("GET", "/health"))
        client.answer()
        assert 0.4 < time.monotonic() - began < 0.7
        shown = sim.stats()
        assert 400 < shown["histograms"]["health_delay"]["max_ms"] < 700 and shown["counts"]["pauses"] == 1


def test_every_nth_chat_stops_the_world():
    with Sim("--pause-every", "3", "--pause-ms", "300") as sim:
        for number in range(3):
            began = time.monotonic()
            sim.ask(chat_request("[[n=1 gap=1]]", False, str(number)))
        assert time.monotonic() - began > 0.3 and sim.counts()["pauses"] == 1


def test_the_first_chat_may_be_cold():
    with Sim("--cold-ms", "400") as sim:
        took = []
        for number in range(2):
            began = time.monotonic()
            sim.ask(chat_request("[[n=1 gap=1]]", False, str(number)))
            took.append(time.monotonic() - began)
        assert took[0] > 0.4 > 0.2 > took[1], took


def test_a_client_that_does_not_read_costs_no_memory():
    with Sim("--profile", "ideal", "--provider-delay-ms", "1") as sim, sim.client() as client:
        before = memory(sim.pid)
        client.send(chat_request("[[n=200000 gap=0]]"))
        time.sleep(1.5)
        grown = memory(sim.pid) - before
        assert grown < 20_000_000, f"{grown} bytes"
        assert sim.counts()["tokens"] < 200_000
        client.until(b'"done": true')
        assert wait_for(lambda: sim.counts()["chats_finished"] == 1)


def memory(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_in_progress_forgets_streams():
    with Sim() as sim, sim.client() as one, sim.client() as two:
        one.send(chat_request("[[n=20 gap=50]]"))
        one.until(b"\r\n\r\n")
        two.send(chat_request("[[n=20 gap=50]]", False, "t"))
        time.sleep(0.1)
        text = sim.ask(request("GET", "/metrics"))[2].decode()
        assert 'in_progress{endpoint="__pending_route__",method="POST"} 1.0' in text
        assert 'requests_total{endpoint="/v1/chat",method="POST",status="200"} 1.0' in text


def test_statistics_count_what_happened():
    with Sim() as sim:
        clients = [sim.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(chat_request("[[n=10 gap=20]]", session=str(number)))
        for client in clients:
            client.until(b"0\r\n\r\n")
            client.socket.close()
        shown = sim.control("GET", "/stats?buckets=1")
        counts = shown["counts"]
        assert (counts["chats_started"], counts["chats_finished"], counts["tokens"]) == (5, 5, 50)
        assert counts["chats_peak"] == 5 and counts["provider_peak"] == 5
        delays = shown["histograms"]["token_delay"]
        assert delays["count"] == 50 == sum(hits for _, hits in delays["buckets"])
        assert shown["histograms"]["head_lag"]["count"] == 5 and shown["loop"]["busy_fraction"] > 0
        sim.control("POST", "/reset", {"what": ["stats"]})
        assert sim.counts()["tokens"] == 0
        assert wait_for(lambda: sim.stats()["per_second"], 3)


def test_settings_change_while_it_runs_and_wrong_ones_change_nothing():
    with Sim() as sim:
        for wrong in ({"nope": 1}, {"tokens": -1}, {"tokens": "x"}, {"port": 1}, {"provider_delay_ms": "9-1"},
                      {"tokens": 3, "work_ms": None}, {"multiworker": "perhaps"}):
            assert "error" in sim.control("POST", "/settings", wrong, expect=400)
        before = sim.control("GET", "/settings")
        assert before["tokens"] == 20
        assert sim.set(tokens=2, token_gap_ms=1)["tokens"] == 2
        assert json.loads(sim.ask(chat_request("hello", False))[2])["response"] == "alpha bravo"
        sim.control("GET", "/nowhere", expect=404)
        sim.control("POST", "/settings", [1], expect=400)


def test_control_works_on_the_workers_own_port_and_is_not_counted():
    with Sim() as sim:
        sim.control("POST", "/stall", {"ms": 1000})
        began = time.monotonic()
        status, _, body = sim.ask(request("GET", "/__sim"))
        assert status == 200 and time.monotonic() - began < 0.5, "outside the virtual loop"
        assert json.loads(body)["pid"] == sim.pid
        assert sim.counts()["requests"] == 0
        with sim.client() as client:
            client.send(request("GET", "/__sim/stats") + request("GET", "/__sim/settings"))
            assert split(client.answer())[0] == 200 and split(client.answer())[0] == 200
