"""Start of the simulator: settings, event loop, the one line that says it is ready."""

import asyncio
import gc
import os
import resource
import sys

from .settings import parse_command_line
from .worker import Worker


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(settings):
    worker = Worker(settings, asyncio.get_running_loop())
    try:
        await worker.open()
    except OSError as error:
        print(f"orbit-sim: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    control = f" control_port={worker.control_port}" if worker.control_port is not None else ""
    print(f"orbit-sim ready name={settings.name} host={settings.host} port={worker.port}{control} pid={os.getpid()}",
          flush=True)
    # Nearly all garbage is freed by reference counts; a collection in the middle of a run would be a stall of our own.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    await asyncio.Event().wait()  # the end comes by signal
    return 0


def main():
    settings = parse_command_line(sys.argv[1:])
    raise_descriptor_limit()
    return asyncio.run(serve(settings))
