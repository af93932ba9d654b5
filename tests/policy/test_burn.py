"""How fast a budget is spent, and when there is too little to say."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.slo.burn import (
    Counts,
    at_least,
    burn,
    routing_burn,
    smoothed_burn,
    surprise,
)
from gateway.policy.slo.judge import meets
from gateway.policy.slo.objective import DEFAULT, Sli, Target

counts = st.builds(Counts, st.integers(0, 10**6), st.integers(0, 10**6))
budgets = st.sampled_from([0.1, 0.05, 0.01, 0.001, 0.0005])


@given(counts, budgets)
def test_a_burn_rate_is_the_bad_share_over_the_budget(seen: Counts, budget: float) -> None:
    rate = burn(seen, budget)
    if not seen.total:
        assert rate is None
    else:
        assert rate is not None
        exact = Fraction(seen.bad, seen.total) / Fraction(budget)
        assert rate == pytest.approx(float(exact))
        assert 0 <= rate <= 1 / budget * 1.0001


@given(st.integers(0, 10**6), st.integers(0, 10**6), budgets)
def test_smoothing_pulls_towards_one_and_keeps_the_side(good: int, bad: int, budget: float) -> None:
    smoothed = smoothed_burn(good, bad, budget)
    raw = burn(Counts(good, bad), budget)
    assert smoothed_burn(0, 0, budget) == 1.0
    if raw is not None:
        assert min(raw, 1.0) - 1e-9 <= smoothed <= max(raw, 1.0) + 1e-9


def test_one_failure_in_three_is_no_catastrophe() -> None:
    assert smoothed_burn(2, 1, 0.001) < 3.01
    assert smoothed_burn(0, 20, 0.01) > 14.4


@given(*[st.integers(0, 1000)] * 4, budgets)
def test_the_routing_burn_lets_go_as_soon_as_either_window_does(a: int, b: int, c: int, d: int, budget: float) -> None:
    rate = routing_burn((a, b, c, d), budget)
    assert rate == min(smoothed_burn(a, b, budget), smoothed_burn(c, d, budget))
    assert routing_burn((a, b, 0, 0), budget) <= 1.0


def test_latencies_meet_an_objective_when_each_meets_its_target() -> None:
    assert meets(DEFAULT, 1.9, 0.09, 100)
    assert not meets(DEFAULT, 2.1, 0.09, 100)
    assert meets(DEFAULT, 2.1, None, 4096)
    assert not meets(DEFAULT, None, 0.11, 100)
    assert DEFAULT.targets[Sli.AVAILABILITY].thresholds == ()
    assert Target(0.99).highest_burn == pytest.approx(100)


def test_what_is_certain_of_a_bad_share() -> None:
    """Wilson's interval: two of ten may be as few as 5.7 %, all of five as few as 57 %, and none is none."""
    assert at_least(Counts(), 1.96) == 0.0
    assert at_least(Counts(10, 0), 1.96) == 0.0
    assert at_least(Counts(8, 2), 1.96) == pytest.approx(0.0567, abs=1e-4)
    assert at_least(Counts(0, 5), 1.96) == pytest.approx(0.5655, abs=1e-4)


def test_how_unlikely_so_many_bad_events_are_within_the_budget() -> None:
    """Nats: a service that spends its budget exactly has seven of 3,600 where 0.36 are due once in a million times."""
    assert surprise(Counts(), 0.001) == 0.0
    assert surprise(Counts(999, 1), 0.001) == 0.0
    assert surprise(Counts(1000, 0), 0.001) == 0.0
    assert surprise(Counts(3593, 7), 0.0001) == pytest.approx(14.1, abs=0.1)
    assert surprise(Counts(0, 7), 0.05) == pytest.approx(14.3, abs=0.1)


@given(counts, st.sampled_from([1.96, 2.58]))
def test_what_is_certain_is_less_than_what_is_seen(seen: Counts, z: float) -> None:
    assert 0.0 <= at_least(seen, z) <= (seen.bad / seen.total if seen.total else 0.0) + 1e-12
