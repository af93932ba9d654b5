"""Connections to one address."""

import asyncio
from threading import Event
from time import monotonic, sleep

import pytest

from gateway.clock import Clock
from gateway.lateness import Lateness
from gateway.wire.idle_limit import IDLE_SECONDS
from gateway.wire.names import FRESH
from gateway.wire.outbox import Outbox
from gateway.wire.pool import UpstreamPool
from gateway.wire.upstream import Upstream
from tests.waiting import DEADLINE, HandClock, eventually
from tests.wire.dialling import Waiting, before_dialling, listening

pytestmark = pytest.mark.anyio


def resolving(port: int, *answers: list[str] | OSError, clock: Clock = monotonic) -> UpstreamPool:
    """Return a pool whose name resolves to what a test says, one look after the other."""
    left = list(answers)

    def look_up(_host: str, _port: int) -> list[str]:
        answer = left.pop(0) if left else OSError("asked too often")
        if isinstance(answer, OSError):
            raise answer
        return answer

    return UpstreamPool("engine", port, tls=None, outbox=Outbox(), clock=clock, lateness=Lateness(), lookup=look_up)


async def test_a_name_that_no_longer_resolves_keeps_its_last_addresses() -> None:
    now = [0.0]
    async with listening() as port:
        pool = resolving(port, ["127.0.0.1"], OSError("no DNS"), clock=lambda: now[0])
        for _ in range(2):
            waiter = Waiting()
            pool.connect(waiter, DEADLINE)
            (await waiter.upstream).transport.close()
            now[0] += FRESH
        assert pool.opened == 2


async def test_connections_to_an_address_that_a_name_has_no_more_are_not_used_again() -> None:
    now = [0.0]
    async with listening() as port:
        pool = resolving(port, ["127.0.0.1"], ["127.0.0.2"], clock=lambda: now[0])
        upstreams = []
        for _ in range(2):
            waiter = Waiting()
            pool.connect(waiter, DEADLINE)
            upstreams.append(await waiter.upstream)
        idle, at_work = upstreams
        pool.idle_connections.put(idle)
        now[0] += FRESH
        pool.prune(now[0])
        await eventually(lambda: bool(pool._name.left))  # noqa: SLF001 - the name under the pool
        pool.prune(now[0])
        assert (pool.idle, idle.transport.is_closing(), at_work.transport.is_closing()) == (0, True, False)
        pool.idle_connections.put(at_work)
        assert (pool.idle, at_work.transport.is_closing()) == (0, True)


async def test_a_silent_address_delays_one_connect_only(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = []

    async def silent(address: str) -> None:
        dialled.append(address)
        if address == "127.0.0.2":
            await asyncio.Event().wait()

    before_dialling(monkeypatch, silent)
    async with listening() as port:
        pool = resolving(port, ["127.0.0.2", "127.0.0.1"])
        for _ in range(3):
            waiter = Waiting()
            pool.connect(waiter, DEADLINE)
            (await waiter.upstream).transport.close()
        assert dialled == ["127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"]


async def test_a_name_that_never_resolved_is_a_failed_connect() -> None:
    pool = resolving(1, OSError("no DNS"))
    waiter = Waiting()
    pool.connect(waiter, DEADLINE)
    assert "no DNS" in await waiter.failure


async def test_a_name_that_is_looked_up_for_too_long_is_named() -> None:
    silent = Event()

    def look_up(_host: str, _port: int) -> list[str]:
        silent.wait(DEADLINE)
        return ["127.0.0.1"]

    pool = UpstreamPool("engine", 1, tls=None, outbox=Outbox(), clock=monotonic, lookup=look_up, lateness=Lateness())
    waiter = Waiting()
    pool.connect(waiter, 0.05)
    assert await waiter.failure == "no address for engine within 0.05 s"
    silent.set()


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async with listening() as port:
        pool = resolving(port, ["127.0.0.2", "127.0.0.1"])
        waiter = Waiting()
        pool.connect(waiter, DEADLINE)
        (await waiter.upstream).transport.close()


async def test_a_pause_of_this_process_is_no_failed_connect() -> None:
    """The connection came about meanwhile, and lies in the kernel; TCP needs nobody to be awake for that."""
    async with listening() as port:
        pool = UpstreamPool("127.0.0.1", port, tls=None, outbox=Outbox(), clock=monotonic, lateness=Lateness())
        waiter = Waiting()
        pool.connect(waiter, 0.05)
        await asyncio.sleep(0)
        sleep(0.2)  # noqa: ASYNC251 - this is the pause
        async with asyncio.timeout(DEADLINE):
            (await waiter.upstream).transport.close()


async def test_a_connect_has_its_whole_time_without_what_this_process_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, lateness, clock = asyncio.Event(), Lateness(), HandClock()

    async def slow(_: str) -> None:
        await answered.wait()

    before_dialling(monkeypatch, slow)
    async with listening() as port:
        pool = UpstreamPool("127.0.0.1", port, tls=None, outbox=Outbox(), clock=clock, lateness=lateness)
        waiter = Waiting()
        lateness.beat(clock())
        pool.connect(waiter, 2.0)
        await asyncio.sleep(0)
        sleep(2.1)  # noqa: ASYNC251 - this is the pause: a timer comes due in it
        clock.advance(2.5)
        lateness.beat(clock())
        await asyncio.sleep(0.2)  # longer than what lies in the kernel is looked for
        answered.set()
        async with asyncio.timeout(DEADLINE):
            (await waiter.upstream).transport.close()


async def test_an_address_that_never_answers_is_a_failed_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_: str) -> None:
        await asyncio.Event().wait()

    before_dialling(monkeypatch, silent)
    pool = resolving(1, ["127.0.0.1"])
    waiter = Waiting()
    pool.connect(waiter, 0.05)
    assert await waiter.failure == "no connection within 0.05 s"


