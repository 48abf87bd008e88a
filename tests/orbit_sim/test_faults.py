"""Every fault, seen from the client; and that a fault strikes whom it should, as often as it should."""

import time

from support import Sim, chat_request, request, split
from orbit_sim.faults import KINDS, FaultBook

GET = request("GET", "/health")


def probe(sim, kind, send=GET, match="/", **fields):
    """A client that has sent something to a simulator with one such fault."""
    sim.clear()
    sim.fault(kind, match=match, count=1, **fields)
    client = sim.client()
    client.send(send)
    return client


def healthy(sim):
    assert sim.ask(GET)[2] == b'{"status":"ok"}'


def test_every_fault_as_it_is_described():
    with Sim() as sim:
        for name, check in CHECKS.items():
            try:
                check(sim)
                sim.clear()
                healthy(sim)
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__} {error}") from error
        assert {name.split(" ")[0] for name in CHECKS} == set(KINDS)


def refuse(sim):
    sim.fault("refuse", seconds=0.3)
    try:
        sim.client()
        raise AssertionError("accepted")
    except ConnectionRefusedError:
        pass
    time.sleep(0.4)
    healthy(sim)
    number = sim.fault("refuse")
    sim.control("DELETE", f"/faults?id={number}")
    time.sleep(0.05)
    healthy(sim)


def hang(sim):
    client = probe(sim, "hang")
    assert client.ended(0.3) == "open"


def hang_connect(sim):
    client = probe(sim, "hang_connect")
    assert client.ended(0.3) == "open" and sim.counts()["requests"] == 0


def slow(sim):
    began = time.monotonic()
    client = probe(sim, "slow", delay_ms=300)
    assert split(client.answer())[0] == 200 and time.monotonic() - began > 0.3


def slow_first_token(sim):
    client = probe(sim, "slow_first_token", chat_request("[[n=2 gap=1]]"), delay_ms=400)
    began = time.monotonic()
    client.until(b"\r\n\r\n")
    client.chunk()
    assert time.monotonic() - began < 0.2
    client.chunk()
    assert time.monotonic() - began > 0.4


def trickle(sim):
    client = probe(sim, "trickle", bytes=100, every_ms=5)
    began = time.monotonic()
    assert client.answer().endswith(b'{"status":"ok"}') and time.monotonic() - began > 0.03
    client.send(GET)
    assert client.answer().endswith(b'{"status":"ok"}')
    client = probe(sim, "trickle", chat_request("[[n=3 gap=1]]"), bytes=50, every_ms=1)
    assert client.answer().endswith(b"0\r\n\r\n")


def reset_connect(sim):
    sim.fault("reset", when="connect", count=1)
    try:
        client = sim.client()  # the reset may come before connect() returns
        client.send(GET)
        assert client.ended() == "rst"
    except ConnectionResetError:
        pass


def reset_head(sim):
    half = chat_request("x")[:-10]
    assert probe(sim, "reset", half, when="head").ended() == "rst"
    assert probe(sim, "reset", half, when="head", how="fin").ended() == "fin"


def reset_request(sim):
    assert probe(sim, "reset").ended() == "rst"
    assert probe(sim, "reset", how="fin").ended() == "fin"


def reset_events(sim):
    client = probe(sim, "reset", chat_request("[[n=9 gap=30]]"), when="events", after=2)
    client.until(b"bravo")
    client.until(b"\n\n\r\n")
    assert client.ended() == "rst"
    client = probe(sim, "reset", chat_request("[[n=9 gap=30]]"), when="events", after=2, how="fin")
    client.until(b"bravo")
    client.until(b"\n\n\r\n")
    assert client.ended() == "fin"
    client = probe(sim, "reset", when="events")
    head = client.until(b"\r\n\r\n")
    assert b"content-length: 15" in head and client.take(7) and client.ended() == "rst"


def reset_idle(sim):
    client = probe(sim, "reset", when="idle")
    assert client.answer().endswith(b'{"status":"ok"}') and client.ended() == "rst"


def error(sim):
    client = probe(sim, "error", status=503, body='{"detail":"no"}', content_type="application/json",
                   headers={"retry-after": "3"})
    status, head, body = split(client.answer())
    assert status == 503 and body == b'{"detail":"no"}' and b"\r\nretry-after: 3\r\n" in head
    client.send(GET)
    assert split(client.answer())[0] == 200


