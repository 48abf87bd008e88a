#!/usr/bin/env python3
"""What the simulator itself costs: chats at a rate, or streams all at once, and its CPU and lateness.

    load.py --rate 16 --tokens 40 --gap 50 --seconds 30
    load.py --streams 130 --tokens 400 --gap 50
"""

import argparse
import asyncio
import os
import random

from support import Sim, chat_request

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Reader(asyncio.Protocol):
    def __init__(self, data, done):
        self.data, self.done, self.tail = data, done, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.data)

    def data_received(self, data):
        self.tail = (self.tail + data)[-5:]
        if self.tail == b"0\r\n\r\n":
            self.transport.close()

    def connection_lost(self, error):
        if not self.done.done():
            self.done.set_result(self.tail == b"0\r\n\r\n")


async def chat(port, data):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    await loop.create_connection(lambda: Reader(data, done), "127.0.0.1", port)
    return await done


async def drive(options, sim):
    prompt = f"[[n={options.tokens} gap={options.gap}]]"
    loop = asyncio.get_running_loop()
    tasks = []
    began = loop.time()
    before = cpu_seconds(sim.pid)
    if options.streams:
        for number in range(options.streams):
            tasks.append(loop.create_task(chat(sim.port, chat_request(prompt, session=f"s{number}"))))
    else:
        rng, when = random.Random(1), began
        while when < began + options.seconds:
            when += rng.expovariate(options.rate)
            await asyncio.sleep(max(when - loop.time(), 0))
            tasks.append(loop.create_task(chat(sim.port, chat_request(prompt, session=f"s{len(tasks)}"))))
    good = sum(await asyncio.gather(*tasks))
    took = loop.time() - began
    cpu = cpu_seconds(sim.pid) - before
    stats = await loop.run_in_executor(None, sim.stats)
    counts, shown = stats["counts"], stats["histograms"]
    print(f"{good} of {len(tasks)} complete in {took:.1f} s, {counts['tokens']} tokens, peak {counts['chats_peak']}; "
          f"CPU {cpu:.2f} s = {100 * cpu / took:.1f} % of a core, {1e6 * cpu / max(counts['tokens'], 1):.0f} us a token; "
          f"virtual loop {100 * stats['loop']['busy_fraction']:.0f} % busy")
    for name in ("write_lag", "token_delay", "token_delay_model", "head_lag"):
        print(f"  {name:18}", {key: value for key, value in shown[name].items() if key != "count"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=16)
    parser.add_argument("--streams", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--gap", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("sim", nargs="*", help="options of the simulator, after --")
    options = parser.parse_args()
    with Sim("--profile", "bench", *options.sim) as sim:
        asyncio.run(drive(options, sim))


if __name__ == "__main__":
    main()
