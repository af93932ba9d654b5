"""Wants that follow from what a gateway itself counts: of one among several, and of replicas in part."""

from pathlib import Path
from typing import Any

from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.want import EngineLoad
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from tests.control.capacity import Site, routes
from tests.shared.columns import slots_of
from tests.shared.stepping import SteppedMemory

SLOTS = 10
"""What each backend works on at a time; a request takes one second."""


def pools(backends_per_replica: int = 1, **numbers: int) -> dict[str, Any]:
    """Return a model `m-NAME` for each pool, and so many backends."""
    document = routes(backends_per_replica=backends_per_replica)
    usual = document["pools"]["gpu"]
    named = {
        name: {
            **usual,
            "backends": [{"url": f"http://{name}-{each}:1", "max_concurrency": SLOTS} for each in range(of)],
        }
        for name, of in numbers.items()
    }
    models = {f"m-{name}": {"versions": {"v1": {"pools": [name]}}} for name in numbers}
    return {"pools": named, "models": models}


def serving(folder: Path, document: dict[str, Any], *, alive: int = 1) -> Site:
    """Return one of so many gateways, whose backends are ready."""
    site = Site(folder, document)
    site.capacity._decider = decide
    site.alive = alive
    site.ready()
    for backend in site.registry:
        backend.health.slots.limit_to(SLOTS)
    return site


def carry(site: Site, here: int, elsewhere: int = 0, seconds: int = 180) -> dict[str, int]:
    """Let so many requests a second of each model end here, and at other gateways; return what pools want then."""
    for _ in range(seconds):
        for name in site.current.routes.models:
            for line in site.current.table.model(name).versions["v1"].lines:
                line.forecast.held(1.0)
            for _ in range(here):
                site.ledger.requests[name, "v1", "default"].count({Sli.AVAILABILITY: True}, (0, 0), 1)
            for series in site.ledger.get(Kind.VERSION, f"{name}/v1"):
                if series.sli == Sli.AVAILABILITY:
                    site.ledger.count(series, good=elsewhere)
        for pool in site.current.routes.pools:
            ready = [each for each in site.registry if each.spec.pool == pool and each.availability.eligible]
            for backend in ready:  # engines tell of the requests of all gateways
                told = EngineLoad(0.0, None, None, (here + elsewhere) / len(ready))
                backend.engine.take_load(told, site.clock())
        site.look(1.0)
    return {each.pool.name: each.want.target for each in site.capacity if each.want is not None}


def proposed(site: Site) -> dict[str, int]:
    """Return what pools want by themselves, before any budget."""
    return {each.pool.name: each.want.proposed for each in site.capacity if each.want is not None}


def test_two_gateways_that_each_have_a_limit_want_fewer_than_one_with_the_same_load(tmp_path: Path) -> None:
    one = serving(tmp_path, pools(gpu=2))
    assert carry(one, 24) == {"gpu": 3}, "24 requests at a time are more than the 20 slots of two replicas"
    two = serving(tmp_path, pools(gpu=2), alive=2)
    assert carry(two, 12, 12) == {"gpu": 2}, "each has 20 slots there"


def test_a_limit_that_workers_of_one_machine_share_is_that_of_all(tmp_path: Path) -> None:
    site = serving(tmp_path, pools(gpu=2), alive=2)
    table = SteppedMemory(2, backends=2).join()
    for backend in site.registry:
        backend.health.slots.shared = slots_of(table, backend.id)
    assert carry(site, 12, 12) == {"gpu": 3}


def test_backends_that_make_no_whole_replica_carry_nothing(tmp_path: Path) -> None:
    site = serving(tmp_path, pools(gpu=3, backends_per_replica=2))
    assert carry(site, 45) == {"gpu": 3}, "a replica is two backends, 20 slots; the third backend is half of one"


def test_a_replica_in_part_takes_nothing_from_what_its_pool_asks_of_a_budget(tmp_path: Path) -> None:
    document = pools(part=3, whole=2, backends_per_replica=2)
    document["budgets"] = {"gpus": {"replicas": 12}}
    for pool in document["pools"].values():
        pool["capacity"] = {**pool["capacity"], "max": 20, "budget": "gpus", "hpa_tolerance": 0}
    site = serving(tmp_path, document)
    targets = carry(site, 120)
    assert proposed(site) == {"part": 7, "whole": 7}, "the same load on replicas of the same size"
    assert sum(targets.values()) == 12
