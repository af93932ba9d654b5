"""The p99 of so many replicas, held against Erlang's formulas written out, and what it is worth."""

from math import exp, factorial, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.latency_estimate import mean_utilities, p99_latencies


def by_the_book(rate: float, service_time: float, replicas: int) -> float:
    """Return half the p99 wait of M/M/c and the service time."""
    offered = rate * service_time
    below = sum(offered**k / factorial(k) for k in range(replicas))
    busy = offered**replicas / factorial(replicas) * replicas / (replicas - offered)
    waiting = busy / (below + busy)
    # P(wait > t) = waiting * exp(-(c * mu - lambda) * t)
    wait = log(100 * waiting) / (replicas / service_time - rate) if waiting > 0.01 else 0.0
    assert waiting * exp(-(replicas / service_time - rate) * wait) == pytest.approx(min(waiting, 0.01))
    return service_time + wait / 2


@given(st.floats(0.01, 0.94), st.integers(1, 30), st.floats(0.01, 3))
def test_it_is_half_the_wait_that_erlangs_formula_gives(utilisation: float, replicas: int, service_time: float) -> None:
    rate = utilisation * replicas / service_time
    found = p99_latencies(rate, service_time, replicas)[-1]
    assert found == pytest.approx(by_the_book(rate, service_time, replicas))


def test_faros_own_figures() -> None:
    # 13 requests a second of 180 ms keep 720 ms with 4 replicas, not with 3. With 1 or 2 Faro's latency is longer by
    # what is not served.
    latencies = p99_latencies(13.0, 0.18, 4)
    assert latencies[2:] == pytest.approx([0.7417, 0.3583], rel=1e-3)
    unserved = [13.0 * 0.18 / (0.95 * replicas) for replicas in (1, 2)]
    assert [each * more for each, more in zip(latencies, unserved, strict=False)] == pytest.approx(
        [20.634, 5.2405], rel=1e-3
    )


def test_a_wait_of_more_variable_requests_is_longer() -> None:
    steady, poisson = (p99_latencies(13.0, 0.18, 3, variability=each)[-1] for each in (1.0, 2.0))
    assert poisson - 0.18 == pytest.approx(2 * (steady - 0.18))


@given(st.floats(0.1, 200), st.floats(0.01, 2))
def test_more_replicas_are_never_slower_even_in_overload(rate: float, service_time: float) -> None:
    latencies = p99_latencies(rate, service_time, 40)
    assert latencies == sorted(latencies, reverse=True)
    assert latencies[-1] >= service_time


@pytest.mark.parametrize("objective", [1.97, 60.0])
def test_of_more_than_can_be_served_only_that_share_is_worth_anything(objective: float) -> None:
    # 120 requests a second of 50 ms keep 6 replicas busy.
    utilities = mean_utilities([120.0], 0.05, objective, 8)
    for replicas in range(1, 7):
        assert utilities[replicas] <= 0.95 * replicas / 6
    assert utilities[3] == pytest.approx(0.95 * 3 / 6)
    assert utilities[8] == 1


def test_a_utility_is_a_mean_over_the_rates_that_may_come() -> None:
    first, second = (mean_utilities([rate], 0.18, 0.72, 5) for rate in (8.0, 15.0))
    assert mean_utilities([8.0, 15.0], 0.18, 0.72, 5) == pytest.approx(
        [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    )
    assert first[0] == 0
    assert first[5] == 1


def test_a_steeper_utility_is_closer_to_kept_or_missed() -> None:
    plain, steep = (mean_utilities([13.0], 0.18, 0.72, 5, steepness=each) for each in (1.0, 4.0))
    assert steep[3] == pytest.approx(plain[3] ** 4)
    assert steep[4] == 1


def test_without_requests_no_replicas_are_worth_as_much_as_any() -> None:
    assert mean_utilities([0.0], 0.18, 0.72, 3) == [1.0] * 4
    assert mean_utilities([0.0, 5.0], 0.18, 0.72, 3)[0] == 0.5
