"""Servers to connect to, networks that a test decides on, and what waits for connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.wire.upstream import Upstream
from tests.waiting import DEADLINE


class Waiting:
    """A waiter that takes one connection, or none."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.upstream: asyncio.Future[Upstream] = asyncio.get_running_loop().create_future()
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connected(self, upstream: Upstream) -> bool:
        self.upstream.set_result(upstream)
        return self.takes

    def connect_failed(self, detail: str) -> None:
        self.failure.set_result(detail)


def before_dialling(monkeypatch: pytest.MonkeyPatch, wait: Callable[[str], Awaitable[None]]) -> None:
    """Have every connect to an address wait for this first."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def create_connection(make: Any, address: str, *rest: Any, **more: Any) -> Any:
        await wait(address)
        return await connect(make, address, *rest, **more)

    monkeypatch.setattr(loop, "create_connection", create_connection)


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """Accept connections, and end only when every one of them has been closed by the pool's side."""
    open_ones: set[asyncio.Task[None] | None] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(asyncio.current_task())
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(task for task in open_ones if task))
