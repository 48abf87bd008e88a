"""Start, shared state, and the several ways to end."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from support import KEY2, PROGRAM, Sim, chat_request, request, split, wait_for


def gone(sim, seconds=5.0):
    """(seconds until the process was gone, its return code)."""
    began = time.monotonic()
    code = sim.process.wait(seconds)
    return time.monotonic() - began, code


def accepts(sim):
    try:
        sim.client().socket.close()
        return True
    except ConnectionRefusedError:
        return False


def test_sigterm_without_work():
    with Sim() as sim, sim.client() as idle:
        idle.send(request("GET", "/health"))
        idle.answer()
        sim.terminate()
        assert idle.ended(1.0) == "fin"
        took, code = gone(sim)
        assert code == -signal.SIGTERM and took < 1.0


def test_sigterm_lets_running_work_end():
    with Sim() as sim, sim.client() as one, sim.client() as two:
        one.send(chat_request("[[n=10 gap=80]]"))
        one.until(b"alpha")
        two.send(chat_request("[[n=8 gap=80]]", False, "t"))
        time.sleep(0.1)
        sim.terminate()
        assert wait_for(lambda: not accepts(sim), 1.0)
        assert b'"done": true' in one.until(b"0\r\n\r\n") and one.ended() == "fin"
        assert split(two.answer())[0] == 200 and two.ended() == "fin"
        took, code = gone(sim)
        assert code == -signal.SIGTERM and took < 1.0


def test_patience_ends():
    with Sim("--graceful-s", "0.3") as sim, sim.client() as one, sim.client() as two:
        one.send(chat_request("[[n=100 gap=80]]"))
        one.until(b"alpha")
        two.send(chat_request("[[n=100 gap=80]]", False, "t"))
        time.sleep(0.1)
        sim.terminate()
        assert not one.rest().endswith(b"0\r\n\r\n")
        answer = two.answer()
        assert split(answer)[0] == 500 and b"\r\nConnection: close\r\n" in answer
        _, code = gone(sim)
        assert code == -signal.SIGTERM


def test_a_second_signal_ends_at_once():
    with Sim() as sim, sim.client() as client:
        client.send(chat_request("[[n=100 gap=80]]"))
        client.until(b"alpha")
        sim.terminate(signal.SIGINT)
        time.sleep(0.1)
        sim.terminate(signal.SIGINT)
        took, code = gone(sim)
        assert took < 1.0 and code == -signal.SIGINT


def test_a_hanging_request_does_not_outlive_its_client():
    with Sim() as sim:
        sim.fault("hang", match="all", count=1)
        with sim.client() as client:
            client.send(request("GET", "/health"))
            time.sleep(0.1)
            sim.terminate()
            time.sleep(0.5)
            assert sim.process.poll() is None, "it is waited for"
        took, _ = gone(sim)
        assert took < 1.0


def test_admin_shutdown_answers_first():
    with Sim() as sim:
        assert sim.ask(request("POST", "/admin/shutdown"))[0] == 200
        took, code = gone(sim)
        assert 0.3 < took < 2.0 and code == -signal.SIGTERM


def test_admin_shutdown_signals_the_supervisor():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as supervisor:
        with Sim(environment={"ORBIT_SUPERVISOR_PID": str(supervisor.pid)}) as sim:
            sim.ask(request("POST", "/admin/shutdown"))
            assert supervisor.wait(3) == -signal.SIGTERM and sim.process.poll() is None
            assert sim.ask(request("POST", "/admin/restart"))[0] == 501


def test_admin_restart_begins_again_in_the_same_process():
    port = free_port()
    process = subprocess.Popen([sys.executable, PROGRAM, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        first = process.stdout.readline()
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(request("POST", "/admin/restart"))
            assert raw.recv(100).startswith(b"HTTP/1.1 200 ")
        assert process.stdout.readline() == first, "the same process says it is ready again"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_wrong_starts():
    def run(*options):
        done = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True, timeout=10)
        return done.returncode, done.stdout, done.stderr

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, out, error = run("--port", str(taken.getsockname()[1]))
        assert code == 1 and out == "" and "cannot listen" in error and "Traceback" not in error, error
    for wrong in (["--tokens", "x"], ["--provider-delay-ms", "3-1"], ["--nope"], ["--port", "70000"], ["--profile", "x"]):
        code, _, error = run(*wrong)
        assert code == 2 and "Traceback" not in error, error
    code, out, _ = run("--help")
    assert code == 0 and "--provider-delay-ms" in out and "[30,bench300-3000]" in "".join(out.split())


def test_the_port_opens_after_the_start_delay():
    began = time.monotonic()
    with Sim("--start-delay-s", "0.7"):
        assert time.monotonic() - began > 0.7


def test_two_workers_share_what_the_database_holds():
    with tempfile.TemporaryDirectory() as folder:
        state = ["--state", os.path.join(folder, "state")]
        with Sim(*state) as one, Sim(*state) as two:
            assert one.ask(chat_request("[[n=1]]", False, "mine"))[0] == 200
            assert two.ask(chat_request("[[n=1]]", False, "mine", KEY2))[0] == 403
            assert two.ask(chat_request("[[n=1]]", False, "mine"))[0] == 200
            assert json.loads(one.ask(request("GET", "/admin/chat-history/mine"))[2])["count"] == 4
            two.ask(request("POST", "/admin/pause"))
            assert one.ask(chat_request("[[n=1]]", False, "mine"))[0] == 503
            assert json.loads(one.ask(request("GET", "/admin/info"))[2])["status"] == "paused"
            with Sim(*state) as three:
                assert three.ask(chat_request("[[n=1]]", False, "mine"))[0] == 503, "pause survives a restart"
            one.ask(request("POST", "/admin/resume"))
            assert two.ask(chat_request("[[n=1]]", False, "mine"))[0] == 200


def test_stop_and_jobs_and_mcp_sessions_are_local():
    with tempfile.TemporaryDirectory() as folder:
        state = ["--state", os.path.join(folder, "state")]
        with Sim(*state) as one, Sim(*state) as two, one.client() as client:
            client.send(chat_request("[[n=50 gap=50]]"))
            client.until(b"\r\n\r\n")
            number = json.loads(client.chunk()[6:])["request_id"]
            stop = request("POST", "/v1/chat/stop", {"session_id": "s", "request_id": number})
            assert b"not_found" in two.ask(stop)[2] and b"cancelled" in one.ask(stop)[2]
            job = json.loads(one.ask(request("POST", "/admin/reload-adapters/async"))[2])["job_id"]
            assert two.ask(request("GET", f"/admin/jobs/{job}"))[0] == 404
            assert one.ask(request("GET", f"/admin/jobs/{job}"))[0] == 200


def reloads(sim):
    return sim.control("GET", "")["reloads"]


def test_reloads_reach_the_others_only_under_a_supervisor():
    for supervisor, others in ((None, 0), (str(os.getpid()), 1)):
        with tempfile.TemporaryDirectory() as folder:
            options = ["--state", os.path.join(folder, "state")]
            environment = {"ORBIT_SUPERVISOR_PID": supervisor} if supervisor else {}
            with Sim(*options, environment=environment) as one, Sim(*options, environment=environment) as two:
                one.ask(request("POST", "/admin/reload-adapters"))
                assert reloads(one) == 1
                assert wait_for(lambda: reloads(two) == 1, 2.5 if others else 1.5) == bool(others)