def raw(sim):
    client = probe(sim, "raw", bytes="HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff", then="keep")
    assert client.answer().endswith(b"\xff")
    client.send(GET)
    assert split(client.answer())[0] == 200
    client = probe(sim, "raw", bytes="HTTP/1.1 200", then="close")
    assert client.rest() == b"HTTP/1.1 200"
    client = probe(sim, "raw", bytes="HTTP/1.1 200", then="reset")
    assert client.take(12) and client.ended() == "rst"


def garbage(sim):
    assert b"no protocol at all" in probe(sim, "garbage").rest()


def informational(sim):
    client = probe(sim, "informational", times=2)
    assert client.answer() == client.answer() == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert split(client.answer())[0] == 200


def early_answer(sim):
    head = chat_request("x").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    client = probe(sim, "early_answer", head)
    assert split(client.answer())[0] == 413 and client.ended(0.2) == "open"
    client = probe(sim, "early_answer", head, close=True, status=500, body="no")
    answer = client.answer()
    assert split(answer)[0] == 500 and b"\r\nConnection: close\r\n" in answer and client.ended() == "fin"


def unsolicited(sim):
    client = probe(sim, "unsolicited")
    assert client.answer().endswith(b'{"status":"ok"}') and b"not yours" in client.answer()
    client = probe(sim, "unsolicited", delay_ms=200)
    client.answer()
    assert client.silent(0.1) and client.ended() == "data"
    sim.clear()
    sim.fault("unsolicited", when="connect", bytes="boo", count=1)
    assert sim.client().take(3) == b"boo"


def both_lengths(sim):
    head = probe(sim, "both_lengths").until(b"\r\n\r\n").lower()
    assert b"content-length: 15" in head and b"transfer-encoding: chunked" in head
    head = probe(sim, "both_lengths", chat_request("[[n=1]]")).until(b"\r\n\r\n").lower()
    assert b"content-length: " in head and b"transfer-encoding: chunked" in head


def wrong_length(sim):
    client = probe(sim, "wrong_length")
    assert b"content-length: 25\r\n" in client.until(b"\r\n\r\n") and client.take(15) and client.silent(0.1)
    client = probe(sim, "wrong_length", delta=-5)
    assert b"content-length: 10\r\n" in client.until(b"\r\n\r\n") and client.take(15)


def bad_chunk(sim):
    client = probe(sim, "bad_chunk", chat_request("[[n=9 gap=1]]"), after=2)
    assert client.until(b"zz\r\n").count(b'"done": false') == 2


def provider_error(sim):
    client = probe(sim, "provider_error", chat_request("[[n=2]]"))
    answer = client.answer()
    assert b"temporarily unavailable" in answer and b'"done": true' not in answer and answer.endswith(b"0\r\n\r\n")
    assert split(probe(sim, "provider_error", chat_request("x", False), status=429).answer())[0] == 200
    status, _, body = split(probe(sim, "provider_error", chat_request("x", False, path="/v1/chat/completions")).answer())
    assert status == 500 and b'"detail"' in body and sim.counts()["chats_failed"] == 1


def provider_drop(sim):
    answer = probe(sim, "provider_drop", chat_request("[[n=9 gap=1]]", path="/v1/chat/completions"), after=2).answer()
    assert b"bravo" in answer and b"charlie" not in answer and b"temporarily unavailable" in answer
    assert b"[DONE]" in answer and b'"finish_reason": "stop"' not in answer


def silence(sim):
    client = probe(sim, "silence", chat_request("[[n=9 gap=1]]"), after=2)
    client.until(b"bravo")
    client.until(b"\n\n\r\n")
    assert client.ended(0.3) == "open" and sim.counts()["provider_now"] == 1
    client.socket.close()
    time.sleep(0.1)
    assert sim.counts()["provider_now"] == 0 and sim.counts()["chats_now"] == 0


def unterminated(sim):
    answer = probe(sim, "unterminated", chat_request("[[n=3 gap=1]]")).answer()
    assert b"charlie" in answer and b'"done": true' not in answer and answer.endswith(b"0\r\n\r\n")


