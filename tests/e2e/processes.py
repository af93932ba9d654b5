"""Gateways and engines as processes of their own."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.fakes import KEPT_PORTS
from tests.waiting import DEADLINE

_URL = re.compile(r"http://[0-9.]+:\d+")


@dataclass
class Process:
    """A running process and everything that it said."""

    process: asyncio.subprocess.Process
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    async def said(self, text: str) -> str:
        """Wait for a line with `text` and return it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for line in (*self.out, *self.err):
                    if text in line:
                        return line
                if self.process.returncode is not None and all(reader.done() for reader in self.readers):
                    raise AssertionError(f"ended with {self.process.returncode}: {self.out} {self.err}")
                await asyncio.sleep(0.01)

    async def ended(self) -> int:
        """Wait for its end and return its status."""
        async with asyncio.timeout(DEADLINE):
            status = await self.process.wait()
            await asyncio.gather(*self.readers)
            return status

    async def killed(self) -> None:
        """Kill it; its ports refuse from now on, and no other test gets them while a gateway still asks there."""
        self.process.kill()
        await self.process.wait()
        for url in self.urls:
            KEPT_PORTS.keep(int(url.rsplit(":", 1)[1]))

    def logged(self) -> list[dict[str, Any]]:
        """Return the access log's lines."""
        return [json.loads(line) for line in self.out]


@asynccontextmanager
async def running(*arguments: str, descriptors: int = 0) -> AsyncIterator[Process]:
    """Run `python -m ARGUMENTS`, with so many descriptors at most if that is not 0, until the block ends."""
    pipe = asyncio.subprocess.PIPE
    few = ("sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh") if descriptors else ()
    process = await asyncio.create_subprocess_exec(*few, sys.executable, "-m", *arguments, stdout=pipe, stderr=pipe)
    async with following(process) as child:
        yield child


@asynccontextmanager
async def following(process: asyncio.subprocess.Process) -> AsyncIterator[Process]:
    """Gather what a process says until the block ends, and the process with it."""
    child = Process(process)
    child.readers = [
        asyncio.create_task(_gather(process.stdout, child.out)),
        asyncio.create_task(_gather(process.stderr, child.err)),
    ]
    try:
        yield child
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.gather(*child.readers)


async def _gather(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    if stream is not None:
        while line := await stream.readline():
            lines.append(line.decode().rstrip())


@asynccontextmanager
async def engine(*arguments: str, model: str = "m") -> AsyncIterator[Process]:
    """Run one simulated engine; its address is `urls[0]`."""
    async with running("gateway.sim", "--port", "0", "--model", model, *arguments) as child:
        child.urls = _URL.findall(await child.said("listening on"))
        yield child


@asynccontextmanager
async def serving(
    folder: Path, backends: Sequence[str], *arguments: str, text: str = "", descriptors: int = 0
) -> AsyncIterator[Process]:
    """Run `tidegate serve`; `urls` are its data and its admin address."""
    path = folder / "served.yaml"
    path.write_text(text or json.dumps({"models": {"m": {"backends": list(backends)}}}))
    ports = ("--port", "0", "--admin-port", "0", "--state", f"sqlite:///{folder / 'state.sqlite'}")
    async with running("gateway.cli", "serve", str(path), *ports, *arguments, descriptors=descriptors) as child:
        child.urls = _URL.findall(await child.said("tidegate serves"))
        yield child
