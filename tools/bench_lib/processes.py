"""Processes that the bench starts: they end with it, by their own id, whatever happens."""

import contextlib
import http.client
import json
import pathlib
import random
import select
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Failed(Exception):
    """What went wrong, for the person who started us."""


_ports = random.sample(range(12000, 32000), 2000)


def free_port():
    """A port below those that the kernel gives to outgoing connections. Each is given once, in no order, so
    that two benches beside one another do not meet."""
    while _ports:
        port = _ports.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("no free port left")


class Processes:
    """Started processes. Leaving the context ends those that still run, the last one first."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(list(self.running)):
            self.stop(process)

    def start(self, command, name, output=None):
        """`output`: subprocess.PIPE to read it, else it goes to NAME.log in the folder."""
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C reaches us only, and we end the rest in order
            )
        process.name = name
        self.running.append(process)
        return process

    def stop(self, process, patience=3):
        """SIGTERM, then SIGKILL. A second SIGTERM ends a Perigee that still has requests."""
        for _ in range(2):
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=patience / 2)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        with contextlib.suppress(ValueError):
            self.running.remove(process)

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def line(self, process, begins, seconds=20):
        """The first line of its output, which must begin so."""
        readable, _, _ = select.select([process.stdout], [], [], seconds)
        said = process.stdout.readline() if readable else ""
        if not said.startswith(begins):
            raise Failed(f"{process.name} did not start: {said!r}\n{self.log(process.name)}")
        return said.strip()

    def wait_answer(self, process, port, path="/", seconds=20):
        """Until GET is answered by 200."""
        end = time.monotonic() + seconds
        last = None
        while time.monotonic() < end:
            if process.poll() is not None:
                raise Failed(
                    f"{process.name} ended with status {process.returncode}\n{self.log(process.name)}"
                )
            try:
                last = get(port, path)[0]
            except (OSError, http.client.HTTPException) as error:
                last = error
            if last == 200:
                return
            time.sleep(0.05)
        raise Failed(f"{process.name} does not answer on port {port}: {last}\n{self.log(process.name)}")


def get(port, path, timeout=5):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Worker:
    """A simulated ORBIT worker and its control route."""

    def __init__(self, processes, name, *options):
        self.processes = processes
        self.process = processes.start(
            [
                sys.executable,
                ROOT / "tools/orbit-sim",
                "--port",
                0,
                "--control-port",
                0,
                "--name",
                name,
                *options,
            ],
            name,
            output=subprocess.PIPE,
        )
        said = dict(
            word.split("=", 1) for word in processes.line(self.process, "orbit-sim ready").split()[2:]
        )
        self.port, self.control_port = int(said["port"]), int(said["control_port"])
        self.address = f"127.0.0.1:{self.port}"

    def control(self, method, path, body=None):
        # A worker that is overloaded on purpose may be slow to answer here too.
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=30)
        try:
            connection.request(method, "/__sim" + path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise Failed(f"{method} /__sim{path}: {answer.status} {text[:300]!r}")
            return json.loads(text)
        finally:
            connection.close()

    def reset(self):
        self.control("POST", "/reset", {"what": ["stats"]})

    def stats(self):
        return self.control("GET", "/stats?buckets=1")

    def stop(self):
        self.processes.stop(self.process, patience=1)
