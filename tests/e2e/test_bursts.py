"""Bursts at an engine that was idle: one that refuses a part of them is busy, one that refuses all is sick."""

import asyncio
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd
from tests.e2e.fakes import Call, backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.test_busy import FIRST_EVENT, STATUS, Moods, counted, ended, routes
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Full:
    """An engine that takes four requests, holds them until it is `open`, and refuses those beyond."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.taken = 0

    async def __call__(self, call: Call) -> None:
        if self.taken >= 4:
            await call.send(*FIRST_EVENT)
            return
        self.taken += 1
        await self.open.wait()
        self.taken -= 1
        await good(call)


async def test_a_burst_at_an_idle_engine_that_takes_a_part_of_it_finds_it_busy_not_sick(tmp_path: Path) -> None:
    """It refuses the rest before the first has had a token: nothing else shows yet that it works."""
    full = Full()
    async with backends(full) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        asked = [asyncio.create_task(ask(running.port, chat())) for _ in range(12)]
        await eventually(lambda: ended(running, AttemptEnd.SATURATED) >= 8)
        full.open.set()
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        assert counted(running) == (12, 0)
        assert running.backend().health.outlier.ejection.ejections == 0
        await running.quiet()


async def test_one_that_refuses_all_of_two_bursts_is_sick_the_second_time(tmp_path: Path) -> None:
    mood = Moods(*STATUS)
    mood.refuses = True
    async with backends(mood) as (fake,), gateway(tmp_path, routes(fake.url, patience="200ms")) as running:
        await asyncio.gather(*(ask(running.port, chat()) for _ in range(8)))
        await running.quiet()
        before = counted(running)[1]
        running.backend().health.backoff.hold_until = 0.0
        await asyncio.gather(*(ask(running.port, chat()) for _ in range(8)))
        assert counted(running)[1] > before
        assert ended(running, AttemptEnd.OK) == 0
        await running.quiet()
