"""Several workers of one gateway as a process, and what loads them from outside."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadtest.upgrades import load
from loadtest.upgrades.load import Counts, Load
from tests.e2e.harness import routes
from tests.e2e.processes import Process, serving
from tests.e2e.raw_client import close_all
from tests.waiting import DEADLINE, patient_client

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on this machine")


@dataclass
class Machine:
    """A gateway with workers that serves."""

    process: Process
    admin: str
    counts: Counts = field(default_factory=Counts)

    @property
    def falls(self) -> list[str]:
        return self.counts.falls

    @property
    def port(self) -> int:
        return int(self.process.urls[0].rsplit(":", 1)[1])

    async def status(self) -> dict[str, Any]:
        """Return the status, as soon as a worker answers: on a busy machine one may be late for the supervisor."""
        async with patient_client(trust_env=False) as web, asyncio.timeout(2 * DEADLINE):
            while (answer := await web.get(f"{self.admin}/admin/status")).status_code != 200:
                assert answer.json()["error"]["code"] == "no_worker", answer.text
                await asyncio.sleep(0.05)
        found: dict[str, Any] = answer.json()
        return found

    async def serving_workers(self) -> list[dict[str, Any]]:
        return [each for each in (await self.status())["workers"] if each["stage"] == "serving"]

    async def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 2 * DEADLINE) -> dict[str, Any]:
        """Wait until the status is so, and return it."""
        async with asyncio.timeout(seconds):
            while not holds(found := await self.status()):
                await asyncio.sleep(0.05)
        return found

    async def upgraded(self) -> None:
        """Have it upgraded, and wait until it is."""
        before = (await self.status())["generation"]
        async with patient_client(trust_env=False) as web:
            assert (await web.post(f"{self.admin}/admin/upgrade")).status_code == 202
        found = await self.until(lambda status: status["generation"] > before or status["upgrade"].startswith("failed"))
        assert found["generation"] == before + 1, found["upgrade"]

    async def scrape(self) -> dict[tuple[str, str], float]:
        """Read all counts; those that have fallen since the last time are noted."""
        async with patient_client(trust_env=False) as web:
            self.counts.saw((await web.get(f"{self.admin}/metrics")).text)
        return self.counts.values

    async def keep_scraping(self) -> None:
        """Scrape until cancelled."""
        while True:
            await self.scrape()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def machine(
    folder: Path, backends: list[str], *arguments: str, workers: int = 2, text: str = ""
) -> AsyncIterator[Machine]:
    """Run `tidegate serve --workers`, until the block ends; its workers end with it."""
    # Workers start slowly on a busy machine.
    text = text or routes(*backends, stall="5m", first_token="5m", total="10m")
    async with serving(folder, backends, "--workers", str(workers), *arguments, text=text) as process:
        found = Machine(process, process.urls[1])
        await found.until(lambda status: any(each["state"] == "ready" for each in status["backends"]))
        try:
            yield found
        finally:
            close_all(found.port)
        if process.process.returncode is None:
            process.process.terminate()
            process.process.terminate()
            await process.ended()


async def wrk(folder: Path, port: int, *, seconds: int, pause: int, close: bool = False) -> Load:
    """Send requests for a while, on connections that are kept or on one for each, `pause` ms after each answer."""
    options = {"seconds": seconds, "connections": 16, "timeout": 30, "pause": pause}
    return await asyncio.to_thread(load.wrk, folder, port, **options, close=close)
