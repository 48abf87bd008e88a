"""What a request costs: instructions in user space and system calls, which are the same on every day; and what a
stream costs in memory. For the release build."""

import re
import socket

import scripted
from harness import expect, scenario, until

CONNECTIONS = 32
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MORE = "access_log: off\nio_threads: 1\nslots: {http: 64}\nprobe: {interval: 60s}\n"


def in_lockstep(port, rounds):
    """Every connection asks once and is answered, `rounds` times."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(CONNECTIONS)]
    for _ in range(rounds):
        for one in sockets:
            one.sendall(REQUEST)
        for one in sockets:
            answer = b""
            while not answer.endswith(b"x" * 1024):
                data = one.recv(65536)
                expect("the connection stays open", data != b"")
                answer += data
    for one in sockets:
        one.close()


def cost(rig, count, under, rounds=(10, 60)):
    """The difference between a long and a short run, a request: start and end cancel out."""
    counted = []
    for n in rounds:
        answer = scripted.whole(b"x" * 1024)
        worker = rig.worker(lambda connection, request, a=answer: connection.send(a) and None, orbit=False)
        perigee = rig.perigee([worker], MORE, under=under)
        in_lockstep(perigee.port, n)
        expect("it ends in good order", perigee.stop(), None)
        perigee.stopped = True
        counted.append(count(perigee))
    return (counted[1] - counted[0]) / ((rounds[1] - rounds[0]) * CONNECTIONS)


@scenario(weight=14, limit=120)
def a_small_request_takes_no_more_than_12000_instructions(rig):
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    taken = cost(rig, lambda perigee: int(re.findall(r"Collected : (\d+)", perigee.log())[-1]), callgrind)
    expect("instructions in user space", taken, lambda n: 5000 < n <= 12000)


@scenario(weight=3, limit=60)
def a_small_request_takes_two_reads_and_two_writes(rig):
    table = rig.folder / "calls"
    strace = ["strace", "-D", "-f", "-c", "-U", "name,calls", "-o", str(table)]

    def calls(_):
        until("strace has written its table", lambda: table.exists() and "total" in table.read_text())
        written = table.read_text()
        table.unlink()
        return sum(int(n) for n in re.findall(r"^(?:recvfrom|sendto|sendmsg|epoll_p?wait)\s+(\d+)", written, re.M))

    taken = cost(rig, calls, strace)
    expect("reads, writes and waits", taken, lambda n: 4.0 <= n < 6.0)


def open_streams(perigee, ask, answered, count, held):
    """`count` more, one after the other: what requests need on their way is not to be counted."""
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", perigee.port), timeout=60)
        held.append(one)
        one.sendall(ask)
        seen = b""
        while answered not in seen:
            data = one.recv(65536)
            expect("the stream begins", data != b"")
            seen += data


def resident_bytes(perigee):
    """To the page: the kernel's figure in /proc/PID/status may lag by hundreds of KiB."""
    with open(f"/proc/{perigee.process.pid}/smaps_rollup") as rollup:
        return 1024 * int(re.search(r"^Rss:\s+(\d+)", rollup.read(), re.M)[1])


def bytes_of_one(rig, ask, answer, answered, first=200, more=400):
    """What each of `more` streams adds to resident memory, once the program is warm."""
    worker = rig.worker(lambda connection, request: connection.send(answer) and None, orbit=False)
    perigee = rig.perigee([worker], MORE.replace("64", "1000"))
    held = []
    open_streams(perigee, ask, answered, first, held)
    before = resident_bytes(perigee)
    open_streams(perigee, ask, answered, more, held)
    taken = (resident_bytes(perigee) - before) / more
    for one in held:
        one.close()
    return taken


@scenario(weight=4, limit=60)
def a_running_stream_holds_no_more_than_2800_bytes(rig):
    taken = bytes_of_one(rig, REQUEST, scripted.events("hello").removesuffix(b"0\r\n\r\n"), b"hello")
    expect("bytes of a stream, its two connections included", taken, lambda n: 1000 < n <= 2800)


@scenario(weight=2)
def an_idle_program_keeps_little_of_its_own(rig):
    """What it does not share with other programs: a megabyte or two once the configuration is read."""
    perigee = rig.perigee([rig.worker(lambda connection, request: None)])
    with open(f"/proc/{perigee.process.pid}/smaps_rollup") as rollup:
        anonymous = 1024 * int(re.search(r"^Anonymous:\s+(\d+)", rollup.read(), re.M)[1])
    expect("anonymous memory", anonymous, lambda n: 200_000 < n <= 4 << 20)
