"""What a scenario stands on: the program, its workers, free ports, bounded waits, and a clean end for all
of them.

A scenario is a function with a `Rig`. Whatever the rig starts it ends, and a perigee that does not end with status 0
after SIGTERM, or whose log holds a sanitizer's report, fails its scenario.
"""

import http.client
import itertools
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time

import support
from support import Client, Sim, wait_for  # noqa: F401: scenarios take them from here

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CASES = pathlib.Path(__file__).resolve().parent / "cases"
SCENARIOS = []
SESSIONS = itertools.count()
PERIGEE = ""


class Scenario:
    def __init__(self, function, limit, weight, alone):
        self.function = function
        module = function.__module__.removeprefix("test_").replace("_", " ")
        self.name = f"{module}: {function.__name__.replace('_', ' ')}"
        self.limit, self.weight, self.alone = limit, weight, alone


def scenario(limit=40, weight=1, alone=False):
    """`weight`: about how many seconds it takes. `alone`: what it measures would be spoilt by a neighbour."""

    def keep(function):
        SCENARIOS.append(Scenario(function, limit, weight, alone))
        return function

    return keep


def setup(perigee, orbit_sim):
    global PERIGEE
    PERIGEE = os.path.abspath(perigee)
    support.PROGRAM = os.path.abspath(orbit_sim)


GIVEN_PORTS = set()


