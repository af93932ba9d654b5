"""What sources publish becomes routes in force, in the order of events that are hard to hit with real ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.registry import Registry
from gateway.config.load import load_routes
from gateway.config.origins import Origin
from gateway.config.table import RouteTable
from gateway.discovery.controller import Discovery
from gateway.discovery.expanding import origins_of
from gateway.discovery.target import Publish, Target, TargetState
from gateway.lateness import Lateness
from gateway.wire.outbox import Outbox
from tests.background import in_background
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio


class Told:
    """A source that publishes what a test says."""

    def __init__(self) -> None:
        self.problem = ""
        self.errors = 0
        self.publish: Publish | None = None
        self.fails = False
        self.runs = 0

    async def run(self, publish: Publish) -> None:
        self.publish, self.runs = publish, self.runs + 1
        if self.fails:
            raise ValueError("of a test")
        await asyncio.Event().wait()

    def tell(self, *hosts: str, state: TargetState = TargetState.READY, key: str = "") -> None:
        assert self.publish is not None
        self.publish([Target(f"{key}{host}", host, 8000, state=state) for host in hosts])


class World:
    """A discovery with a registry of its own, whose sources are told by the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, HandClock()
        self.sources: dict[str, Told] = {}
        self.in_force: list[RouteTable] = []
        self.breaks = False
        self.registry = Registry(Outbox(), self.clock, Lateness())

    def routes(self, *entries: Any) -> RouteTable:
        file = self.folder / "routes.yaml"
        file.write_text(json.dumps({"models": {"m": {"backends": list(entries)}}}))
        return load_routes(file)

    def make(self, origin: Origin) -> Told:
        return self.sources.setdefault(str(origin), Told())

    async def put_in_force(self, routes: RouteTable) -> None:
        if self.breaks:
            raise ValueError("of a test")
        self.registry.reconcile(routes)
        self.in_force.append(routes)

    @property
    def hosts(self) -> list[str]:
        return [backend.spec.host for backend in self.registry if not backend.leaving]

    @asynccontextmanager
    async def running(self, routes: RouteTable) -> AsyncIterator[Discovery]:
        self.registry.reconcile(routes)
        discovery = Discovery(routes, self.registry, self.make, self.put_in_force, self.clock)
        async with in_background(discovery.run()):
            await eventually(lambda: len(self.sources) == len(origins_of(routes)))
            await eventually(lambda: all(source.runs for source in self.sources.values()))
            yield discovery


def dns(name: str) -> dict[str, Any]:
    return {"dns": name, "port": 8000}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_routes_that_name_all_backends_are_left_alone(world: World) -> None:
    routes = world.routes("http://a:1")
    async with world.running(routes) as discovery:
        await discovery.reloaded(routes, world.put_in_force)
        assert world.in_force == [routes]
        assert world.in_force[0] is routes
        assert (discovery.rows(), repr(discovery)) == ([], "<Discovery of 0 origins>")
        assert world.registry.pools["m"].discovery == ""


async def test_what_is_confirmed_again_changes_only_its_age(world: World) -> None:
    async with world.running(world.routes(dns("a"))) as discovery:
        await eventually(lambda: "has not told" in world.registry.pools["m"].discovery)
        assert discovery.rows()[0].age is None
        world.sources["dns a:8000"].tell("10.0.0.1")
        await eventually(lambda: world.hosts == ["10.0.0.1"])
        world.clock.advance(7.0)
        assert discovery.rows()[0].age == 7.0
        times = len(world.in_force)
        world.sources["dns a:8000"].tell("10.0.0.1")
        assert discovery.rows()[0].age == 0.0
        world.sources["dns a:8000"].tell("10.0.0.1", "10.0.0.2")
        await eventually(lambda: world.hosts == ["10.0.0.1", "10.0.0.2"])
        assert len(world.in_force) == times + 1


async def test_an_origin_that_tells_of_none_empties_the_pool_and_says_so(world: World) -> None:
    async with world.running(world.routes(dns("a"))):
        world.sources["dns a:8000"].tell()
        await eventually(lambda: world.registry.pools["m"].discovery == "dns a:8000 tells of no backends")


async def test_targets_that_a_pool_does_not_take_are_told_apart(world: World) -> None:
    here = {"file": str(world.folder / "targets.json"), "where": {"zone": "a", "kind": "gpu"}}
    async with world.running(world.routes(here)):
        publish = next(iter(world.sources.values())).publish
        assert publish is not None
        labels = (("kind", "gpu"), ("zone", "a"))
        publish([Target("1", "10.0.0.1", 8000), Target("2", "10.0.0.2", 8000)])
        words = world.registry.pools["m"]
        await eventually(lambda: words.discovery.endswith("tells of 2 backends, none of them with kind=gpu, zone=a"))
        publish([Target("1", "10.0.0.1", 8000), Target("2", "10.0.0.2", 8000, labels=labels)])
        await eventually(lambda: words.discovery.endswith("tells of 2 backends, 1 of them with kind=gpu, zone=a"))
        publish([Target("2", "10.0.0.2", 8000, labels=labels)])
        await eventually(lambda: words.discovery.endswith("tells of 1 backend"))


