#!/usr/bin/env python3
"""Scenarios: the real program over real sockets, between real clients and simulated or scripted workers.

    run.py --perigee PATH --orbit-sim PATH [WORD…] [--jobs N] [--list]

Runs the scenarios whose names hold one of the words. Each runs in a process group of its own, with its own
ports and folder, within its own time; whatever it leaves behind is ended with it. The last line is
`N passed, N failed` and the exit status agrees with it.
"""

import argparse
import importlib
import json
import os
import pathlib
import select
import signal
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "orbit_sim")]

import harness  # noqa: E402


def collect():
    for file in sorted(HERE.glob("test_*.py")):
        importlib.import_module(file.stem)
    return harness.SCENARIOS


def run_one(scenario, pipe):
    """In the child: the scenario, its clean-up, and its results as one line of JSON each."""

    def report(title, error):
        line = json.dumps({"title": title, "error": error}) + "\n"
        os.write(pipe, line.encode())

    with tempfile.TemporaryDirectory(prefix="perigee-scenario-") as folder:
        rig = harness.Rig(pathlib.Path(folder), report)
        failure = None
        try:
            scenario.function(rig)
        except Exception:  # noqa: BLE001: whatever it was is the result
            failure = traceback.format_exc()
        trouble = rig.close()
        if failure is None and trouble:
            failure = trouble
        if failure is not None or rig.failed_rows:
            print(rig.logs())
        if failure is not None or not rig.rows:
            report("", failure)
    return 1 if failure is not None or rig.failed_rows else 0


class Running:
    """A scenario in a child process, which leads a group of its own."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.output = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self.results = b""
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.setsid()
                os.close(read_end)
                os.dup2(self.output.fileno(), 1)
                os.dup2(self.output.fileno(), 2)
                status = run_one(scenario, write_end)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        os.close(write_end)
        self.pipe = read_end

    def fileno(self):
        return self.pipe

    def read(self):
        """False when it has ended."""
        data = os.read(self.pipe, 65536)
        self.results += data
        return bool(data)

    def finish(self, late=False):
        if late:
            self.kill()
        _, status = os.waitpid(self.pid, 0)
        self.kill()  # of its group whatever is left
        os.close(self.pipe)
        self.took = time.monotonic() - self.started
        rows = [json.loads(line) for line in self.results.decode().splitlines() if line.endswith("}")]
        if late:
            rows.append({"title": "", "error": f"did not end within {self.scenario.limit} s"})
        elif status != 0 and not any(row["error"] for row in rows):
            rows.append({"title": "", "error": f"the scenario's process ended with status {status}"})
        elif not rows:
            rows.append({"title": "", "error": "no result"})
        return rows

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def said(self):
        self.output.seek(0)
        return self.output.read().decode(errors="replace")


def show(running, rows, tally):
    bad = [row for row in rows if row["error"]]
    tally[0] += len(rows) - len(bad)
    tally[1] += len(bad)
    many = f" ({len(rows)} cases)" if len(rows) > 1 else ""
    print(f"{'FAILED' if bad else 'ok    '} {running.scenario.name}{many}  {running.took:.1f} s", flush=True)
    for row in bad:
        title = f"{row['title']}: " if row["title"] else ""
        print("    " + (title + row["error"].rstrip()).replace("\n", "\n    "))
    if bad:
        print("    | " + running.said().rstrip().replace("\n", "\n    | "), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--perigee", default=str(ROOT / "build/perigee"))
    parser.add_argument("--orbit-sim", default=str(ROOT / "tools/orbit-sim"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    harness.setup(options.perigee, options.orbit_sim)
    scenarios = [s for s in collect() if not options.words or any(word in s.name for word in options.words)]
    if options.list:
        print("\n".join(s.name for s in scenarios))
        return 0
    if not os.access(options.perigee, os.X_OK):
        print(f"no program at {options.perigee}\n0 passed, 1 failed")
        return 1

    # Long ones first, so that the last to end is short.
    waiting = sorted(scenarios, key=lambda s: -s.weight)
    tally, active, began = [0, 0], [], time.monotonic()
    try:
        while waiting or active:
            while waiting and len(active) < options.jobs:
                if active and (waiting[0].alone or active[0].scenario.alone):
                    other = next((s for s in waiting if not s.alone), None)
                    if other is None or active[0].scenario.alone:
                        break
                    waiting.remove(other)
                    active.append(Running(other))
                    continue
                active.append(Running(waiting.pop(0)))
            ready, _, _ = select.select(active, [], [], 0.2)
            for running in list(active):
                late = time.monotonic() - running.started > running.scenario.limit
                if (running in ready and not running.read()) or late:
                    active.remove(running)
                    show(running, running.finish(late), tally)
    finally:
        for running in active:
            running.kill()
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{tally[0]} passed, {tally[1]} failed")
    return 0 if tally[1] == 0 and tally[0] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
