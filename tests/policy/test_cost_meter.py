"""What an engine costs is divided among the attempts that hold it: nothing is lost, nothing is charged twice."""

from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routing.cost_meter import CostMeter
from tests.policy.test_health import pool


def metered(price: float = 1.0) -> CostMeter:
    meter = CostMeter()
    meter.follow(price, 1.0, 0.0)
    return meter


def test_a_moment_is_shared_evenly_by_the_attempts_in_flight() -> None:
    meter = metered()
    long = meter.begin(10.0)
    short = meter.begin(20.0)
    assert meter.end(short, 24.0) == pytest.approx(2.0)
    assert meter.end(long, 30.0) == pytest.approx(10.0 + 2.0 + 6.0)
    assert meter.take() == pytest.approx((20.0, 10.0))
    assert meter.take() == (0.0, 0.0)
    assert repr(meter) == "<CostMeter 0.000000 used, 0.000000 idle>"


def test_another_price_holds_from_the_moment_that_it_is_known() -> None:
    meter = metered()
    began = meter.begin(0.0)
    meter.follow(3.0, 1.0, 10.0)
    assert meter.end(began, 20.0) == pytest.approx(10.0 + 30.0)


def test_a_clock_that_stands_still_charges_nothing() -> None:
    meter = metered()
    meter.follow(1.0, 1.0, 50.0)
    assert meter.end(meter.begin(40.0), 50.0) == 0.0


def test_a_sum_that_is_older_than_our_part_of_it_charges_nobody_twice() -> None:
    meter = metered()
    began = meter.begin(0.0)
    meter.look(-1, 0.0)
    assert meter.end(began, 5.0) == pytest.approx(5.0)


def test_a_lease_says_once_what_it_cost() -> None:
    (health,) = pool(1)[1]
    health.costs.follow(0.5, 1.0, 0.0)
    lease = health.lease(10, now=0.0)
    assert lease.release(4.0) == pytest.approx(2.0)
    assert lease.release(8.0) == 0.0


Events = st.lists(
    st.tuples(
        st.floats(0.0, 1e4), st.sampled_from(("begin", "end", "price")), st.integers(0, 50), st.floats(0.0, 10.0)
    ),
    max_size=60,
)


@given(Events)
def test_charges_and_idle_time_add_up_to_what_the_engine_cost(events: list[tuple[float, str, int, float]]) -> None:
    meter, now, price = metered(), 0.0, 1.0
    held: list[float] = []
    charges, costs = [], []
    for elapsed, what, which, value in events:
        now += elapsed
        costs.append(elapsed * price)
        if what == "begin":
            held.append(meter.begin(now))
        elif what == "end" and held:
            charges.append(meter.end(held.pop(which % len(held)), now))
        elif what == "price":
            price = value
            meter.follow(price, 1.0, now)
    charges += [meter.end(began, now) for began in held]
    meter.look(0, now)
    used, idle = meter.take()
    assert min(charges, default=0.0) >= 0.0
    assert used == pytest.approx(fsum(charges), rel=1e-9, abs=1e-6)
    assert used + idle == pytest.approx(fsum(costs), rel=1e-9, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 2), st.booleans()), max_size=60))
def test_processes_that_know_of_each_other_add_up_to_one_price(events: list[tuple[float, int, bool]]) -> None:
    """Here they look at once; in a gateway a few times a second."""
    meters, now = [CostMeter() for _ in range(3)], 0.0
    for meter in meters:
        meter.follow(1.0, 1 / 3, 0.0)
    held: list[list[float]] = [[], [], []]
    for elapsed, which, begins in events:
        now += elapsed
        meter = meters[which]
        for each in meters:
            each.look(sum(other.held for other in meters if other is not each), now)
        if begins:
            held[which].append(meter.begin(now))
        elif held[which]:
            meter.end(held[which].pop(), now)
        for each in meters:
            each.look(sum(other.held for other in meters if other is not each), now)
    assert fsum(part for meter in meters for part in meter.take()) == pytest.approx(now, rel=1e-9, abs=1e-6)
