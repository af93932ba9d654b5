"""What is expected of the next minutes is what past minutes say, and no more."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.capacity.recent_rates import LEVEL_MINUTES, SPREAD_MINUTES, expected_rates

NOISE = (10.0, 10.8, 9.4, 10.2, 9.8, 10.6, 9.2, 10.4, 9.6, 10.0)


def mean(rates: Sequence[float]) -> float:
    return sum(rates) / len(rates)


def test_nothing_is_expected_of_a_model_that_had_no_minute() -> None:
    assert expected_rates([]) == [0.0]


def test_after_one_minute_some_spread_is_assumed() -> None:
    assert expected_rates([10.0]) == pytest.approx([8.5, 10.0, 11.5])


def test_a_steady_load_is_expected_to_go_on_with_its_spread() -> None:
    rates = expected_rates(NOISE * 4)
    assert len(rates) == SPREAD_MINUTES
    assert mean(rates) == pytest.approx(10, rel=0.02)
    assert 9 < rates[0] < 9.5
    assert 10.5 < rates[-1] < 11


def test_one_minute_does_not_change_the_level() -> None:
    rates = expected_rates([*NOISE * 4, 20.0])
    assert mean(rates) == pytest.approx((11 * mean(NOISE) + 20) / LEVEL_MINUTES, rel=0.06)
    assert rates[-1] > 20  # but it may come again


@pytest.mark.parametrize("rate", [30.0, 2.0])
def test_two_minutes_far_beyond_all_others_are_the_new_level(rate: float) -> None:
    rates = expected_rates([*NOISE * 4, rate, rate])
    assert rates[len(rates) // 2] == pytest.approx(rate, rel=0.1)


def test_minutes_that_differ_as_others_did_are_no_new_level() -> None:
    spiky = [*NOISE, 30.0, 30.0, *NOISE, 31.0, 31.0]
    rates = expected_rates(spiky)
    assert rates[len(rates) // 2] < 20


def test_minutes_without_requests_say_nothing_about_ratios() -> None:
    assert expected_rates([0.0] * 20) == [0.0] * 3
    assert expected_rates([0.0] * 20 + [6.0])[-1] > 0


@given(st.lists(st.floats(0, 1e4), max_size=80))
def test_rates_are_sorted_and_not_negative(minutes: list[float]) -> None:
    rates = expected_rates(minutes)
    assert rates == sorted(rates)
    assert rates[0] >= 0


@given(st.lists(st.floats(0.1, 100), min_size=LEVEL_MINUTES + SPREAD_MINUTES, max_size=80))
def test_older_minutes_are_forgotten(minutes: list[float]) -> None:
    assert expected_rates(minutes) == expected_rates(minutes[-LEVEL_MINUTES - SPREAD_MINUTES :])
