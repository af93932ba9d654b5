"""One wake for each pool whose requests are held, by the process that is to do it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import httpx
import pytest

from gateway.config.table import BackendSpec, PoolSpec, RouteTable
from gateway.control.engine_clients import EngineClients
from gateway.control.waking import Waker
from gateway.policy.routing.readiness import Readiness, State
from gateway.policy.routing.waking import ScaleFromZero, Waking, Way
from gateway.sim.server import running as simulated
from gateway.sim.settings import Settings
from tests.control.tables import registered
from tests.control.test_webhook import receiving
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio


class Town:
    """A registry with one pool that scales from zero."""

    def __init__(
        self, way: Way = Way.CAPACITY, webhook: str = "", *, alone: bool = True, ports: Sequence[int] = (9,)
    ) -> None:
        self.clock = HandClock()
        backends = tuple(BackendSpec("gpu", f"http://127.0.0.1:{port}", "127.0.0.1", port) for port in ports)
        settings = ScaleFromZero(hold=60.0, way=way, webhook=webhook)
        pool = PoolSpec("gpu", backends, scale_from_zero=settings)
        self.registry = registered(RouteTable({"gpu": pool}, {}, {}), self.clock)
        clients = EngineClients(self.clock, Random(1))
        self.waker = Waker(self.registry, clients, self.clock, self.clock, alone=alone, patience=0.2)

    @property
    def waking(self) -> Waking:
        found = self.registry.pools["gpu"].waking
        assert found is not None
        return found


async def test_a_pool_wants_one_engine_from_its_first_request_on() -> None:
    town = Town()
    async with httpx.AsyncClient() as web:
        town.waker.look(web)
        assert (town.waker.wants("gpu"), town.waker.wants("cpu")) == (0, 0)
        town.waking.hold()
        for _ in range(3):
            town.waker.look(web)
        await asyncio.sleep(0)
        assert town.waker.wants("gpu") == 1
        assert town.waker.results == {("gpu", "wanted"): 1}
        assert repr(town.waker) == "<Waker, wanted ['gpu']>"


async def test_a_worker_wakes_nothing_that_it_was_not_told_to() -> None:
    async with receiving(204) as receiver, httpx.AsyncClient() as web:
        town = Town(Way.WEBHOOK, receiver.url, alone=False)
        town.waking.hold()
        town.waker.look(web)
        assert (town.waker.wanting, town.waker.wanted) == ({"gpu"}, frozenset())
        town.waker.told(["gpu", "unknown"])
        town.waker.look(web)
        await eventually(lambda: len(receiver.messages) == 1)
        town.waker.told([])
        town.waker.look(web)
        town.waker.told(["gpu"])
        town.waker.look(web)
        await eventually(lambda: len(receiver.messages) == 2)
        town.waker.told([])
        town.waker.look(web)


async def test_a_webhook_is_told_once_while_it_is_heard_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with receiving(0) as receiver, httpx.AsyncClient() as web:
        town = Town(Way.WEBHOOK, "http://127.0.0.1:9/secret")
        town.waking.hold()
        town.waker.look(web)
        await eventually(lambda: town.waker.results["gpu", "failed"] == 1)
        assert "secret" not in caplog.text
        assert "secret" not in repr(caplog.records[-1].__dict__)
        town.waking.let_go()
        town.clock.advance(61)
        town.waker.look(web)
        assert town.waker.wants("gpu") == 0
        assert not receiver.messages


async def test_an_engine_that_does_not_wake_up_in_time_keeps_no_other_from_it() -> None:
    sleeper = Settings(models=("m",), sleep_mode=True)
    async with (
        simulated(replace(sleeper, wake_seconds=600)) as slow,
        simulated(sleeper) as quick,
        httpx.AsyncClient() as web,
    ):
        town = Town(Way.ENGINES, ports=(slow.port, quick.port))
        for backend, engine in zip(town.registry, (slow, quick), strict=True):
            await web.post(f"{engine.url}/sleep")
            backend.learn(Readiness(State.READY, "probes pass"))
            backend.availability.sleep(asleep=True)
        town.waking.hold()
        town.waker.look(web)
        await eventually(lambda: town.waker.results["gpu", "woken"] == 1)
        assert [each.availability.asleep for each in town.registry] == [True, False]
        town.waker.look(web)


async def test_where_no_engine_sleeps_that_is_said() -> None:
    town = Town(Way.ENGINES)
    async with httpx.AsyncClient() as web:
        town.waking.hold()
        town.waker.look(web)
        await eventually(lambda: town.waker.results["gpu", "failed"] == 1)
        town.waking.let_go()
        town.clock.advance(61)
        town.waker.look(web)
