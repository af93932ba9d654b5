"""The replicas that a pool may want, as route files say it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from gateway.config.problems import RoutesError
from gateway.config.table import CapacitySpec
from gateway.policy.capacity.signals import Gauge, SignalMap
from gateway.policy.capacity.want import Rules


def routes(folder: Path, pool: dict[str, Any]) -> Path:
    path = folder / "routes.yaml"
    whole = {"backends": ["http://a:8000"], **pool}
    path.write_text(json.dumps({"pools": {"gpu": whole}, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}}))
    return path


def problems(folder: Path, pool: dict[str, Any]) -> list[str]:
    with pytest.raises(RoutesError) as refused:
        load(routes(folder, pool))
    return [f"{each.path}: {each.message}" for each in refused.value.problems]


def test_a_pool_wants_no_number_of_replicas_unless_it_says_so(tmp_path: Path) -> None:
    pool = load(routes(tmp_path, {})).table.pools["gpu"]
    assert pool.capacity is None
    assert pool.warm_up == 180.0


def test_a_maximum_is_enough(tmp_path: Path) -> None:
    loaded = load(routes(tmp_path, {"capacity": {"max": 8}}))
    assert loaded.table.pools["gpu"].capacity == CapacitySpec(Rules(min=1, max=8, cool_down=300.0))
    assert loaded.warnings == ()


def test_everything_can_be_said(tmp_path: Path) -> None:
    capacity = {
        "min": 0,
        "max": 8,
        "step": 2,
        "cool_down": "10m",
        "mode": "predictive",
        "max_cost_per_hour": 160,
        "approve_above": 6,
        "hpa_tolerance": 0,
        "unit": "pods",
        "backends_per_replica": 8,
        "signals": {"backlog": 'engine_requests{state="queued"}', "kv_used": "engine_kv"},
    }
    pool = load(routes(tmp_path, {"cost_per_hour": 2.5, "warm_up": "90s", "capacity": capacity})).table.pools["gpu"]
    signals = SignalMap(backlog=(Gauge("engine_requests", {"state": "queued"}),), kv_used=(Gauge("engine_kv"),))
    assert pool.warm_up == 90.0
    rules = Rules(0, 8, 2, 2, 600.0, 90.0, cost_per_hour=20.0, cost_cap=160.0, approval_above=6, dead_band=0.0)
    assert pool.capacity == CapacitySpec(rules, predictive=True, unit="pods", backends_per_replica=8, signals=signals)


@pytest.mark.parametrize(
    ("pool", "problem"),
    [
        ({"capacity": {"min": 1}}, "pools.gpu.capacity: `max` is missing"),
        ({"capacity": {"min": 9, "max": 8}}, "pools.gpu.capacity.min: is 9, more than `max`, 8"),
        ({"capacity": {"min": 0, "max": 0}}, "pools.gpu.capacity.max: `0` is too small"),
        ({"capacity": {"max": 1, "mode": "magic"}}, "pools.gpu.capacity.mode: `magic` is not a known value"),
        (
            {"capacity": {"min": 3, "max": 8, "approve_above": 2}},
            "pools.gpu.capacity.approve_above: a person would have to approve the fewest replicas, which are 3",
        ),
        (
            {"capacity": {"max": 8, "max_cost_per_hour": 20}},
            "pools.gpu.capacity.max_cost_per_hour: nothing says what a replica costs",
        ),
        (
            {"cost_per_hour": 2, "capacity": {"min": 2, "max": 8, "max_cost_per_hour": 10, "backends_per_replica": 4}},
            "pools.gpu.capacity.max_cost_per_hour: the fewest replicas cost 16 per hour, more than this",
        ),
        (
            {"capacity": {"max": 8, "signals": {"backlog": "not a name"}}},
            "pools.gpu.capacity.signals.backlog: `not a name` is not a valid name",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(tmp_path: Path, pool: dict[str, Any], problem: str) -> None:
    assert problems(tmp_path, pool) == [problem]


def test_what_has_no_number_is_told_once(tmp_path: Path) -> None:
    capacity = {"min": "few", "max": 8, "approve_above": 4, "step": 1, "max_cost_per_hour": "cheap"}
    assert problems(tmp_path, {"cost_per_hour": 2, "capacity": capacity}) == [
        "pools.gpu.capacity.min: `few` is not a whole number",
        "pools.gpu.capacity.max_cost_per_hour: `cheap` is not a number",
    ]


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"scale_from_zero": {}}, True),
        ({"scale_from_zero": {"wake": "capacity"}}, True),
        ({"scale_from_zero": {"wake": "engines"}}, False),
        ({"scale_from_zero": {"wake": "capacity"}, "capacity": {"min": 0, "max": 4}}, False),
    ],
)
def test_a_pool_that_scales_from_zero_by_a_capacity_that_it_lacks_is_odd(
    tmp_path: Path, pool: dict[str, Any], said: bool
) -> None:
    found = [f"{each.path}: {each.message}" for each in load(routes(tmp_path, pool)).warnings]
    message = "no engine is asked for: `wake: capacity` needs a `capacity` of this pool"
    assert found == ([f"pools.gpu.scale_from_zero: {message}"] if said else [])


def test_bounds_that_bind_nothing_are_odd(tmp_path: Path) -> None:
    loaded = load(routes(tmp_path, {"capacity": {"max": 4, "step": 5, "approve_above": 4}}))
    found = [f"{each.path}: {each.message}" for each in loaded.warnings]
    assert found == [
        "pools.gpu.capacity.step: no step can be this large: `max` is 4",
        "pools.gpu.capacity.approve_above: asks no person: `max` is 4",
    ]