async def test_a_problem_of_an_origin_is_logged_once_and_so_is_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with world.running(world.routes(dns("a"))):
        source = world.sources["dns a:8000"]

        def logged() -> list[tuple[str, str]]:
            return [(each.message, vars(each).get("reason", "")) for each in caplog.records if "looked" in each.message]

        source.problem = "no answer in 5 s"
        first = ("backends cannot be looked up", "no answer in 5 s")
        await eventually(lambda: logged() == [first])
        source.tell("10.0.0.1")  # another look
        await eventually(lambda: world.hosts == ["10.0.0.1"])
        assert logged() == [first]
        source.problem = ""
        await eventually(lambda: logged() == [first, ("backends can be looked up again", "")])


async def test_one_that_is_about_to_go_is_kept_for_its_requests_and_forgotten_then(world: World) -> None:
    async with world.running(world.routes(dns("a"))):
        source = world.sources["dns a:8000"]
        source.tell("10.0.0.1", "10.0.0.2")
        await eventually(lambda: len(world.hosts) == 2)
        backend = next(iter(world.registry))
        lease = backend.health.slots
        lease.in_flight = 1
        source.tell("10.0.0.2")
        await eventually(lambda: world.hosts == ["10.0.0.2"])
        world.clock.advance(1_000.0)
        source.tell("10.0.0.2", "10.0.0.3")
        await eventually(lambda: world.hosts == ["10.0.0.2", "10.0.0.3"])
        assert len(world.registry) == 3, "it has a request"
        lease.in_flight = 0
        await eventually(lambda: len(world.registry) == 2)


async def test_another_engine_at_an_address_begins_anew(world: World) -> None:
    async with world.running(world.routes(dns("a"))):
        source = world.sources["dns a:8000"]
        source.tell("10.0.0.1", key="uid-1 ")
        await eventually(lambda: world.hosts == ["10.0.0.1"])
        (before,) = world.registry
        before.availability.list_models({"m": None})
        before.health.slots.in_flight = 1
        assert before.serves("m")
        source.tell("10.0.0.1", key="uid-2 ")
        await eventually(lambda: next(iter(world.registry)) is not before)
        (after,) = world.registry
        assert not after.serves("m")
        assert after.health is not before.health
        assert world.registry.pools["m"].members == {after.id: after.health}
        assert world.registry.watched() == {before, after}, "the one before is probed until its requests have ended"


async def test_a_reload_waits_for_the_first_answer_of_a_new_origin_alone(world: World) -> None:
    async with world.running(world.routes(dns("a"))) as discovery:
        world.sources["dns a:8000"].tell("10.0.0.1")
        await eventually(lambda: world.hosts == ["10.0.0.1"])
        reload = asyncio.create_task(discovery.reloaded(world.routes(dns("b")), world.put_in_force))
        await eventually(lambda: "dns b:8000" in world.sources and world.sources["dns b:8000"].publish is not None)
        assert world.hosts == ["10.0.0.1"]
        world.sources["dns b:8000"].tell("10.0.0.2")
        await reload
        assert world.hosts == ["10.0.0.2"]
        assert [row.origin for row in discovery.rows()] == ["dns b:8000"]


async def test_a_reload_does_not_wait_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.discovery.controller.FIRST_ANSWER", 0.01)
    async with world.running(world.routes("http://a:1")) as discovery:
        await discovery.reloaded(world.routes("http://b:1", dns("silent")), world.put_in_force)
        assert world.hosts == ["b"]


async def test_a_source_that_breaks_begins_again_and_is_what_is_wrong(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.discovery.controller.PAUSE", 0.0)
    broken = world.sources["dns a:8000"] = Told()
    broken.fails = True
    async with world.running(world.routes(dns("a"))) as discovery:
        await eventually(lambda: broken.runs > 2)
        assert discovery.rows()[0].problem == "the source failed: of a test"
        assert discovery.rows()[0].errors > 1
        broken.fails = False
        await eventually(lambda: broken.publish is not None)
        await asyncio.sleep(0)
        broken.tell("10.0.0.1")
        await eventually(lambda: world.hosts == ["10.0.0.1"])
        assert discovery.rows()[0].problem == ""


async def test_what_could_not_be_put_in_force_is_tried_again_and_nothing_is_forgotten(world: World) -> None:
    routes = world.routes(dns("a"))
    world.registry.reconcile(routes)
    discovery = Discovery(routes, world.registry, world.make, world.put_in_force, world.clock)
    first = asyncio.create_task(discovery.run())
    await eventually(lambda: "dns a:8000" in world.sources and world.sources["dns a:8000"].runs == 1)
    source, world.breaks = world.sources["dns a:8000"], True
    source.tell("10.0.0.1")
    with pytest.raises(ValueError, match="of a test"):
        await first
    world.breaks = False
    second = asyncio.create_task(discovery.run())
    await eventually(lambda: world.hosts == ["10.0.0.1"])
    assert source.runs == 2
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
