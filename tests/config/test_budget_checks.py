"""Budgets that pools share, as route files say it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from gateway.config.problems import RoutesError
from gateway.config.table import BudgetSpec
from gateway.policy.capacity.allocation import Aim


def routes(folder: Path, budgets: dict[str, Any], **pools: dict[str, Any]) -> Path:
    """Write routes with pools that have these capacities; one with a `price` has a cost."""
    whole: dict[str, Any] = {}
    for name, capacity in pools.items():
        price = {"cost_per_hour": capacity.pop("price")} if "price" in capacity else {}
        whole[name] = {"backends": [f"http://{name}:8000"], "capacity": {"max": 8, **capacity}, **price}
    models = {f"m-{name}": {"versions": {"v1": {"pools": [name]}}} for name in pools}
    path = folder / "routes.yaml"
    path.write_text(json.dumps({"budgets": budgets, "pools": whole, "models": models}))
    return path


def test_pools_share_a_budget(tmp_path: Path) -> None:
    loaded = load(
        routes(
            tmp_path,
            {"gpus": {"replicas": 12}, "money": {"cost_per_hour": 80, "aim": "fair_sum"}},
            chat={"budget": "gpus", "weight": 2},
            code={"budget": "gpus"},
            large={"budget": "money", "price": 20},
            alone={},
        )
    )
    assert loaded.warnings == ()
    assert loaded.table.budgets == {
        "gpus": BudgetSpec("gpus", replicas=12, aim=Aim.SUM),
        "money": BudgetSpec("money", cost_per_hour=80.0, aim=Aim.FAIR_SUM),
    }
    found = {name: pool.capacity for name, pool in loaded.table.pools.items()}
    assert {name: (each.budget, each.weight) for name, each in found.items() if each is not None} == {
        "chat": ("gpus", 2.0),
        "code": ("gpus", 1.0),
        "large": ("money", 1.0),
        "alone": ("", 1.0),
    }


@pytest.mark.parametrize(
    ("budgets", "pools", "problem", "hint"),
    [
        (
            {"gpus": {"replicas": 8}},
            {"chat": {"budget": "gpu"}, "code": {"budget": "gpus"}},
            "pools.chat.capacity.budget: there is no budget `gpu`",
            "did you mean `gpus`? known budgets: gpus",
        ),
        (
            {"gpus": {"replicas": 4}},
            {"chat": {"budget": "gpus", "min": 3}, "code": {"budget": "gpus", "min": 2}},
            "budgets.gpus.replicas: the fewest replicas of its pools are 5 (chat 3, code 2), more than this",
            "raise it, or lower `min` of a pool",
        ),
        (
            {"money": {"cost_per_hour": 9}},
            {"chat": {"budget": "money", "price": 2.5, "backends_per_replica": 4}},
            "budgets.money.cost_per_hour: the fewest replicas of its pools cost 10 (chat 10), more than this",
            "raise it, or lower `min` of a pool",
        ),
        (
            {"money": {"cost_per_hour": 9}},
            {"chat": {"budget": "money"}, "code": {"budget": "money", "price": 2}},
            "pools.chat.capacity.budget: nothing says what a replica takes of this budget",
            "write what one backend costs: `cost_per_hour: 2.50` in the pool",
        ),
        (
            {"gpus": {"aim": "sum"}},
            {"chat": {"budget": "gpus"}},
            "budgets.gpus: says no size",
            "write one of `replicas: 32` and `cost_per_hour: 80`",
        ),
        (
            {"gpus": {"replicas": 4, "cost_per_hour": 80}},
            {"chat": {"budget": "gpus"}},
            "budgets.gpus: `replicas` and `cost_per_hour` cannot be used together",
            "write one of `replicas: 32` and `cost_per_hour: 80`",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(
    tmp_path: Path, budgets: dict[str, Any], pools: dict[str, dict[str, Any]], problem: str, hint: str
) -> None:
    with pytest.raises(RoutesError) as refused:
        load(routes(tmp_path, budgets, **pools))
    assert [f"{each.path}: {each.message}" for each in refused.value.problems] == [problem]
    assert refused.value.problems[0].hint == hint


def test_a_size_that_is_no_number_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(RoutesError) as refused:
        load(routes(tmp_path, {"gpus": {"replicas": "many"}}, chat={"budget": "gpus", "min": 2, "weight": 0}))
    assert [f"{each.path}: {each.message}" for each in refused.value.problems] == [
        "budgets.gpus.replicas: `many` is not a whole number",
        "pools.chat.capacity.weight: `0` is too small",
    ]


def test_budgets_that_bind_nothing_are_odd(tmp_path: Path) -> None:
    loaded = load(
        routes(
            tmp_path,
            {"large": {"replicas": 16}, "unused": {"replicas": 4}, "money": {"cost_per_hour": 9}},
            chat={"budget": "large"},
            code={"budget": "large"},
            free={"budget": "money", "price": 0},
            alone={"weight": 2},
        )
    )
    assert [f"{each.path}: {each.message}" for each in loaded.warnings] == [
        "budgets.large.replicas: always suffices: its pools want at most 16",
        "budgets.unused: no pool uses this budget",
        "budgets.money.cost_per_hour: always suffices: its pools want at most 0",
        "pools.free.capacity.budget: this budget does not bind the pool, whose replicas cost nothing",
        "pools.alone.capacity.weight: counts for nothing without a `budget`",
    ]