def free_port():
    """A port below those that the kernel gives away by itself, free now, and given to nobody before."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(12000, 32000)
        if port in GIVEN_PORTS:
            continue
        GIVEN_PORTS.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def expect(what, got, wanted=True):
    if callable(wanted):
        good = wanted(got)
    else:
        good = got == wanted
    if not good:
        raise AssertionError(f"{what}: got {got!r}" + ("" if callable(wanted) else f", wanted {wanted!r}"))
    return got


def until(what, condition, seconds=5.0):
    """Waits for something true, and returns it."""
    value = wait_for(condition, seconds)
    if not value:
        raise AssertionError(f"{what}: not within {seconds} s, last seen {value!r}")
    return value


# --- answers ------------------------------------------------------------------------------------------------


class Answer:
    """One whole answer: `status`, `fields` (lower-case names), `body` with the framing taken off, `raw`."""

    def __init__(self, raw):
        self.raw = raw
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split(b" ", 2)[1])
        self.lines = [line.decode("latin-1") for line in lines]
        self.fields = {}
        for line in self.lines[1:]:
            name, _, value = line.partition(":")
            self.fields[name.lower()] = value.strip()
        self.framed = rest
        self.body = unchunk(rest) if self.fields.get("transfer-encoding") == "chunked" else rest

    def json(self):
        return json.loads(self.body)

    @property
    def reason(self):
        return self.fields.get("x-perigee-reason")


def unchunk(data):
    body = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return body
        body, data = body + data[:size], data[size + 2 :]
    return body


class Wire(Client):
    """A raw connection to perigee."""

    def ask(self, data, head_only=False):
        self.send(data)
        return self.next_answer(head_only)

    def next_answer(self, head_only=False):
        while True:
            answer = Answer(self.answer(head_only))
            if answer.status >= 200 or answer.status == 101:
                return answer

    def head(self):
        """The head of an answer whose body is still to come."""
        return Answer(self.until(b"\r\n\r\n"))

    def stream(self):
        """The events of a chunked stream, each with the time at which it came. Ends with the last chunk."""
        while True:
            data = self.chunk()
            if not data:
                return
            yield time.monotonic(), data


def get(path, *fields, method="GET"):
    return "".join(
        [f"{method} {path} HTTP/1.1\r\nHost: x\r\n", *(f"{f}\r\n" for f in fields), "\r\n"]
    ).encode()


def post(path, body=b"", *fields):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        "".join(
            [
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
                *(f"{f}\r\n" for f in fields),
                f"Content-Length: {len(body)}\r\n\r\n",
            ]
        ).encode()
        + body
    )


def chat(prompt="hello", session=None, stream=True, path="/v1/chat", fields=(), **more):
    """Without `session` each is of one of its own: turns of one session wait for one another."""
    session = session or f"own-{next(SESSIONS)}"
    return support.chat_request(
        prompt, stream=stream, session=session, path=path, extra="".join(f"{f}\r\n" for f in fields), **more
    )


# --- the program --------------------------------------------------------------------------------------------


class Perigee:
    """The program with a configuration. `more` is YAML in addition to listen, admin and workers; `under`: words
    before the program, for a tool that runs it; `tls`: that of a second listener's `tls`, at `tls_port`."""

    def __init__(
        self,
        folder,
        number,
        workers,
        more="",
        arguments=None,
        listen=None,
        admin=None,
        environment=None,
        limit_descriptors=None,
        wait="ready",
        prefix="",
        under=(),
        tls=None,
        listeners=(),
        passed=(),
    ):
        self.folder = folder
        self.config = folder / f"perigee-{number}.yaml"
        self.log_path = folder / f"perigee-{number}.log"
        self.access_path = folder / f"access-{number}.log"
        self.workers = list(workers)
        self.more = more
        self.prefix = prefix
        self.tls = tls
        self.listeners = list(listeners)  # more places to listen at, as YAML
        for attempt in range(3):
            self.port = listen or free_port()
            self.admin_port = admin or free_port()
            self.tls_port = free_port() if tls else None
            self.write_config()
            words = arguments(self) if arguments else ["--config", str(self.config)]
            with open(self.log_path, "wb") as log, open(self.access_path, "wb") as access:
                command, names = [*under, PERIGEE, *words], {}
                if passed:
                    # As systemd does it: descriptors from 3 on, and the process's own id.
                    command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
                    names = {
                        "LISTEN_FDS": str(len(passed)),
                        "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
                    }
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=access,
                    stderr=log,
                    env={**os.environ, **names, **(environment or {})},
                    close_fds=not passed,
                    preexec_fn=lambda: prepare(limit_descriptors, passed),
                )
            self.stopped = False
            if wait is None or self.wait_up(wait) or listen or "in use" not in self.log():
                break
        if wait is not None and self.process.poll() is not None:
            raise AssertionError(f"perigee ended with status {self.process.returncode}:\n{self.log()}")
        if wait is not None and not self.wait_up(wait):
            raise AssertionError(f"perigee was not {wait} in time")

    def write_config(self, workers=None, more=None, text=None, tls=None):
        """What a reload will find."""
        if tls is not None:
            self.tls = tls
        if workers is not None:
            self.workers = list(workers)
        if more is not None:
            self.more = more
        lines = "".join(f"  - {worker_line(worker)}\n" for worker in self.workers)
        places = ", ".join([f"127.0.0.1:{self.port}", *self.listeners])
        if self.tls:
            places += f", {{address: '127.0.0.1:{self.tls_port}', tls: {self.tls}}}"
        whole = (
            f"listen: [{places}]\nadmin: {self.prefix}127.0.0.1:{self.admin_port}\nworkers:\n{lines}"
            f"shutdown_timeout: 3s\n{self.more}"
        )
        if "shutdown_timeout" in self.more:
            whole = whole.replace("shutdown_timeout: 3s\n", "", 1)
        if "throttle" not in self.more:
            # Machines that run tests are full, and what is done about that has scenarios of its own.
            whole += "throttle: off\n"
        self.config.write_text(whole if text is None else text)

    def wait_up(self, page="ready", seconds=15.0):
        path = {"ready": "/readyz", "alive": "/healthz"}[page]

        def up():
            if self.process.poll() is not None:
                return "ended"
            try:
                return self.admin(path).status == 200
            except OSError:
                return False

        return wait_for(up, seconds) is True

    # --- looking at it

    def wire(self, timeout=10.0):
        return Wire(self.port, timeout=timeout)

    def ask(self, data, timeout=10.0):
        """One request on a connection of its own."""
        with self.wire(timeout) as wire:
            return wire.ask(data)

    def admin(self, path, *fields, host="127.0.0.1", method="GET"):
        with Wire(self.admin_port, timeout=10.0) as wire:
            lines = "".join(f"{f}\r\n" for f in fields)
            return wire.ask(
                f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode(), method == "HEAD"
            )

    def page(self, name):
        return self.admin("/api/v1/" + name).json()

    def backend(self, name):
        return next(b for b in self.page("backends")["backends"] if b["name"] == name and not b["removed"])

    def metric(self, name, **labels):
        """The sum of the series that have these labels."""
        total, found = 0.0, False
        for line in self.admin("/metrics").body.decode().splitlines():
            match = re.match(r"([a-z_]+)(?:\{(.*)\})? (\S+)$", line)
            if match is None or match[1] != name:
                continue
            have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            if all(have.get(key) == value for key, value in labels.items()):
                total, found = total + float(match[3]), True
        return total if found else None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def access_text(self):
        return self.access_path.read_text(errors="replace")

    def lines(self, **wanted):
        """Lines of the access log that have these values."""
        found = []
        for text in self.access_text().splitlines():
            line = json.loads(text)
            if all(line.get(key) == value for key, value in wanted.items()):
                found.append(line)
        return found

    def line(self, seconds=4.0, **wanted):
        """The first such line, waited for: lines are written within two seconds."""
        try:
            return until(f"access line {wanted}", lambda: self.lines(**wanted), seconds)[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\nlines there are:\n{self.access_text()[-3000:]}") from None

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def worker_connections(self, port):
        """Established TCP connections from perigee to that port, as the kernel sees them."""
        wanted = f"{port:04X}"
        count = 0
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[2].endswith(":" + wanted) and words[3] == "01":
                count += 1
        return count

    # --- doing something to it

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self, succeeds=True, seconds=5.0):
        before = self.page("status")["reloads"]
        key = "succeeded" if succeeds else "failed"
        self.signal(signal.SIGHUP)
        until("reload " + key, lambda: self.page("status")["reloads"][key] == before[key] + 1, seconds)

    def wait(self, seconds=10.0):
        """Its exit status."""
        self.stopped = True
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"perigee did not end within {seconds} s") from None

    def stop(self):
        """Ends it in good order, unless a scenario has done so. What went wrong, or nothing."""
        if not self.stopped and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return "perigee did not end within 8 s of SIGTERM"
            if self.process.returncode != 0:
                return f"perigee ended with status {self.process.returncode} after SIGTERM"
        elif not self.stopped and self.process.returncode != 0:
            return f"perigee ended by itself with status {self.process.returncode}"
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        report = re.search(r"(AddressSanitizer|ThreadSanitizer|LeakSanitizer|runtime error:).*", self.log())
        return f"a sanitizer spoke: {report[0]}" if report else None


