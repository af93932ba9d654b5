"""Clients that ask one request after another, while engines come and go."""

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.harness import Running, ask, chat
from tests.e2e.test_kubernetes import Engines, named, serving
from tests.waiting import eventually

CLIENTS = 3


@dataclass
class Load:
    """The clients, and what they found: how their requests ended, and the fewest steady engines at any time."""

    running: Running
    there: Engines
    steady: Set[tuple[str, int]]
    statuses: list[int] = field(default_factory=list)
    least: int = 10**9
    done: bool = False

    async def client(self) -> None:
        while not self.done:
            self.statuses.append((await ask(self.running.port, chat(stream=False))).status)
            self.least = min(self.least, len(named(self.running) & self.steady))

    async def only_asks(self, expected: Set[tuple[str, int]]) -> None:
        """Wait until just these engines get requests; then no other is asked."""
        await eventually(lambda: serving(self.running) == expected)
        await self.asks(expected)

    async def asks(self, expected: Set[tuple[str, int]]) -> None:
        """Send more requests: none but these engines is asked."""
        under_way = len(self.there.called) + CLIENTS
        await eventually(lambda: len(self.there.called) >= under_way + 60)
        assert set(self.there.called[under_way:]) <= expected


@asynccontextmanager
async def loaded(running: Running, there: Engines, steady: Set[tuple[str, int]]) -> AsyncIterator[Load]:
    """Send requests until the block ends. None may fail, and no steady engine may have left."""
    load = Load(running, there, steady)
    clients = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
    try:
        yield load
    finally:
        load.done = True
        await asyncio.gather(*clients)
    assert set(load.statuses) == {200}
    assert load.least == len(steady), "those that were ready throughout were there throughout"
