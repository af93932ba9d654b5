"""Simulated engines for one gateway, in a process of their own.

`python -m loadtest.scenarios.engines` reads what to run as one JSON argument and prints where it listens as one line.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import httpx
import uvloop

from gateway.processes.child import spawn
from gateway.sim.profiles import CPU, GPU, customised
from gateway.sim.server import running
from gateway.sim.settings import Settings
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.traffic import MODEL

_READY = "engines listen: "


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its name in the scenario, where it serves, and where faults are set."""

    name: str
    url: str
    control: str

    @property
    def address(self) -> str:
        """`host:port`, as most gateways want it."""
        return self.url.removeprefix("http://")

    @property
    def port(self) -> str:
        """Where it listens on this machine."""
        return self.url.rpartition(":")[2]

    @property
    def group(self) -> str:
        """The name of its group in the scenario."""
        return self.name.rpartition("-")[0]


@contextlib.asynccontextmanager
async def engines(scenario: Scenario, seed: int) -> AsyncIterator[list[Engine]]:
    """Start a process with every engine of a scenario; it has ended on leaving. Raises ProcessDied."""
    told = json.dumps(_wanted(scenario, seed))
    child = await spawn("engines", ["loadtest.scenarios.engines", told])
    try:
        line = await child.line_with(_READY)
        yield [Engine(*each) for each in json.loads(line.partition(_READY)[2])]
    finally:
        await child.stop()


def controlling(timeout: float = 10.0) -> httpx.AsyncClient:
    """Return a client for controls: it lets go of idle connections well before a server does, after 5 s, by itself."""
    return httpx.AsyncClient(timeout=timeout, trust_env=False, limits=httpx.Limits(keepalive_expiry=2.0))


async def inflict(client: httpx.AsyncClient, chosen: list[Engine], faults: dict[str, object]) -> None:
    """Put faults in force at engines, at the same time, in place of those before."""
    # One after the other, those of the first gateway had a spell up to seconds before those of the last.
    answers = await asyncio.gather(*(client.post(f"{each.control}/sim/faults", json=faults) for each in chosen))
    for answer in answers:
        answer.raise_for_status()


def _wanted(scenario: Scenario, seed: int) -> list[dict[str, object]]:
    """Say in JSON's terms which engines a scenario has."""
    return [
        {
            "name": f"{group}-{number}",
            "profile": of.profile,
            "engine": [f"{name}={value:g}" for name, value in of.engine.items()],
            "seed": f"{seed} {group} {number}",
            "time_scale": scenario.time_scale,
        }
        for group, of in scenario.engines.items()
        for number in range(of.count)
    ]


def _settings(wanted: dict[str, Any]) -> Settings:
    return Settings(
        control_port=0,
        profile=customised(CPU if wanted["profile"] == "cpu" else GPU, wanted["engine"]),
        models=(MODEL,),
        seed=crc32(wanted["seed"].encode()),
        time_scale=wanted["time_scale"],
    )


async def _serve(wanted: list[dict[str, Any]]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(_settings(each))) for each in wanted]
        where = [
            (each["name"], server.url, f"http://127.0.0.1:{server.control_port}")
            for each, server in zip(wanted, servers, strict=True)
        ]
        print(_READY + json.dumps(where), flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1])))