def prepare(descriptors, passed):
    """In the child, before the program: its bound of descriptors, and sockets that it is given."""
    import fcntl
    import resource

    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for _, sock in passed]
    for place, copy in enumerate(copies):
        os.dup2(copy, 3 + place)


def worker_line(worker):
    """A worker of the configuration: text as it is, a simulator or scripted worker by its address."""
    if isinstance(worker, str):
        return worker
    name = getattr(worker, "name", None)
    url = f"{'https' if getattr(worker, 'tls', None) else 'http'}://127.0.0.1:{worker.port}"
    return f"{{url: '{url}', name: {name}}}" if name else url


class Rig:
    """Everything that one scenario starts."""

    def __init__(self, folder, report):
        self.folder = folder
        self.report = report
        self.rows = 0
        self.failed_rows = 0
        self.perigees = []
        self.things = []

    def perigee(self, workers=(), more="", **options):
        number = len(self.perigees) + 1
        # Remembered before it is up: its log matters most when it does not come up.
        perigee = Perigee.__new__(Perigee)
        self.perigees.append(perigee)
        perigee.__init__(self.folder, number, workers, more, **options)
        return perigee

    def sim(self, *options, name=None, **more):
        sim = Sim(*options, **more)
        sim.name = name
        self.things.append(sim.kill)
        return sim

    def sims(self, count, *options):
        return [self.sim(*options, name=f"w{i + 1}") for i in range(count)]

    def worker(self, *arguments, **options):
        from scripted import Worker

        worker = Worker(*arguments, **options)
        self.things.append(worker.close)
        return worker

    def keep(self, thing):
        """Something with close(), closed at the end."""
        self.things.append(thing.close)
        return thing

    def row(self, title, function, *arguments):
        """One case of a table: its failure is its own."""
        self.rows += 1
        try:
            function(*arguments)
            self.report(title, None)
        except Exception as error:  # noqa: BLE001
            self.failed_rows += 1
            text = (
                str(error)
                if isinstance(error, AssertionError) and str(error)
                else f"{type(error).__name__}: {error}"
            )
            self.report(title, text)

    def close(self):
        trouble = []
        for perigee in self.perigees:
            if hasattr(perigee, "process"):
                trouble.append(perigee.stop())
        for close in reversed(self.things):
            try:
                close()
            except OSError as error:
                trouble.append(str(error))
        return "\n".join(filter(None, trouble))

    def logs(self):
        text = []
        for perigee in self.perigees:
            if hasattr(perigee, "log_path") and perigee.log_path.exists():
                text.append(f"--- {perigee.log_path.name}\n{perigee.log()[-6000:]}")
                text.append(f"--- {perigee.access_path.name}\n{perigee.access_text()[-4000:]}")
        return "\n".join(text)


def slots(count, pace=0):
    """Workers with a fixed number of slots and no pace, so that a scenario knows when one is free."""
    return (
        f"slots: {{steering: fixed, start: {count}, recovered: {count}, floor: 1}}\n"
        f"pace: {{start: {pace}, recovered: {pace}}}\n"
    )


def cases(name):
    return json.loads((CASES / name).read_text())


def http_client(perigee, timeout=10):
    return http.client.HTTPConnection("127.0.0.1", perigee.port, timeout=timeout)


def curl(*arguments, seconds=15, text=True):
    return subprocess.run(
        ["curl", "-sS", "--max-time", str(seconds), *map(str, arguments)],
        capture_output=True,
        text=text,
        timeout=seconds + 5,
        check=False,
    )
