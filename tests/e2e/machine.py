"""Several workers of one gateway as a process, and what loads them from outside."""

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.harness import routes
from tests.e2e.processes import Process, serving
from tests.e2e.raw_client import close_all
from tests.waiting import DEADLINE, patient_client

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on this machine")
_COUNTED = frozenset(("counter", "histogram"))


@dataclass
class Machine:
    """A gateway with workers that serves."""

    process: Process
    admin: str
    counts: dict[tuple[str, str], float] = field(default_factory=dict)
    falls: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.process.urls[0].rsplit(":", 1)[1])

    async def status(self) -> dict[str, Any]:
        async with patient_client(trust_env=False) as web:
            answer = await web.get(f"{self.admin}/admin/status")
            assert answer.status_code == 200, answer.text
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
            text = (await web.get(f"{self.admin}/metrics")).text
        found = {
            (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
            for family in text_string_to_metric_families(text)
            if family.type in _COUNTED
            for sample in family.samples
        }
        self.falls += [
            f"{key}: {value}, {found.get(key)}" for key, value in self.counts.items() if found.get(key, 0) < value
        ]
        self.counts = found
        return found

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


@asynccontextmanager
async def in_background(work: Any) -> AsyncIterator[None]:
    """Do something until the block ends; that it fails fails the test."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@dataclass
class Load:
    """What wrk has counted; `lost` are requests without an answer, `refused` connects that failed."""

    requests: int
    lost: int
    refused: int
    bad: int


async def wrk(folder: Path, port: int, *, seconds: int, connections: int = 16, close: bool = False) -> Load:
    """Send requests for a while, on connections that are kept or on one for each."""
    script = folder / f"wrk-{close}.lua"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})
    more = 'wrk.headers["connection"] = "close"\n' if close else ""
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n{more}wrk.body = [[{body}]]\n'
    )
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text = (await process.communicate())[0].decode()
    assert process.returncode == 0, text
    requests = int(re.findall(r"(\d+) requests in", text)[0])
    connect, read, write, late = map(
        int, (re.findall(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text) or [(0,) * 4])[0]
    )
    bad = int((re.findall(r"Non-2xx or 3xx responses: (\d+)", text) or [0])[0])
    return Load(requests, read + write + late, connect, bad)
