"""A gateway whose loop is watched from within: `python -m loadtest.scale.watched ROUTES SAMPLES STATE`.

Every five milliseconds a timer notes when it was due, by how much it was late, and how much CPU the process used since
it last ran: on a busy machine a timer is also late because other processes had the core.
"""

import asyncio
import logging
import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO

import uvloop

from gateway.app import App
from gateway.config.load import load_routes
from gateway.settings import Settings
from gateway.telemetry.logs import configure
from gateway.telemetry.output import Output

EVERY = 0.005
SAMPLE = struct.Struct("<ddd")
"""When the timer was due (monotonic seconds), by how much it was late, and the CPU used since the one before."""


async def _watch(file: BinaryIO) -> None:
    loop, last = asyncio.get_running_loop(), time.process_time()
    while True:
        due = time.monotonic() + EVERY
        woken = loop.create_future()
        loop.call_later(EVERY, woken.set_result, None)
        await woken
        now, used = time.monotonic(), time.process_time()
        file.write(SAMPLE.pack(due, now - due, used - last))
        last = used


async def _serve(routes: Path, samples: Path, state: str) -> None:
    settings = Settings(routes=routes, port=0, admin_port=0, access_log=False, state=state)
    with samples.open("wb", buffering=1 << 16) as file:
        watching = asyncio.create_task(_watch(file))
        await App(settings, load_routes(routes, listeners=settings.listeners)).run(
            lambda addresses: print(f"serves {addresses.data} {addresses.admin}", flush=True)
        )
        watching.cancel()


if __name__ == "__main__":
    configure("warning", Output(2))
    logging.getLogger("gateway.control").setLevel(logging.INFO)
    uvloop.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
