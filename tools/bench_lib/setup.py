"""What a benchmark stands on: Debian packages, the program, the load programs."""

import os
import pathlib
import shutil
import subprocess

from .processes import ROOT, Failed

PACKAGES = {
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "wrk": "wrk",
    "strace": "strace",
    "valgrind": "valgrind",
}
LOAD_PROGRAMS = (
    "sse_origin",
    "sse_client",
    "chat_load",
    "latency_client",
    "ws_origin",
    "ws_client",
    "body_origin",
    "body_client",
    "job_origin",
    "job_load",
)
PLACES = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # a plain user's PATH may lack haproxy and nginx


def find(names):
    """Paths of the tools named, installed first where they are missing."""
    found = {name: shutil.which(name, path=PLACES) for name in names}
    missing = [PACKAGES[name] for name in names if not found[name]]
    if missing:
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        by_hand = f"install these packages: apt-get install {' '.join(missing)}"
        if not shutil.which("apt-get") or (as_root and not shutil.which("sudo")):
            raise Failed(by_hand)
        print(
            f"Installing: {' '.join(missing)} (haproxy and nginx also become services; "
            "`systemctl disable --now nginx haproxy` stops them)",
            flush=True,
        )
        subprocess.run([*as_root, "apt-get", "update", "-qq"], check=False)
        install = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            *missing,
        ]
        if subprocess.run([*as_root, *install], check=False).returncode != 0:
            raise Failed(by_hand)
        found = {name: shutil.which(name, path=PLACES) for name in names}
    absent = [name for name, path in found.items() if not path]
    if absent:
        raise Failed(f"not found after installing: {', '.join(absent)}")
    return found


def programs(perigee, load):
    """(perigee, folder of the load programs); what was not given is built, optimised, in build/."""
    targets = ([] if perigee else ["perigee"]) + ([] if load else ["bench_load"])
    if targets and subprocess.run([ROOT / "tools/build", *targets], check=False).returncode != 0:
        raise Failed(f"tools/build {' '.join(targets)} failed")
    perigee = pathlib.Path(perigee or ROOT / "build/perigee").resolve()
    load = pathlib.Path(load or ROOT / "build/tools/bench_load").resolve()
    for path in (perigee, *(load / name for name in LOAD_PROGRAMS)):
        if not os.access(path, os.X_OK):
            raise Failed(f"not a program: {path}")
    return perigee, load
