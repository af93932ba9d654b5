"""A request that waits for a connection hears of it once, in time."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

from gateway.lateness import Lateness
from gateway.wire.connecting import ConnectDeadline, Connecting
from gateway.wire.dialer import Dialer
from gateway.wire.idle_connections import IdleConnections
from gateway.wire.names import Name
from gateway.wire.outbox import Outbox
from gateway.wire.upstream import Upstream
from tests.waiting import DEADLINE
from tests.wire.dialling import Waiting, before_dialling, listening

pytestmark = pytest.mark.anyio


class Connect:
    """A connect to a port of this host, and what keeps connections that are not wanted."""

    def __init__(self, waiter: Waiting, port: int, seconds: float = DEADLINE) -> None:
        name = Name("127.0.0.1", port, monotonic)
        self.idle = IdleConnections(name, monotonic)
        dialer = Dialer(name, port, tls=None, owner=self.idle, outbox=Outbox(), clock=monotonic)
        self.connecting = Connecting(dialer, waiter, ConnectDeadline(seconds, monotonic(), Lateness()), monotonic)


async def silent(_: str) -> None:
    await asyncio.Event().wait()


async def broken(_: str) -> None:
    raise ValueError("out of order")


async def test_a_waiter_gets_its_connection() -> None:
    async with listening() as port:
        waiter = Waiting()
        connect = Connect(waiter, port)
        assert repr(connect.connecting).startswith("<Connecting 127.0.0.1 1")
        await connect.connecting.run()
        upstream = await waiter.upstream
        assert (upstream.transport.is_closing(), len(connect.idle)) == (False, 0)
        upstream.transport.close()


async def test_one_that_is_not_wanted_any_more_is_kept() -> None:
    async with listening() as port:
        connect = Connect(Waiting(takes=False), port)
        await connect.connecting.run()
        assert len(connect.idle) == 1
        connect.idle.close()


@pytest.mark.parametrize(
    ("wait", "failure"), [(silent, "no connection within 0.05 s"), (broken, "ValueError: out of order")]
)
async def test_a_waiter_is_told_why_there_is_none(
    wait: Callable[[str], Awaitable[None]], failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_dialling(monkeypatch, wait)
    waiter = Waiting()
    await Connect(waiter, 1, seconds=0.05).connecting.run()
    assert await waiter.failure == failure


async def test_a_waiter_that_breaks_on_its_connection_is_told_and_the_connection_closed() -> None:
    class Broken(Waiting):
        def connected(self, upstream: Upstream) -> bool:
            super().connected(upstream)
            raise ValueError("out of order")

    async with listening() as port:
        waiter = Broken()
        connect = Connect(waiter, port)
        await connect.connecting.run()
        assert "its log says why" in await waiter.failure
        assert ((await waiter.upstream).transport.is_closing(), len(connect.idle)) == (True, 0)


def test_a_deadline_excuses_what_this_process_was_late() -> None:
    lateness = Lateness()
    lateness.beat(100.0)
    deadline = ConnectDeadline(2.0, 100.0, lateness)
    assert deadline.left(101.0) == 1.0
    lateness.beat(103.1)
    assert deadline.left(103.1) == pytest.approx(1.9)
    assert deadline.left(104.0) == pytest.approx(1.0)
