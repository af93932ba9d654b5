"""The script by which machines exchange what they charge does what its model says, on a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.state.redis_quotas import Charged, RedisQuotas, TenantCharged, TenantHeard
from gateway.state.store import StateError
from gateway.state.url import shared_quotas
from tests.control.quota_exchange import ModelExchange
from tests.redis_server import RedisServer, redis_server

MEMBERS = "{tidegate}:quotas:members"
NAMES = ("acme", "a b: ü")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


class Machine:
    """What one has charged, and heard."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sequence = 0
        self.totals = {name: [0.0, 0.0] for name in NAMES}
        self.heard = {name: [0.0, 0.0] for name in NAMES}
        self.said: tuple[int, list[TenantCharged], bool] = 0, [], False


class World:
    """A server and its model, of which each step is done to both."""

    def __init__(self, server: RedisServer) -> None:
        self.client: Any = server.client()
        self.client.flushall()
        self.real = RedisQuotas(server.url)
        self.now = 0.0
        self.model = ModelExchange(lambda: self.now)
        self.machines = [Machine(name) for name in ("one", "two", "three")]

    def exchange(self, index: int, charges: list[tuple[int, int, int]], *, scarce: bool) -> None:
        machine = self.machines[index]
        machine.sequence += 1
        told = []
        for place, requests, tokens in {each[0]: each for each in charges}.values():
            name = NAMES[place]
            totals, heard = machine.totals[name], machine.heard[name]
            totals[0] += requests
            totals[1] += tokens
            told.append(
                TenantCharged(
                    name, "5.000000", Charged(100, totals[0], heard[0], 2.5), Charged(0, totals[1], heard[1], 0.0)
                )
            )
        machine.said = machine.sequence, told, scarce
        self.repeat(index)

    def repeat(self, index: int) -> None:
        """Send what was sent last, as a request that was held up on its way comes again."""
        machine = self.machines[index]
        sequence, told, scarce = machine.said
        found = self.real.exchange(machine.name, sequence, told, scarce=scarce)
        self.now = float(self.client.zscore(MEMBERS, machine.name)) / 1000
        expected = self.model.exchange(machine.name, sequence, told, scarce=scarce)
        assert found.members == expected.members
        assert sorted(map(rounded, found.tenants)) == sorted(map(rounded, expected.tenants))
        for each in found.tenants:
            if each.requests_charged is not None and each.tokens_charged is not None:
                machine.heard[each.name] = [each.requests_charged, each.tokens_charged]

    def let_pass(self, seconds: float) -> None:
        """Let what is stored grow older."""
        for name, row in self.client.hgetall("{tidegate}:quotas").items():
            older = [f"{float(each) - 1000 * seconds:.3f}" for each in row.split()]
            self.client.hset("{tidegate}:quotas", name, " ".join(older))
        for key in (MEMBERS, "{tidegate}:quotas:scarce"):
            for name, score in self.client.zrange(key, 0, -1, withscores=True):
                self.client.zadd(key, {name: f"{score - 1000 * seconds:.3f}"})
        self.model.age(seconds)

    def forget(self, index: int) -> None:
        """Forget what a machine has told, as when its row expires."""
        self.client.delete(f"{{tidegate}}:quotas:of:{self.machines[index].name}")
        self.model.forget(self.machines[index].name)

    def empty(self) -> None:
        self.client.flushall()
        self.model.empty()


def rounded(heard: TenantHeard) -> tuple[Any, ...]:
    name, since, requests, of_requests, tokens, of_tokens = heard
    return name, since, round(max(requests, 0.0), 1), of_requests, round(max(tokens, 0.0), 1), of_tokens


WHO = st.integers(0, 2)
CHARGES = st.lists(st.tuples(st.integers(0, 1), st.integers(-20, 200), st.integers(0, 50_000)), max_size=2)
STEP: st.SearchStrategy[Callable[[World], None]] = st.one_of(
    st.builds(
        lambda who, told, scarce: lambda world: world.exchange(who, told, scarce=scarce), WHO, CHARGES, st.booleans()
    ),
    st.builds(lambda seconds: lambda world: world.let_pass(seconds), st.floats(0.01, 70.0)),
    st.builds(lambda who: lambda world: world.repeat(who), WHO),
    st.builds(lambda who: lambda world: world.forget(who), WHO),
    st.just(World.empty),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40, deadline=None
)
@given(st.lists(STEP, max_size=20))
def test_it_does_what_the_model_does(server: RedisServer, steps: list[Callable[[World], None]]) -> None:
    world = World(server)
    try:
        for step in steps:
            step(world)
    finally:
        world.real.close()
        world.client.close()


def test_what_is_stored_is_forgotten_in_time(server: RedisServer) -> None:
    world = World(server)
    for _ in range(2):
        world.exchange(0, [(0, 60, 0)], scarce=True)
    left = {key: world.client.ttl(key) for key in world.client.keys("*")}
    assert set(left) == {"{tidegate}:quotas", "{tidegate}:quotas:of:one", MEMBERS, "{tidegate}:quotas:scarce"}
    assert all(left[key] > 0 for key in ("{tidegate}:quotas", "{tidegate}:quotas:of:one"))
    world.let_pass(70.0)
    world.exchange(0, [(0, 0, 0)], scarce=True)
    assert set(world.client.keys("*")) == {"{tidegate}:quotas:of:one", MEMBERS}
    world.real.close()


def test_a_server_that_is_away_is_said_so(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        quotas = shared_quotas(server.url)
        assert quotas is not None
        quotas.exchange("one", 1, [], scarce=True)
        server.stop()
        with pytest.raises(StateError, match="does not exchange quotas"):
            quotas.exchange("one", 2, [], scarce=True)
        server.start()
        assert quotas.exchange("one", 3, [], scarce=True).members == 1
        quotas.close()
    assert shared_quotas("sqlite:///state.sqlite") is None
    assert shared_quotas(None) is None
