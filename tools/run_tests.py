#!/usr/bin/env python3
"""Builds and runs the tests; `tools/test` calls this once everything needed is installed.

Default: every unit test and the kept fuzz inputs under clang 19 with the address and undefined-behaviour
sanitizers; coro, net and dispatch under the thread sanitizer; on the g++ release build the scenarios, the
simulated worker's traces and the quick start. --all: the unit tests and the scenarios on g++ debug, g++ release, clang address/undefined and clang thread, two minutes of fuzzing a target,
then clang-tidy and every header alone.

Every runner's own counts are added up; a build, or a runner that ends without counts, is one more check.
What is missing has failed. The last line is "N passed, N failed" and the exit status agrees with it.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
JOBS = str(os.cpu_count() or 2)
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)
DOCTEST = re.compile(r"\[doctest\] test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed")
THREADED_ROOMS = ["coro", "net", "dispatch"]

GCC = {"CC": "gcc", "CXX": "g++"}
CLANG = {"CC": "clang-19", "CXX": "clang++-19", "CC_LD": "lld", "CXX_LD": "lld"}
# Line numbers are all that a sanitizer's report needs; full debug information costs a third of the build.
LEAN_DEBUG = ["--buildtype=custom", "-Ddebug=false", "-Dcpp_args=-gline-tables-only"]
# name → folder, compiler, options of meson
BUILDS = {
    "gcc-debug": ("build-gcc-debug", GCC, ["--buildtype=debug", "-Dwerror=true"]),
    "gcc-release": ("build", GCC, []),  # by tools/build
    "asan": (
        "build-asan",
        CLANG,
        [
            *LEAN_DEBUG,
            "-Doptimization=0",
            "-Dwerror=true",
            "-Db_sanitize=address,undefined",
            "-Db_lundef=false",
        ],
    ),
    "tsan": (
        "build-tsan",
        CLANG,
        [*LEAN_DEBUG, "-Doptimization=1", "-Dwerror=true", "-Db_sanitize=thread", "-Db_lundef=false"],
    ),
}
SANITIZERS = {
    "ASAN_OPTIONS": "halt_on_error=1:abort_on_error=1:detect_leaks=1:strict_string_checks=1"
    ":check_initialization_order=1",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:second_deadlock_stack=1",
    "ASAN_SYMBOLIZER_PATH": shutil.which("llvm-symbolizer-19") or "",
    "TSAN_SYMBOLIZER_PATH": shutil.which("llvm-symbolizer-19") or "",
}


class Tally:
    """Passed and failed so far, and what each step took."""

    def __init__(self):
        self.passed = self.failed = 0
        self.steps = []

    def step(self, name, action):
        print(f"── {name}", flush=True)
        started = time.monotonic()
        try:
            passed, failed = action()
        except subprocess.TimeoutExpired as late:
            print(f"   did not end within {late.timeout:.0f} s")
            passed, failed = 0, 1
        except OSError as error:
            print(f"   {error}")
            passed, failed = 0, 1
        took = time.monotonic() - started
        self.passed, self.failed = self.passed + passed, self.failed + failed
        self.steps.append((name, passed, failed, took))
        print(f"   {passed} passed, {failed} failed ({took:.0f} s)", flush=True)
        return failed == 0

    def end(self):
        print(f"\n{'step':46} {'passed':>7} {'failed':>7} {'seconds':>8}")
        for name, passed, failed, took in self.steps:
            print(f"{name:46} {passed:7} {failed:7} {took:8.0f}")
        print(f"\n{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def run(command, limit, env=None, show=False):
    """Runs `command` from the root within `limit` seconds; returns (exit status, output)."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        text=True,
        errors="replace",
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
    signal.alarm(limit)
    output = []
    try:
        for line in process.stdout:
            output.append(line)
            if show:
                print("   " + line, end="", flush=True)
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # Ctrl-C, or our own end: nothing of ours stays behind
        raise
    finally:
        remaining = signal.alarm(0)
    if remaining == 0:
        print("".join(output[-40:]))
        raise subprocess.TimeoutExpired(command, limit)
    return status, "".join(output)


def tail(output, lines=60):
    print("\n".join("   " + line for line in output.splitlines()[-lines:]))


def compiler_env(compiler):
    if not shutil.which("ccache"):
        return compiler
    return {**compiler, "CC": "ccache " + compiler["CC"], "CXX": "ccache " + compiler["CXX"]}


def configured(name):
    """The build folder of that name, set up if it is not; None if that failed."""
    folder, compiler, options = BUILDS[name]
    if (ROOT / folder / "build.ninja").exists():
        return folder
    status, output = run(["meson", "setup", folder, *options], 300, compiler_env(compiler))
    if status != 0:
        shutil.rmtree(ROOT / folder, ignore_errors=True)
        tail(output)
        return None
    return folder


def build(name, targets=()):
    """One check per target (or one for everything): it builds, and no compiler warns."""
    if name == "gcc-release":
        return built_by(["tools/build", *targets])
    folder = configured(name)
    if folder is None:
        return 0, max(1, len(targets))
    results = [
        built_by(["ninja", "-C", folder, "-j", JOBS, "-k", "0", *([target] if target else [])])
        for target in targets or [""]
    ]
    return sum(r[0] for r in results), sum(r[1] for r in results)


