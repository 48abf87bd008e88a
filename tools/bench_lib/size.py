"""How much the program takes: idle in memory, and as a file with its own libraries linked in."""

import os
import pathlib
import re
import shutil
import subprocess
import time

from . import machine
from .processes import ROOT, Failed, Worker, free_port, get
from .report import table

MIB = 1 << 20
FOLDER = "build-static"
# The system's, on every machine that runs a program of C++ at all: not our own.
SYSTEM = re.compile(r"(libc|libm|libdl|librt|libpthread|ld-linux[^.]*|libstdc\+\+|libgcc_s)\.so")


def build(perigee):
    """The program with its libraries linked in, built in build-static/ unless one is given."""
    if perigee:
        return pathlib.Path(perigee).resolve()
    if subprocess.run([ROOT / "tools/build", "--static"], check=False).returncode != 0:
        raise Failed("tools/build --static failed")
    return ROOT / FOLDER / "perigee"


def stripped_bytes(file, folder):
    copy = folder / (pathlib.Path(file).name + ".stripped")
    shutil.copy(os.path.realpath(file), copy)
    copy.chmod(0o755)
    done = subprocess.run(["strip", "--strip-all", copy], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"strip: {done.stderr}")
    return copy.stat().st_size


def shared_libraries(program):
    """{name: path} of all that it loads, what its libraries load included; the vDSO has no file."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", said, re.MULTILINE))


def idle(processes, perigee, seconds):
    """Resident bytes of the three-line configuration in front of two workers that are up: (all, anonymous)."""
    workers = [Worker(processes, f"size-w{i}") for i in range(2)]
    port, admin = free_port(), free_port()
    file = processes.folder / "three-lines.yaml"
    urls = ", ".join(f"http://{worker.address}" for worker in workers)
    file.write_text(f"listen: 127.0.0.1:{port}\nworkers: [{urls}]\nadmin: 127.0.0.1:{admin}\n")
    process = processes.start([perigee, "--config", file], f"idle-{port}")
    processes.wait_answer(process, admin, "/readyz")
    if get(port, "/health")[0] != 200:
        raise Failed("the workers are not up")
    time.sleep(seconds)
    found = tuple(machine.resident_bytes(process.pid, field) for field in ("VmRSS", "RssAnon"))
    for one in (process, *(worker.process for worker in workers)):
        processes.stop(one)
    return found


def run(options, _tools, perigee, _load, processes, report):
    static = build(options.static)
    resident = {"shared libraries": idle(processes, perigee, options.seconds)}
    resident["libraries linked in"] = idle(processes, static, options.seconds)
    table(
        f"Idle for {options.seconds} s, three lines of configuration, two workers up",
        ["program", "resident KiB", "of it anonymous"],
        [[name, both[0] // 1024, both[1] // 1024] for name, both in resident.items()],
    )
    program = stripped_bytes(static, processes.folder)
    left = {
        name: stripped_bytes(path, processes.folder)
        for name, path in shared_libraries(static).items()
        if not SYSTEM.match(name)
    }
    total = program + sum(left.values())
    table(
        "The stripped program with its own libraries (libc, libm, libstdc++ and libgcc_s stay the system's)",
        ["what", "KiB"],
        [
            ["program", program // 1024],
            *([f"{name}, not linked in: counted whole", size // 1024] for name, size in left.items()),
            ["together", total // 1024],
        ],
    )
    report.keep("resident", resident)
    report.keep("file", {"program": program, "not_linked_in": left, "together": total})
    for name, both in resident.items():
        report.verdict(
            f"idle, {name}: at most 8 MiB resident",
            f"{both[0] / MIB:.2f} MiB ({both[1] / MIB:.2f} anonymous)",
            both[0] <= 8 * MIB,
        )
    report.verdict(
        "the stripped program with its own libraries: at most 8 MiB", f"{total / MIB:.2f} MiB", total <= 8 * MIB
    )