def no_last_chunk(sim):
    answer = probe(sim, "no_last_chunk", chat_request("[[n=3 gap=1]]")).rest()
    assert b'"done": true' in answer and not answer.endswith(b"0\r\n\r\n")


CHECKS = {"refuse": refuse, "hang": hang, "hang_connect": hang_connect, "slow": slow, "slow_first_token": slow_first_token,
          "trickle": trickle, "reset connect": reset_connect, "reset head": reset_head, "reset request": reset_request,
          "reset events": reset_events, "reset idle": reset_idle, "error": error, "raw": raw, "garbage": garbage,
          "informational": informational, "early_answer": early_answer, "unsolicited": unsolicited,
          "both_lengths": both_lengths, "wrong_length": wrong_length, "bad_chunk": bad_chunk,
          "provider_error": provider_error, "provider_drop": provider_drop, "silence": silence,
          "unterminated": unterminated, "no_last_chunk": no_last_chunk}


def test_directives_of_a_prompt():
    with Sim() as sim:
        def ask(prompt):
            with sim.client() as client:
                client.send(chat_request(prompt))
                return client.rest() if "cut" in prompt else client.answer()

        assert ask("[[n=2 gap=1 nodone=1]]").count(b'"done": false') == 2
        cut = ask("[[n=9 gap=1 cut=2]]")
        assert cut.count(b'"done": false') == 2 and not cut.endswith(b"0\r\n\r\n")
        assert b"authentication issue" in ask("[[status=401]]")
        assert ask("[[n=9 gap=1 drop=1]]").count(b'"done": false') == 2
        with sim.client() as client:
            client.send(chat_request("[[n=9 gap=1 silence=1]]"))
            client.until(b"alpha")
            client.until(b"\n\n\r\n")
            assert client.silent(0.2)


def test_who_is_struck_and_how_often():
    with Sim() as sim:
        sim.fault("error", match="/health", count=2, skip=1)
        assert [sim.ask(GET)[0] for _ in range(5)] == [200, 500, 500, 200, 200]
        assert sim.control("GET", "/faults")["faults"][0]["taken"] == 2
        sim.clear()
        sim.fault("error", match="chat")
        assert sim.ask(GET)[0] == 200
        assert sim.ask(chat_request("x", path="/v1/chat/completions"))[0] == 500
        sim.clear()
        sim.fault("error", match="all", method="POST", status=418)
        assert sim.ask(GET)[0] == 200 and sim.ask(request("POST", "/admin/pause"))[0] == 418
        sim.clear()
        sim.fault("error", match="health", probability=0.5)
        struck = sum(sim.ask(GET)[0] == 500 for _ in range(100))
        assert 25 < struck < 75, struck


def test_faults_that_were_described_wrongly():
    with Sim() as sim:
        for wrong in ({"kind": "nope"}, {}, "hang", 5, {"kind": "hang", "after": 3}, {"kind": "error", "status": "x"},
                      {"kind": "reset", "when": "never"}, {"kind": "hang", "match": "nobody"},
                      {"kind": "hang", "probability": 2}, {"kind": "hang", "count": -1},
                      [{"kind": "hang"}, {"kind": "nope"}]):
            assert "error" in sim.control("POST", "/faults", wrong, expect=400), wrong
        assert sim.control("GET", "/faults")["faults"] == []


def test_faults_are_bounded():
    import random
    book = FaultBook(random.Random(1))
    book.add([{"kind": "hang"}] * FaultBook.BOUND)
    try:
        book.add({"kind": "hang"})
    except ValueError:
        return
    raise AssertionError("one too many was taken")


def test_connections_can_be_closed_from_outside():
    with Sim() as sim, sim.client() as idle, sim.client() as busy:
        idle.send(GET)
        idle.answer()
        busy.send(chat_request("[[n=20 gap=50]]"))
        busy.until(b"alpha")
        assert sim.control("POST", "/close_connections", {"how": "rst"})["closed"] == 1
        assert idle.ended() == "rst"
        assert sim.control("POST", "/close_connections", {"how": "fin", "idle_only": False})["closed"] == 1
        assert not busy.rest().endswith(b"0\r\n\r\n")