def built_by(command):
    status, output = run(command, 1500)
    warnings = [line for line in output.splitlines() if "warning:" in line]
    if status != 0:
        tail(output)
    for line in warnings[:20]:
        print(f"   {line}")
    return (1, 0) if status == 0 and not warnings else (0, 1)


def test_programs(folder):
    """Name → is its program built, for every test that Meson knows in `folder`."""
    status, output = run(["meson", "introspect", "--tests", folder], 60)
    return {test["name"]: os.path.exists(test["cmd"][0]) for test in json.loads(output)} if status == 0 else {}


def unit_tests(name, tests=(), limit=900):
    """Runs what is built, all of it or the `tests` named; counts the cases inside each test program."""
    folder = BUILDS[name][0]
    known = test_programs(folder)
    wanted = list(tests) or list(known)
    missing = [test for test in wanted if not known.get(test)]
    for test in missing:
        print(f"   {test}: {'not built' if test in known else 'no such test'}")
    if len(missing) == len(wanted):
        return 0, max(1, len(missing))

    log = ROOT / folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    patience = "2" if name.startswith("gcc") else "8"  # times 30 s a program
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", "-t", patience]
    status, output = run([*command, *(test for test in wanted if test not in missing)], limit, SANITIZERS)
    passed, failed = 0, len(missing)
    for line in log.read_text().splitlines() if log.exists() else []:
        result = json.loads(line)
        good, bad = counts(result.get("stdout") or "")
        if result["result"] == "OK" and bad == 0:
            good = max(good, 1)
        else:  # also a skipped test: nothing here may be skipped in silence
            bad = max(bad, 1)
            print(f"   {result['name']}: {result['result']}")
        passed, failed = passed + good, failed + bad
    if status != 0:
        tail(output, 150)
        failed = max(failed, 1)
    return passed, failed


def counts(output):
    """(passed, failed) as a test program reports it itself; (0, 0) if it reports nothing."""
    found = DOCTEST.findall(output) or SUMMARY.findall(output)
    return sum(int(good) for good, _ in found[-1:]), sum(int(bad) for _, bad in found[-1:])


def runner(command, limit):
    """A runner that ends with `N passed, N failed`; its exit status must agree."""
    status, output = run(command, limit, {**SANITIZERS, "PYTHONUNBUFFERED": "1"}, show=True)
    found = SUMMARY.findall(output)
    passed, failed = (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)
    if status != 0 or passed == 0:
        failed = max(failed, 1)
    return passed, failed


def scenarios(name):
    perigee = ROOT / BUILDS[name][0] / "perigee"
    return runner(
        [
            sys.executable,
            "tests/scenarios/run.py",
            "--perigee",
            perigee,
            "--orbit-sim",
            ROOT / "tools/orbit-sim",
            "--jobs",
            "3",
        ],
        900,
    )


def fuzzing(seconds):
    return runner([sys.executable, "tools/fuzz", "--seconds", str(seconds)], 1500 + 20 * seconds)


def one_check(command, limit):
    status, output = run(command, limit)
    if status != 0:
        tail(output)
    return (1, 0) if status == 0 else (0, 1)


def clang_tidy():
    return one_check(
        ["run-clang-tidy-19", "-quiet", "-p", "build-asan", "-j", JOBS, str(ROOT / "src") + "/.*"], 3600
    )


def usual(tally):
    tally.step("build: clang, address and undefined sanitizers", lambda: build("asan"))
    tally.step("unit tests: address and undefined sanitizers", lambda: unit_tests("asan"))
    threaded = [f"tests/{room}/{room}_test" for room in THREADED_ROOMS]
    tally.step("build: clang, thread sanitizer", lambda: build("tsan", threaded))
    tally.step("unit tests: thread sanitizer", lambda: unit_tests("tsan", THREADED_ROOMS))
    tally.step("build: g++, release", lambda: build("gcc-release"))
    tally.step(
        "simulated worker against its traces", lambda: runner([sys.executable, "tests/orbit_sim/run.py"], 300)
    )
    tally.step("scenarios: g++, release", lambda: scenarios("gcc-release"))
    tally.step("quick start", lambda: one_check(["tools/quickstart", "--once"], 300))


def matrix(tally):
    for name in BUILDS:
        tally.step(f"build: {name}", lambda: build(name, ["all"] if name == "gcc-release" else []))
        tally.step(f"unit tests: {name}", lambda: unit_tests(name, limit=1800))
        tally.step(f"scenarios: {name}", lambda: scenarios(name))
    tally.step("fuzzing: two minutes a target", lambda: fuzzing(120))
    tally.step(
        "simulated worker against its traces", lambda: runner([sys.executable, "tests/orbit_sim/run.py"], 300)
    )
    tally.step("quick start", lambda: one_check(["tools/quickstart", "--once"], 300))
    tally.step(
        "every header alone: g++", lambda: one_check([sys.executable, "tools/tidy.py", "--headers"], 1800)
    )
    tally.step(
        "every header alone: clang",
        lambda: one_check([sys.executable, "tools/tidy.py", "--headers", "clang++-19"], 1800),
    )
    tally.step("clang-tidy", clang_tidy)


def main():
    parser = argparse.ArgumentParser(
        prog="tools/test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="the whole matrix; takes an hour on two cores")
    options = parser.parse_args()
    tally = Tally()
    (matrix if options.all else usual)(tally)
    return tally.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted\n0 passed, 1 failed")
        sys.exit(130)