async def test_a_connection_nobody_wants_any_more_is_kept_and_idle_ones_are_closed() -> None:
    now = [0.0]
    async with listening() as port:
        pool = UpstreamPool("127.0.0.1", port, tls=None, outbox=Outbox(), clock=lambda: now[0], lateness=Lateness())
        waiter = Waiting(takes=False)
        pool.connect(waiter, DEADLINE)
        upstream = await waiter.upstream
        async with asyncio.timeout(DEADLINE):
            while pool.idle != 1:
                await asyncio.sleep(0.005)
        pool.prune(IDLE_SECONDS)
        assert pool.take(IDLE_SECONDS) is upstream
        pool.idle_connections.put(upstream)
        pool.prune(IDLE_SECONDS + 1)
        assert (pool.idle, upstream.transport.is_closing(), pool.take(now[0])) == (0, True, None)


async def test_a_closed_pool_takes_nothing_back() -> None:
    async with listening() as port:
        pool = UpstreamPool("127.0.0.1", port, tls=None, outbox=Outbox(), clock=lambda: 0.0, lateness=Lateness())
        waiter = Waiting()
        pool.connect(waiter, DEADLINE)
        upstream = await waiter.upstream
        pool.close()
        pool.idle_connections.put(upstream)
        assert (pool.idle, upstream.transport.is_closing()) == (0, True)


async def test_a_pool_that_is_closed_serves_those_who_are_connecting() -> None:
    async with listening() as port:
        pool = UpstreamPool("127.0.0.1", port, tls=None, outbox=Outbox(), clock=lambda: 0.0, lateness=Lateness())
        waiter = Waiting()
        pool.connect(waiter, DEADLINE)
        pool.close()
        async with asyncio.timeout(DEADLINE):
            upstream = await waiter.upstream
        assert not upstream.transport.is_closing()
        pool.idle_connections.put(upstream)
        assert (pool.idle, upstream.transport.is_closing()) == (0, True)


async def test_whatever_breaks_a_connect_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: str) -> None:
        raise ValueError("out of order")

    before_dialling(monkeypatch, broken)
    pool, waiter = resolving(1, ["127.0.0.1"]), Waiting()
    pool.connect(waiter, DEADLINE)
    async with asyncio.timeout(DEADLINE):
        assert await waiter.failure == "ValueError: out of order"


async def test_a_waiter_that_breaks_on_its_connection_is_told_and_the_connection_closed() -> None:
    class Broken(Waiting):
        def connected(self, upstream: Upstream) -> bool:
            super().connected(upstream)
            raise ValueError("out of order")

    async with listening() as port:
        pool = UpstreamPool("127.0.0.1", port, tls=None, outbox=Outbox(), clock=lambda: 0.0, lateness=Lateness())
        waiter = Broken()
        pool.connect(waiter, DEADLINE)
        async with asyncio.timeout(DEADLINE):
            assert "its log says why" in await waiter.failure
        assert (pool.idle, (await waiter.upstream).transport.is_closing()) == (0, True)
