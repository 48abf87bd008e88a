"""The command line and the file, from outside: what starts, what is refused and with which words."""

import json
import os
import re
import socket
import subprocess

import harness
from harness import ROOT, cases, expect, free_port, get, scenario, until

SECONDS = 10


def run(*words, environment=None, folder=None, text=None):
    return subprocess.run(
        [harness.PERIGEE, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        check=False,
        input=text,
    )


@scenario(limit=60, weight=3)
def files_that_are_checked(rig):
    """cases/config.json: files, the exit status of `perigee check`, and what it must say."""

    def one(number, case):
        folder = rig.folder / str(number)
        for name, text in case["files"].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                re.sub(r"\{(.+?)\*(\d+)\}", lambda m: m[1].replace("\\n", "\n") * int(m[2]), text)
            )
        done = run("check", next(iter(case["files"])), folder=folder, environment=case.get("environment"))
        said = done.stdout + done.stderr
        expect(f"exit status, said: {said[:600]}", done.returncode, case["status"])
        for word in case["says"]:
            expect(f"said `{word}`, all: {said[:900]}", word in said)
        for word in case.get("never", []):
            expect(f"did not say `{word}`", word not in said)
        if case["status"]:
            expect("nothing on standard output", done.stdout, "")

    for number, case in enumerate(cases("config.json")):
        rig.row(case["rule"], one, number, case)


@scenario(weight=1)
def the_roadmap_s_file_is_accepted_as_it_stands(rig):
    file = ROOT / "tests/data/config/roadmap-performance.yaml"
    done = run("check", file)
    expect(done.stderr, done.returncode, 0)
    for key in ("performance.caching", "performance.auto_scaling", "performance.workers"):
        expect(f"{key} is told to be not yet in effect", key in done.stdout)
    expect("what has an effect is shown", "1000" in done.stdout)
    started = run("--config", file)
    expect(
        "it cannot be started without workers", (started.returncode, "workers" in started.stderr), (1, True)
    )


@scenario(weight=1)
def every_file_in_conf_passes(rig):
    for file in sorted((ROOT / "conf").glob("*.yaml")):
        done = run("check", file, environment={"PERIGEE_TOKEN": "correct-horse"})
        rig.row(file.name, lambda: expect(done.stderr, done.returncode, 0))


@scenario(weight=1)
def words_on_the_command_line(rig):
    table = [
        (["--version"], 0, "perigee "),
        (["-V"], 0, "perigee "),
        (["--help"], 0, "Usage"),
        (["-h"], 0, "--worker"),
        (["schema"], 0, "$schema"),
        ([], 2, "--help"),
        (["--verion"], 2, "--version"),
        (["chek", "x"], 2, "check"),
        (["check"], 2, "FILE"),
        (["--config"], 2, "FILE"),
        (["--config", "a", "--config", "b"], 2, "twice"),
        (["--config", "a", "--worker", "http://127.0.0.1:1"], 2, "exclude"),
        (["--listen", "3000"], 2, "--worker"),
        (["--worker", "ftp://x", "--admin", "off"], 1, "http://127.0.0.1:3001"),
        (["--worker", "http://127.0.0.1:1", "--listen", "99999"], 1, "99999"),
        (["--worker", "http://127.0.0.1:1", "--listen", "nonsense"], 1, "nonsense"),
        (["--config", "/nonexistent/file.yaml"], 1, "No such file"),
        (["check", "/nonexistent/file.yaml"], 1, "No such file"),
        (["check", "/"], 1, "/"),
    ]

    def one(words, status, says):
        done = run(*words)
        expect(f"status; said {done.stdout}{done.stderr}", done.returncode, status)
        expect(
            f"says {says}: {done.stdout}{done.stderr}", says in (done.stdout if status == 0 else done.stderr)
        )

    for words, status, says in table:
        rig.row(" ".join(words) or "nothing", one, words, status, says)
    schema = json.loads(run("schema").stdout)
    rig.row(
        "the schema has every key",
        lambda: expect(
            "keys",
            schema["properties"],
            lambda p: {"listen", "workers", "queue_wait", "performance"} <= set(p),
        ),
    )


@scenario(weight=2)
def three_lines(rig):
    sims = rig.sims(2)
    port, admin = free_port(), free_port()
    file = rig.folder / "three.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\nworkers: [http://127.0.0.1:{sims[0].port}, http://127.0.0.1:{sims[1].port}]\n"
        f"admin: 127.0.0.1:{admin}\n"
    )
    perigee = rig.perigee([], arguments=lambda p: ["-c", str(file)], listen=port, admin=admin)
    expect("served", perigee.ask(get("/health")).body, b'{"status":"ok"}')
    expect(
        "names",
        [b["name"] for b in perigee.page("backends")["backends"]],
        [f"127.0.0.1:{s.port}" for s in sims],
    )
    until("both up", lambda: all(b["up"] for b in perigee.page("backends")["backends"]))
    expect(
        "defaults",
        [b["slots"] for b in perigee.page("backends")["backends"]],
        lambda n: all(s >= 8 for s in n),
    )


@scenario(weight=2)
def no_file_at_all(rig):
    sim = rig.sim()
    perigee = rig.perigee(
        [],
        arguments=lambda p: [
            "--listen",
            f"127.0.0.1:{p.port}",
            "-w",
            f"http://127.0.0.1:{sim.port}",
            f"--admin=127.0.0.1:{p.admin_port}",
        ],
    )
    expect("served", perigee.ask(get("/health")).body, b'{"status":"ok"}')
    perigee.reload()
    expect("a reload changes nothing", perigee.ask(get("/health")).status, 200)


@scenario(weight=1)
def a_port_in_use(rig):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (
            ["--listen", f"127.0.0.1:{port}", "--admin", "off"],
            ["--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{port}"],
        ):
            done = run("--worker", "http://127.0.0.1:1", *words)
            said = done.stdout + done.stderr
            expect(f"exit status; said {said}", done.returncode, 1)
            expect(said, "in use" in said and str(port) in said)


@scenario(weight=1)
def a_file_that_may_not_be_read(rig):
    file = rig.folder / "secret.yaml"
    file.write_text("workers: [http://127.0.0.1:1]\n")
    file.chmod(0)
    if os.getuid() == 0:
        # Root reads everything: give up root for this one.
        for folder in (rig.folder,):
            folder.chmod(0o755)
        done = subprocess.run(
            [harness.PERIGEE, "check", str(file)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            user=65534,
            group=65534,
        )
    else:
        done = run("check", file)
    expect(
        done.stdout + done.stderr,
        (done.returncode, "ermission denied" in done.stderr, "secret.yaml" in done.stderr),
        (1, True, True),
    )
