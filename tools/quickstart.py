#!/usr/bin/env python3
"""Perigee in front of three simulated ORBIT workers, one streamed chat through it, and what to try next.

`tools/quickstart` builds the program and calls this. Everything it starts is its own child and ends with
it, by Ctrl-C, by SIGTERM, or when one of the children dies. Nothing is left behind but the build.
"""

import argparse
import contextlib
import json
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEY = "orbit_" + "q" * 32  # the simulated workers take any key of ORBIT's form
READY_WITHIN = 20  # seconds
CHAT = {"messages": [{"role": "user", "content": "Why does a moon have a perigee?"}], "stream": True}


class Failed(Exception):
    """What went wrong, for the person who started us."""


def free_port(first):
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise Failed(f"no free port between {first} and {first + 199}")


class Children:
    """The processes that we started. `stop` ends them, the last started first, and waits for each."""

    def __init__(self):
        self.running = []

    def start(self, name, command, output, errors):
        # A session of its own: Ctrl-C reaches us only, and we end the children in order.
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        self.running.append((name, process))
        return process

    def dead(self):
        return next(
            ((name, process.returncode) for name, process in self.running if process.poll() is not None), None
        )

    def stop(self):
        for name, process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.running.clear()


def start_workers(children, count, log):
    """Starts the workers; returns their addresses and process ids once each has said that it listens."""
    urls, pids, port = [], [], 3101
    for number in range(1, count + 1):
        port = free_port(port)
        worker = children.start(
            f"worker {number}",
            [ROOT / "tools/orbit-sim", "--host", "127.0.0.1", "--port", port, "--name", f"worker-{number}"],
            subprocess.PIPE,
            log,
        )
        readable, _, _ = select.select([worker.stdout], [], [], READY_WITHIN)
        said = worker.stdout.readline().decode(errors="replace") if readable else ""
        if not said.startswith("orbit-sim ready"):
            raise Failed(f"worker {number} did not start on port {port}")
        urls.append(f"http://127.0.0.1:{port}")
        pids.append(worker.pid)
        port += 1
    return urls, pids


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code
    except OSError:
        return None


def wait_ready(children, admin, log):
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        dead = children.dead()
        if dead:
            raise Failed(f"{dead[0]} ended with status {dead[1]}:\n{log.read_text()[-2000:]}")
        if status_of(f"http://{admin}/readyz") == 200:
            return
        time.sleep(0.05)
    raise Failed(f"perigee was not ready within {READY_WITHIN} s:\n{log.read_text()[-2000:]}")


def chat_command(url, session="quickstart"):
    return [
        "curl",
        "-sS",
        "-N",
        "--fail-with-body",
        f"{url}/v1/chat",
        "-H",
        f"X-API-Key: {KEY}",
        "-H",
        f"X-Session-ID: {session}",
        "-H",
        "Content-Type: application/json",
        "-d",
        json.dumps(CHAT),
    ]


def shell(command):
    """As a person would type it; double quotes where the shell has a variable to fill in."""

    def quoted(part):
        return f'"{part}"' if "$" in part else f"'{part}'" if re.search(r"[ {]", part) else part

    return " ".join(quoted(part) for part in command)


def stream_chat(url):
    """Sends one chat by curl, prints each token as it comes; returns (tokens, seconds first to last)."""
    curl = subprocess.Popen(chat_command(url), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    tokens, first, last, complete, raw = 0, None, None, False, []
    try:
        for line in curl.stdout:
            raw.append(line)
            event = json.loads(line[5:]) if line.startswith("data:") else {}
            if "response" in event:
                last = time.monotonic()
                first = first or last
                tokens += 1
                print(event["response"], end="", flush=True)
            complete = complete or event.get("done") is True
        status = curl.wait(timeout=10)
    finally:
        if curl.poll() is None:
            curl.kill()
            curl.wait()
    print()
    if status != 0 or not complete or tokens == 0:
        raise Failed(f"the chat did not complete (curl: {status}):\n{''.join(raw)[-2000:]}")
    return tokens, last - first


def demonstrate(children, folder):
    """All of it up to the point where a person takes over; returns what there is to try next."""
    log = folder / "perigee.log"
    with log.open("ab") as out, (folder / "workers.log").open("ab") as worker_errors:
        workers, pids = start_workers(children, 3, worker_errors)
        port, admin = free_port(3000), f"127.0.0.1:{free_port(9300)}"
        url = f"http://127.0.0.1:{port}"
        config = folder / "perigee.yaml"
        config.write_text(f"listen: 127.0.0.1:{port}\nworkers: [{', '.join(workers)}]\nadmin: {admin}\n")
        children.start("perigee", [ROOT / "build/perigee", "--config", config], out, subprocess.STDOUT)
    wait_ready(children, admin, log)

    print(f"\nThree simulated workers listen on {', '.join(workers)}.")
    print(f"Perigee listens on {url}, started with {config}:\n")
    print("".join(f"    {line}\n" for line in config.read_text().splitlines()))
    print(f"A streamed chat through it:\n\n    {shell(chat_command(url))}\n")
    print("    ", end="", flush=True)
    tokens, seconds = stream_chat(url)
    print(f"\n    ({tokens} tokens over {seconds:.1f} s, printed as they came)\n")
    many = shell(chat_command(url, "quickstart-$i"))
    return f"""The admin address is http://{admin}. To try next, in another terminal:

    # the workers as Perigee sees them: health, load, slots
    curl -s http://{admin}/api/v1/backends
    # metrics for Prometheus
    curl -s http://{admin}/metrics | grep ^perigee_
    # a worker dies; the next chats go to the others
    kill -9 {pids[0]}
    # fifty chats at once
    for i in $(seq 50); do {many} >/dev/null & done; wait
    # the access log
    tail -f {log}

Ctrl-C ends all of it."""


def interrupted(_signal, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(
        prog="tools/quickstart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end after the demonstration; the exit status says whether it worked",
    )
    options = parser.parse_args()
    # Also Ctrl-C: a shell that started us in the background has told us to ignore it.
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)

    children = Children()
    with tempfile.TemporaryDirectory(prefix="perigee-quickstart-") as folder:
        try:
            what_next = demonstrate(children, pathlib.Path(folder))
            if options.once:
                return 0
            print(what_next, flush=True)
            while (
                status := children.running[-1][1].poll()
            ) is None:  # a worker may end: that is one of the things to try
                time.sleep(0.2)
            raise Failed(f"perigee ended with status {status}")
        except KeyboardInterrupt:
            print("\nStopping.", flush=True)
            return 0 if not options.once else 1
        except (Failed, OSError, ValueError) as problem:
            print(f"\nquickstart: {problem}", file=sys.stderr)
            return 1
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more Ctrl-C must not leave anything running
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            children.stop()


if __name__ == "__main__":
    sys.exit(main())
