"""What the README promises to somebody who has just built it."""

import os
import signal
import subprocess
import sys
import time

import harness
from harness import ROOT, expect, scenario, until

SCRIPT = ROOT / "tools/quickstart.py"


def environment(rig):
    """The script starts build/perigee of its checkout: a checkout that has ours there."""
    root = rig.folder / "checkout"
    (root / "build").mkdir(parents=True)
    (root / "build/perigee").symlink_to(harness.PERIGEE)
    (root / "tools").mkdir()
    for name in ("orbit-sim", "orbit_sim"):
        (root / "tools" / name).symlink_to(ROOT / "tools" / name)
    script = root / "tools/quickstart.py"
    script.write_text(SCRIPT.read_text())
    return script


# Two at once would reach for the same ports.
@scenario(limit=60, weight=4, alone=True)
def once(rig):
    done = subprocess.run(
        [sys.executable, environment(rig), "--once"], capture_output=True, text=True, timeout=40, check=False
    )
    expect(done.stdout + done.stderr, done.returncode, 0)
    for word in ("listen:", "curl", "tokens over"):
        expect(f"says {word}", word in done.stdout)


@scenario(limit=60, weight=5, alone=True)
def until_control_c(rig):
    process = subprocess.Popen(
        [sys.executable, environment(rig)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    children = []
    try:
        said = []
        began = time.monotonic()
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C ends" in line or time.monotonic() - began > 30:
                break
        expect("said what to try next: " + "".join(said), "Ctrl-C" in said[-1])
        children = children_of(process.pid)
        expect("children", len(children), 4)
        process.send_signal(signal.SIGINT)
        expect("exit", process.wait(15), 0)
        until("nothing is left", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), 3)
    finally:
        # They lead sessions of their own: the runner's end of a group does not reach them.
        left = children if process.poll() is not None else children_of(process.pid)
        process.kill()
        process.wait()
        process.stdout.close()
        for pid in left:
            if ours(pid, rig):
                os.kill(pid, signal.SIGKILL)


def children_of(pid):
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in listed.stdout.split()]


def ours(pid, rig):
    """A number may have been given to another process meanwhile."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            return str(rig.folder).encode() in words.read()
    except OSError:
        return False
