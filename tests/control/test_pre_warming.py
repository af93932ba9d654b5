"""New engines are warmed while others carry the load, and never when nobody else does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.backends.registry import SETTLED
from gateway.control.pre_warming import LONGEST
from tests.e2e.fakes import Call, FakeBackend, backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_reload_waiting import reload
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio


def routes(*fakes: FakeBackend, **more: int) -> str:
    pool = {"backends": [fake.url for fake in fakes], **more}
    return json.dumps({"pools": {"gpu": pool}, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}})


class Slow:
    """An engine that answers its first requests when a test lets it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0

    async def __call__(self, call: Call) -> None:
        self.asked += 1
        await self.open.wait()
        await good(call)


def pings(fake: FakeBackend) -> int:
    return sum(call.json["messages"][0]["content"] == "ping" for call in fake.calls)


async def users(running: Running, count: int) -> None:
    for _ in range(count):
        assert (await ask(running.port, chat())).status == 200


@asynccontextmanager
async def joined(tmp_path: Path, slow: Slow) -> AsyncIterator[tuple[Running, FakeBackend, FakeBackend]]:
    """A gateway with an engine at work and a new one, which has been asked for the first of three answers."""
    clock = HandClock()
    async with backends(good, slow) as (old, new):
        async with gateway(tmp_path, routes(old, pre_warm=3), now=clock) as running:
            clock.advance(SETTLED + 1)
            await reload(running, tmp_path, routes(old, new, pre_warm=3))
            await eventually(lambda: slow.asked == 1)
            yield running, old, new


async def test_a_new_engine_answers_synthetic_requests_before_it_gets_its_share(tmp_path: Path) -> None:
    slow = Slow()
    async with joined(tmp_path, slow) as (running, old, new):
        assert running.backend(1).availability.warming
        await users(running, 10)
        assert len(old.calls) == 10
        assert (len(new.calls), pings(new)) == (1, 1)
        slow.open.set()
        await eventually(lambda: not running.backend(1).availability.warming)
        assert pings(new) == 3
        await users(running, 20)
        assert len(new.calls) > 3


async def test_an_engine_gets_requests_at_once_where_no_other_takes_them(tmp_path: Path) -> None:
    clock, slow = HandClock(), Slow()
    async with backends(good, slow) as (old, new):
        slow.open.set()
        async with gateway(tmp_path, routes(old, pre_warm=3), now=clock) as running:
            clock.advance(SETTLED + 1)
            await reload(running, tmp_path, routes(new, pre_warm=3))
            await eventually(lambda: running.backend().readiness.state == "ready")
            await users(running, 3)
            assert pings(new) == 0
            await eventually(lambda: not running.backend().availability.warming)


async def test_an_engine_that_answers_nothing_gets_its_share_in_the_end(tmp_path: Path) -> None:
    async def broken(call: Call) -> None:
        await call.send(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")

    clock = HandClock()
    async with backends(good, broken) as (old, new):
        async with gateway(tmp_path, routes(old, pre_warm=1), now=clock) as running:
            clock.advance(SETTLED + 1)
            await reload(running, tmp_path, routes(old, new, pre_warm=1))
            await eventually(lambda: len(new.calls) > 3)
            assert running.backend(1).availability.warming
            await clock.passes(LONGEST + 1, lambda: not running.backend(1).availability.warming)


async def test_engines_are_not_warmed_right_after_the_start_nor_without_the_setting(tmp_path: Path) -> None:
    clock = HandClock()
    async with backends(good, good) as (one, other):
        async with gateway(tmp_path, routes(one, pre_warm=3), now=clock) as running:
            await reload(running, tmp_path, routes(one, other, pre_warm=3))
            await eventually(lambda: running.backend(1).readiness.state == "ready")
            assert not running.backend(1).availability.warming
            clock.advance(SETTLED + 1)
            await reload(running, tmp_path, routes(one))
            await reload(running, tmp_path, routes(one, other))
            await eventually(lambda: running.backend(1).readiness.state == "ready")
            assert not running.backend(1).availability.warming
            assert pings(one) + pings(other) == 0


async def test_an_engine_that_sleeps_is_asked_nothing(tmp_path: Path) -> None:
    slow = Slow()
    async with joined(tmp_path, slow) as (running, _, _):
        running.backend(1).availability.sleep(asleep=True)
        slow.open.set()
        await users(running, 20)
        assert slow.asked == 1
