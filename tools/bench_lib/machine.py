"""What the machine and our processes used: read from /proc, in seconds and bytes."""

import os
import pathlib
import platform
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """A process and all that descend from it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_seconds(pid):
    """User and system time of a process with all its threads and descendants."""
    ticks = 0
    for one in tree(pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def thread_cpu_seconds(pid):
    """{thread id: seconds} of one process, to the nanosecond where the kernel keeps schedstat."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    return found


def resident_bytes(pid, field="VmRSS"):
    """`field`: VmRSS, or RssAnon (what no file backs)."""
    kib = 0
    for one in tree(pid):
        for line in pathlib.Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                kib += int(line.split()[1])
    return kib * 1024


class Busy:
    """How busy the whole machine was since this was made: share of all cores, what others stole included."""

    def __init__(self):
        self.before = self.read()

    @staticmethod
    def read():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return sum(fields) - idle, sum(fields)

    def share(self):
        busy, total = self.read()
        return (busy - self.before[0]) / max(total - self.before[1], 1)


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "absent"
    return (done.stdout + done.stderr).strip().splitlines()[0] if (done.stdout + done.stderr).strip() else "?"


def describe(perigee, tools):
    processor = "?"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "processor": processor,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
        "perigee": first_line([perigee, "--version"]),
        "haproxy": first_line([tools.get("haproxy", "haproxy"), "-v"]),
        "nginx": first_line([tools.get("nginx", "nginx"), "-v"]),
    }
