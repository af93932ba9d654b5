"""How many requests come by second, and how much they come in bursts."""

from math import inf, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.capacity.arrivals import ArrivalMeter


def fed(counts: list[float], first: int = 0) -> ArrivalMeter:
    meter = ArrivalMeter()
    for second, count in enumerate(counts, first):
        meter.observe(second, count)
    return meter


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    assert ArrivalMeter().rate() is None
    assert fed([4.0] * 5).rate() == 4.0
    assert fed([9.0] * 100 + [1.0] * 29).rate() == pytest.approx((9 + 29) / 30)


def test_seconds_that_are_left_out_had_no_requests() -> None:
    meter = fed([3.0] * 30)
    meter.observe(44, 3.0)
    assert meter.rate() == pytest.approx((15 + 1) * 3 / 30)
    assert repr(meter) == "<ArrivalMeter of 45 s>"
    meter.observe(10**9, 6.0)
    assert (meter.rate(), repr(meter)) == (6 / 30, "<ArrivalMeter of 900 s>")


@pytest.mark.parametrize("count", [-1.0, nan, inf])
def test_a_number_that_cannot_be_is_left_out(count: float) -> None:
    meter = fed([3.0] * 30)
    meter.observe(30, count)
    meter.observe(29, 100.0)  # told before
    assert meter.rate() == 3.0


def test_after_a_second_far_ahead_it_goes_on_with_those_that_come() -> None:
    meter = fed([3.0] * 200)
    meter.observe(10**9, 900.0)
    assert meter.bursts(4.0) is not None
    for second in range(200, 260):
        meter.observe(second, 6.0)
    assert (meter.rate(), repr(meter)) == (6.0, "<ArrivalMeter of 60 s>")
    assert meter.bursts(4.0) is None, "as in the first two minutes"


def test_in_the_first_two_minutes_nothing_is_said() -> None:
    assert fed([1.0] * 119).bursts(4.0) is None
    assert fed([1.0] * 120).bursts(4.0) is not None


def test_requests_by_chance_are_no_bursts() -> None:
    rng = Random(2)
    bursts = fed([float(sum(rng.random() < 0.1 for _ in range(50))) for _ in range(900)]).bursts(4.0)
    assert bursts is not None
    assert bursts.mean == pytest.approx(5.0, rel=0.05)
    assert 0.5 < bursts.dispersion < 2.0


def test_requests_that_come_together_are_bursts() -> None:
    bursts = fed([40.0 if second % 120 < 20 else 0.0 for second in range(900)]).bursts(4.0)
    assert bursts is not None
    assert bursts.peak == pytest.approx(40 * 20 / 30)
    assert bursts.dispersion > 10


def test_a_load_that_rises_once_is_no_burst() -> None:
    rng = Random(2)
    counts = [float(sum(rng.random() < 0.1 for _ in range(10 if second < 450 else 100))) for second in range(900)]
    bursts = fed(counts).bursts(4.0)
    assert bursts is not None
    assert bursts.dispersion < 4.0


def test_a_quiet_pool_has_no_dispersion() -> None:
    bursts = fed([0.0] * 200).bursts(0.0)
    assert bursts is not None
    assert (bursts.mean, bursts.peak, bursts.dispersion) == (0.0, 0.0, 0.0)


def test_they_are_looked_at_anew_every_five_seconds() -> None:
    meter = fed([1.0] * 200)
    before = meter.bursts(4.0)
    for second in range(200, 204):
        meter.observe(second, 50.0)
        assert meter.bursts(4.0) is before
    meter.observe(204, 50.0)
    assert meter.bursts(4.0) is not before


@settings(max_examples=25)
@given(st.lists(st.integers(0, 20), min_size=120, max_size=1000), st.integers(1, 40))
def test_the_busiest_half_minute_is_found_as_one_would_by_looking(counts: list[int], holding: int) -> None:
    bursts = fed([float(each) for each in counts]).bursts(float(holding))
    known = counts[-900:]
    assert bursts is not None
    assert bursts.peak == pytest.approx(max(sum(known[end - 30 : end]) for end in range(30, len(known) + 1)) / 30)
    assert bursts.mean == pytest.approx(sum(known) / len(known))
