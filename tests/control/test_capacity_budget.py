"""Pools that share a budget: each is decided for by itself, and cut only while all of them want more than there is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

from gateway.config.table import PoolSpec
from gateway.control.capacity import RENEWED, SETTLED
from gateway.control.capacity_budget import HELD
from gateway.control.capacity_record import CapacityRecord, kept
from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.want import PoolLoad, Rail, Rule, Want
from gateway.wire.slices import Work
from tests.control.capacity import Site

SLOTS = 4
"""What each replica works on at a time; a request takes one second."""


def routes(budget: dict[str, Any], **pools: dict[str, Any]) -> dict[str, Any]:
    whole = {
        name: {
            "backends": [f"http://{name}:1"],
            "cost_per_hour": 2,
            "capacity": {"max": 20, "budget": "gpus", "hpa_tolerance": 0, **capacity},
        }
        for name, capacity in pools.items()
    }
    models = {f"m-{name}": {"versions": {"v1": {"pools": [name]}}} for name in pools}
    return {"budgets": {"gpus": budget}, "pools": whole, "models": models}


class Cluster:
    """Pools with as many replicas as they want, as soon as they want them, and with a load that a test sets."""

    def __init__(self, site: Site, **rates: float) -> None:
        self.site, self.rates = site, rates
        self.replicas = dict.fromkeys(rates, 1)
        self.unknown: set[str] = set()
        self.old: set[str] = set()
        self.noise = 0.0
        self.random = Random(3)
        site.capacity._reader = cast(Any, self)
        site.capacity._decider = decide

    def reading(self, pools: Sequence[PoolSpec]) -> Work[dict[str, PoolLoad | None]]:
        yield
        return {pool.name: None if pool.name in self.unknown else self.load(pool.name) for pool in pools}

    def load(self, pool: str) -> PoolLoad:
        rate = max(0.0, self.rates[pool] * self.random.gauss(1.0, self.noise))
        ready = self.replicas[pool]
        limit, demand = float(SLOTS * ready), rate * 1.0
        late = demand > 0.95 * limit
        return PoolLoad(
            pool,
            ready,
            burn=0.0,
            burn_now=0.0,
            in_flight=min(limit, demand),
            queued=round(demand - limit) + 5 if late and rate else 0,
            queue_wait=5.0 if late else 0.0,
            patience=2.0,
            limit=limit or None,
            arrivals=rate,
            holding=1.0,
            age=600.0 if pool in self.old else 0.0,
        )

    def pass_time(self, seconds: int, *, acts: bool = True) -> None:
        for _ in range(seconds):
            self.site.look(1.0)
            for name, target in self.targets().items():
                if acts:
                    self.replicas[name] = target

    def want(self, pool: str) -> Want:
        found = self.site.capacity.get(pool)
        assert found is not None
        assert found.record is not None
        return found.record.want

    def targets(self) -> dict[str, int]:
        return {each.pool.name: each.want.target for each in self.site.capacity if each.want is not None}

    def changes(self) -> int:
        return sum(action == "want" for action, _ in self.site.records())


def cluster(folder: Path, table: dict[str, Any], **rates: float) -> Cluster:
    folder.mkdir(exist_ok=True)
    found = Cluster(Site(folder, table), **rates)
    found.pass_time(int(SETTLED) + 20)
    return found


def test_a_budget_that_is_large_enough_changes_nothing_at_all(tmp_path: Path) -> None:
    rates = {"chat": 30.0, "code": 9.0}
    table = routes({"replicas": 12}, chat={}, code={})
    for pool in table["pools"].values():
        del pool["capacity"]["budget"]
    alone = cluster(tmp_path / "a", table, **rates)
    shared = cluster(tmp_path / "b", routes({"replicas": 12}, chat={}, code={}), **rates)
    for each in (alone, shared):
        each.pass_time(60)
    assert shared.targets() == alone.targets() == {"chat": 9, "code": 3}
    for pool in rates:
        assert replace(shared.want(pool), valid_until=0.0) == replace(alone.want(pool), valid_until=0.0)
    assert shared.changes() == alone.changes()


def test_two_pools_that_want_more_share_what_there_is(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 12}, chat={}, code={}), chat=60.0, code=10.0)
    found.pass_time(2 * int(HELD))
    targets = found.targets()
    assert sum(targets.values()) == 12
    assert targets["chat"] > targets["code"] >= 2
    want = found.want("chat")
    assert Rail.BUDGET in want.rails
    assert want.proposed >= 17, "what the pool asks for by itself stays to be seen"
    assert want.inputs["without_budget"] == want.proposed
    assert f"of {want.proposed} the budget gpus (12 replicas) leaves {want.target}: expected utility" in want.reason
    assert want.value == want.target
    assert want.cost_per_hour == 2.0 * want.target
    reasons = [reason for action, reason in found.site.records() if action == "want"]
    assert any("bounded by budget" in each for each in reasons)


def test_what_one_pool_no_longer_wants_goes_to_the_other(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 12}, chat={}, code={}), chat=60.0, code=20.0)
    found.pass_time(int(HELD))
    before = found.targets()
    found.rates["code"] = 0.0
    found.pass_time(2 * int(HELD))
    assert found.targets() == {"chat": 11, "code": 1}, before
    found.rates.update(chat=20.0, code=1.0)
    found.pass_time(40 * 60)
    assert found.targets() == {"chat": 7, "code": 1}
    assert Rail.BUDGET not in found.want("chat").rails


def test_one_pool_alone_gets_no_more_than_its_budget(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"cost_per_hour": 11}, chat={}), chat=60.0)
    assert found.targets() == {"chat": 5}
    assert "the budget gpus (11 per hour) leaves 5" in found.want("chat").reason


def test_noise_moves_nothing_back_and_forth(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 12}, chat={}, code={}, mail={}), chat=24.0, code=24.0, mail=10.0)
    found.pass_time(5 * 60)
    found.noise = 0.15
    begun = found.changes()
    for _ in range(60 * 60):
        found.pass_time(1)
        assert sum(found.targets().values()) <= 12
    assert found.changes() - begun <= 12, "in an hour, of three pools"


def test_nothing_is_taken_from_a_pool_that_is_not_known(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 12}, chat={}, code={}), chat=20.0, code=16.0)
    before = found.targets()
    assert sum(before.values()) <= 12
    found.unknown.add("code")
    found.rates["chat"] = 70.0
    found.pass_time(40)
    assert found.targets()["chat"] == 12 - before["code"]
    found.unknown.clear()
    found.old.add("code")
    found.pass_time(20)
    assert found.targets()["chat"] == 12 - before["code"]
    assert found.want("code").target == before["code"]


def test_a_pool_with_less_than_it_wants_keeps_that_while_its_metrics_are_old(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 12}, chat={}, code={}), chat=60.0, code=20.0)
    found.pass_time(2 * int(HELD))
    told, alone = found.want("chat").target, found.want("chat").proposed
    assert told < alone
    found.old.add("chat")
    found.pass_time(1)
    want = found.want("chat")
    assert (want.target, want.rule, want.rails) == (told, Rule.STALE, (Rail.BUDGET,))
    assert (want.value, want.cost_per_hour, want.inputs["without_budget"]) == (told, 2.0 * told, alone)
    assert want.reason == "the signals are 600 s old, so nothing changes"
    found.rates["code"] = 0.0
    found.pass_time(40 * 60)
    assert found.want("code").target == 1, "so that there is room for more"
    assert found.want("chat").target == told
    found.old.clear()
    found.pass_time(int(HELD))
    assert found.targets() == {"chat": 11, "code": 1}


def test_a_pool_with_old_metrics_gives_what_the_fewest_of_another_need(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first = cluster(tmp_path / "a", routes({"replicas": 8}, chat={}, code={"min": 0}), chat=60.0, code=0.0)
    first.pass_time(11 * 60)
    assert first.targets() == {"chat": 8, "code": 0}
    second = Cluster(Site(tmp_path / "b", routes({"replicas": 8}, chat={}, code={"min": 2})), chat=60.0, code=0.0)
    records = [each.record for each in first.site.capacity if each.record is not None]
    second.site.capacity.follow(each.document(first.site.clock(), first.site.epoch()) for each in records)
    second.replicas = dict(first.replicas)
    second.old.add("chat")
    second.pass_time(1)
    want = second.want("chat")
    assert (want.target, second.want("code").target) == (6, 2)
    assert (want.rule, want.rails, want.inputs["without_budget"]) == (
        Rule.STALE,
        (Rail.BUDGET,),
        first.want("chat").proposed,
    )
    assert want.reason.startswith("of 8 the budget gpus (8 replicas) leaves 6: ")
    second.pass_time(int(RENEWED))
    assert second.want("chat").reason == "the signals are 600 s old, so nothing changes"


def test_the_engines_of_a_pool_that_never_told_anything_count(tmp_path: Path) -> None:
    table = routes({"replicas": 12}, chat={}, code={})
    table["pools"]["code"]["backends"] = [f"http://code{each}:1" for each in range(5)]
    found = Cluster(Site(tmp_path, table), chat=70.0, code=1.0)
    found.unknown.add("code")
    found.pass_time(int(SETTLED) + 20)
    assert found.targets() == {"chat": 7}


def test_fewest_replicas_that_a_reload_leaves_no_room_for_hold(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 5}, chat={"min": 3}, code={"min": 2}), chat=60.0, code=60.0)
    assert found.targets() == {"chat": 3, "code": 2}


def test_a_pool_at_zero_gets_its_first_replica_from_one_that_has_more(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 8}, chat={}, code={"min": 0}), chat=60.0, code=0.0)
    found.replicas["code"] = 0
    found.pass_time(11 * 60)
    assert found.targets() == {"chat": 8, "code": 0}
    found.rates["code"] = 0.5
    found.pass_time(1)
    assert found.targets() == {"chat": 7, "code": 1}, "it does not wait for the next division"


def test_a_pool_at_zero_is_not_woken_beyond_the_fewest_of_others(tmp_path: Path) -> None:
    found = cluster(tmp_path, routes({"replicas": 4}, chat={"min": 4}, code={"min": 0}), chat=60.0, code=0.0)
    found.replicas["code"] = 0
    found.pass_time(11 * 60)
    found.rates["code"] = 0.5
    found.site.waking.add("code")
    found.pass_time(5)
    assert found.targets() == {"chat": 4, "code": 0}


def test_one_that_takes_over_divides_alike(tmp_path: Path) -> None:
    table, rates = routes({"replicas": 12}, chat={}, code={}), {"chat": 60.0, "code": 24.0}
    first = cluster(tmp_path / "a", table, **rates)
    first.pass_time(3 * int(HELD))
    (tmp_path / "b").mkdir()
    second = Cluster(Site(tmp_path / "b", table), **rates)
    second.site.clock.advance(first.site.clock() - second.site.clock())
    records: list[CapacityRecord] = [each.record for each in first.site.capacity if each.record is not None]
    documents = [each.document(first.site.clock(), first.site.epoch()) for each in records]
    assert [kept(each.body, 0.0, 0.0, fresh=True).want.rails for each in documents] == [
        each.want.rails for each in records
    ]
    second.site.capacity.follow(documents)
    assert second.targets() == first.targets()
    second.replicas = dict(first.replicas)
    second.pass_time(30)
    assert second.targets() == first.targets()
    assert [each.record.intent for each in second.site.capacity if each.record] == [each.intent for each in records]
    assert second.changes() == 0


def test_pools_without_a_cost_are_not_bound(tmp_path: Path) -> None:
    table = routes({"cost_per_hour": 8}, chat={}, free={})
    table["pools"]["free"]["cost_per_hour"] = 0
    found = cluster(tmp_path, table, chat=60.0, free=60.0)
    assert found.targets() == {"chat": 4, "free": 17}
