"""A machine short of CPU or memory: the marks are written so low that this machine is above them."""

import json
import os
import time

from clients import Stream
from harness import expect, get, scenario, slots, until
from test_queue import Asked, Gate, waiting

PRIORITIES = """routes:
  - {path: /low*, priority: low}
  - {path: /high*, priority: high}
"""


def step(perigee):
    return perigee.page("throttle")["step"]


@scenario(weight=2)
def wrong_marks_are_refused(rig):
    """The configuration first: nothing starts with marks that cannot be meant."""
    import subprocess

    from harness import PERIGEE

    for text, says in [
        ("{cpu: 90%, cpu_hard: 80%}", "throttle.cpu"),
        ("{memory: 99%, memory_hard: 95%}", "throttle.memory"),
        ("{cpu: 120%}", "throttle.cpu"),
        ("{cpus: 80%}", "throttle.cpus"),
        ("maybe", "throttle"),
    ]:
        file = rig.folder / "t.yaml"
        file.write_text(f"workers: [http://127.0.0.1:1]\nthrottle: {text}\n")
        done = subprocess.run([PERIGEE, "check", str(file)], capture_output=True, text=True, timeout=20)
        expect(text, (done.returncode, says in done.stderr), (1, True))


@scenario(weight=4)
def above_the_soft_mark_low_waits_and_nobody_is_refused(rig):
    gate = Gate(rig, "w")
    perigee = rig.perigee([gate.worker], slots(3) + PRIORITIES + "throttle: {cpu: 0.1%, cpu_hard: 100%}\n")
    until("CPU is above its mark", lambda: step(perigee) not in ("calm", None), 8)
    first = Asked(perigee, get("/slow-1"))
    until("it runs", lambda: len(gate.targets()) == 1)
    low = Asked(perigee, get("/low-slow"))
    until("low waits although two slots are free", lambda: waiting(perigee) == 1)
    second = Asked(perigee, get("/slow-2"))
    until("normal passes", lambda: len(gate.targets()) == 2)
    gate.let(2)
    expect("both", (first.result().status, second.result().status), (200, 200))
    until("low has its turn", lambda: "/low-slow" in gate.targets())
    gate.let()
    expect("low", low.result().status, 200)
    page = perigee.page("throttle")
    expect("cause", page["cause"], lambda c: c in ("cpu", "cpu_pressure"))
    expect("nobody is refused", page["refusing_above_rank"], None)
    expect("metric", perigee.metric("perigee_throttle_step"), lambda s: s >= 1)


@scenario(weight=3)
def memory_above_its_hard_mark_refuses_low_and_normal(rig):
    sim = rig.sim(name="w1")
    perigee = rig.perigee([sim], PRIORITIES + "throttle: {memory: 0.1%, memory_hard: 0.2%}\n")
    until("both are refused", lambda: step(perigee) == "normal_refused", 8)
    for path in ("/low", "/normal", "/other"):
        answer = perigee.ask(get(path))
        expect(path, (answer.status, answer.reason), (503, "throttled"))
        expect("another try", int(answer.fields["retry-after"]), lambda s: 5 <= s <= 9)
        expect("the error is well-formed", "detail" in json.loads(answer.body))
    expect("high goes on", perigee.ask(get("/high")).reason, None)
    expect("health too", perigee.ask(get("/health")).status, 200)
    expect("counted", perigee.metric("perigee_requests_total", reason="throttled"), 3.0)
    expect("in the log", perigee.line(reason="throttled")["status"], 503)
    page = perigee.page("throttle")
    expect("why", (page["cause"], page["level"], page["memory"] > 0.002), ("memory", 1.0, True))
    expect("a line for each step, not for each request", perigee.log().count(" throttle "), lambda n: 1 <= n <= 3)
    perigee.write_config(more="throttle: off\n")
    perigee.reload()
    until("switched off", lambda: perigee.ask(get("/normal")).reason is None)
    expect("and says so", step(perigee), "calm")


@scenario(weight=9)
def a_full_cpu_refuses_only_with_a_queue_that_stands(rig):
    gate = Gate(rig, "w")
    more = slots(1) + PRIORITIES + "queue_wait: 1s\nthrottle: {cpu: 0.1%, cpu_hard: 0.2%}\n"
    perigee = rig.perigee([gate.worker], more)
    until("CPU is above its hard mark", lambda: perigee.page("throttle")["level"] == 1.0, 8)
    running = Asked(perigee, get("/slow"))
    until("it runs", lambda: len(gate.targets()) == 1)
    expect("normal is let in to wait", perigee.ask(get("/slow-n")).reason, "queue_timeout")
    asked, reasons = [], []
    for _ in range(40):
        asked.append(Asked(perigee, get("/slow-n")))
        time.sleep(0.25)
        if step(perigee) == "normal_refused":
            break
    reasons = {a.result().reason for a in asked}
    expect("who came first waited", "queue_timeout" in reasons)
    until("then they are told at once", lambda: step(perigee) == "normal_refused")
    began = time.monotonic()
    answer = perigee.ask(get("/normal"))
    expect("normal", (answer.status, answer.reason, time.monotonic() - began < 0.8), (503, "throttled", True))
    expect("low", perigee.ask(get("/low")).reason, "throttled")
    expect("high may wait", perigee.ask(get("/high")).reason, "queue_timeout")
    gate.let()
    expect("what ran", running.result().status, 200)


@scenario(weight=4)
def a_worker_near_its_memory_limit_is_avoided(rig):
    """Its process is found by its listening socket, or told by a file."""
    sims = rig.sims(2)
    pid_file = rig.folder / "w2.pid"
    pid_file.write_text(f"{sims[1].process.pid}\n")
    workers = [
        f"{{url: 'http://127.0.0.1:{sims[0].port}', name: w1, memory_limit: 1MiB}}",
        f"{{url: 'http://127.0.0.1:{sims[1].port}', name: w2, memory_limit: 4GiB, pid_file: '{pid_file}'}}",
    ]
    perigee = rig.perigee(workers, PRIORITIES + "throttle: {cpu: 99%, cpu_hard: 100%, memory: 95%, memory_hard: 100%}\n")
    until("w1 is hot", lambda: perigee.backend("w1")["hot"], 8)
    seen = perigee.page("throttle")["workers"]
    expect("pids", [seen[f"w{i + 1}"]["pid"] for i in range(2)], [s.process.pid for s in sims])
    expect("memory", (seen["w1"]["memory_hot"], seen["w2"]["memory_hot"], seen["w1"]["memory"] > 1), (True, False, True))
    before = perigee.backend("w1")["grants"]
    for i in range(6):
        expect("whole", Stream(perigee.port, "[[n=3 gap=5]]", f"s{i}").finish().done)
    expect("all on the other one", perigee.backend("w1")["grants"], before)
    expect("metric", perigee.metric("perigee_backend_hot", backend="w1"), 1.0)
    os.remove(pid_file)
