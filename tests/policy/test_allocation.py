"""Divisions of a budget are the best there are: held against every division of small budgets."""

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.allocation import Aim, Choice, dividing
from gateway.wire.slices import finish


def divide(choices: Sequence[Choice], budget: int, aim: Aim) -> list[int] | None:
    return finish(dividing(choices, budget, aim, 0))


def objective(choices: Sequence[Choice], division: Sequence[int], aim: Aim) -> float:
    utilities = [choice.utilities[replicas] for choice, replicas in zip(choices, division, strict=True)]
    total = sum(choice.values[replicas] for choice, replicas in zip(choices, division, strict=True))
    distance = min(utilities) - max(utilities)
    if aim is Aim.FAIR:
        return distance
    return total + len(choices) * distance if aim is Aim.FAIR_SUM else total


def spent(choices: Sequence[Choice], division: Sequence[int]) -> int:
    return sum(choice.cost * replicas for choice, replicas in zip(choices, division, strict=True))


def every(choices: Sequence[Choice], budget: int) -> list[tuple[int, ...]]:
    ranges = [range(choice.least, choice.most + 1) for choice in choices]
    return [division for division in product(*ranges) if spent(choices, division) <= budget]


@st.composite
def choice(draw: st.DrawFn) -> Choice:
    most = draw(st.integers(0, 6))
    steps = st.floats(0, 1) | st.sampled_from((0.0, 0.25, 0.5, 1.0))
    utilities = sorted(draw(st.lists(steps, min_size=most + 1, max_size=most + 1)))
    weight, move = draw(st.sampled_from((0.5, 1.0, 3.0))), draw(st.sampled_from((0.0, 0.1)))
    now = draw(st.integers(0, most))
    values = [weight * each - move * abs(replicas - now) for replicas, each in enumerate(utilities)]
    cost = draw(st.sampled_from((1, 2, 3)))
    return Choice(utilities, least=draw(st.integers(0, most)), most=most, cost=cost, values=values)


@given(st.lists(choice(), min_size=1, max_size=4), st.integers(0, 24), st.sampled_from(Aim))
def test_no_division_is_better(choices: list[Choice], budget: int, aim: Aim) -> None:
    division = divide(choices, budget, aim)
    possible = every(choices, budget)
    if division is None:
        assert possible == []
        return
    assert tuple(division) in possible
    best = max(objective(choices, each, aim) for each in possible)
    assert objective(choices, division, aim) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("tables", "budget"),
    [
        ([[0, 0.1, 0.9, 1, 1], [0, 0.3, 0.3, 0.5, 0.8]], 3),
        ([[0, 0.1, 0.4, 0.5, 0.8], [0, 0.6, 0.6, 0.8, 1], [0, 0.1, 0.1, 0.4, 0.6]], 10),
        ([[0, 0.5, 0.6, 0.7, 1], [0, 0.2, 0.3, 0.3, 0.8], [0, 0.2, 0.3, 0.8, 0.8], [0, 0.2, 0.6, 0.9, 0.9]], 6),
    ],
)
def test_a_larger_sum_may_not_be_worth_the_distance(tables: list[list[float]], budget: int) -> None:
    choices = [Choice(each, least=1, most=4) for each in tables]
    division = divide(choices, budget, Aim.FAIR_SUM)
    assert division is not None
    best = max(objective(choices, each, Aim.FAIR_SUM) for each in every(choices, budget))
    assert objective(choices, division, Aim.FAIR_SUM) == pytest.approx(best)


@given(st.lists(choice(), min_size=1, max_size=4), st.integers(0, 24))
def test_of_the_best_sums_the_cheapest_is_taken(choices: list[Choice], budget: int) -> None:
    division = divide(choices, budget, Aim.SUM)
    if division is None:
        return
    best = objective(choices, division, Aim.SUM)
    as_good = [each for each in every(choices, budget) if objective(choices, each, Aim.SUM) >= best - 1e-12]
    assert spent(choices, division) <= min(spent(choices, each) for each in as_good)


def test_an_overloaded_model_is_not_starved() -> None:
    # One replica more is worth next to nothing to it, four are worth everything: greed would give them to the other.
    overloaded = Choice([0.0, 0.01, 0.02, 0.03, 0.04, 1.0], least=1, most=5)
    comfortable = Choice([0.0, 0.8, 0.85, 0.9, 0.95, 0.97], least=1, most=5)
    assert divide([overloaded, comfortable], 6, Aim.SUM) == [5, 1]


def test_a_fair_sum_does_without_the_last_of_one_for_the_worst() -> None:
    # 0.5 and 0.9 sum to more than 0.6 and 0.7, which are closer to each other.
    first = Choice([0.0, 0.5, 0.6], least=1, most=2)
    second = Choice([0.0, 0.7, 0.9], least=1, most=2)
    assert divide([first, second], 3, Aim.SUM) == [1, 2]
    assert divide([first, second], 3, Aim.FAIR_SUM) == [2, 1]
    assert divide([first, second], 3, Aim.FAIR) == [2, 1]


def test_costs_have_a_common_measure() -> None:
    # In cents: as if one model needed 2 of 5, the other 3.
    choices = [
        Choice([0.0, 1.0, 1.1], least=0, most=2, cost=50_000, values=None),
        Choice([0.0, 0.5, 0.9], least=0, most=2, cost=75_000),
    ]
    assert divide(choices, 125_999, Aim.SUM) == [1, 1]
    assert divide(choices, 49_999, Aim.SUM) == [0, 0]


def test_a_budget_below_the_least_numbers_has_no_division() -> None:
    assert divide([Choice([0.0, 0.5, 1.0], least=2, most=2)] * 2, 3, Aim.FAIR_SUM) is None
