"""The load to expect when a replica asked for now is warm."""

from math import inf, nan, pi, sin
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.forecast import DAY, WEEK, LoadForecast

HOUR = 60


def daily(minute: int) -> float:
    return 10.0 + 8.0 * sin(2 * pi * minute / DAY)


def fed(rates: list[float], *, ahead: float = 180.0, first: int = 0) -> LoadForecast:
    forecast = LoadForecast(ahead)
    for minute, rate in enumerate(rates, first):
        forecast.observe(minute, rate)
    return forecast


def test_knows_nothing_before_the_first_minute_and_the_level_after_it() -> None:
    forecast = LoadForecast(180.0)
    assert forecast.expected(30.0) is None
    forecast.observe(100, 4.0)
    expected = forecast.expected(101 * 60.0)
    assert expected is not None
    assert (expected.at, expected.middle, expected.upper) == (101 * 60.0 + 180.0, 4.0, 4.0)
    assert (forecast.mase, forecast.pinball) == (None, None)


def test_from_the_second_day_on_it_knows_what_comes() -> None:
    forecast = fed([daily(minute) for minute in range(DAY + 8 * HOUR)])
    expected = forecast.expected((DAY + 8 * HOUR) * 60.0)
    assert expected is not None
    assert expected.middle == pytest.approx(daily(DAY + 8 * HOUR + 3), rel=0.01)


def test_a_day_with_more_load_is_expected_to_go_on_so() -> None:
    forecast = fed([daily(minute) * (1 + (minute >= DAY)) for minute in range(DAY + 8 * HOUR)])
    expected = forecast.expected((DAY + 8 * HOUR) * 60.0)
    assert expected is not None
    assert expected.middle == pytest.approx(2 * daily(DAY + 8 * HOUR + 3), rel=0.01)


def test_a_week_before_is_better_than_yesterday() -> None:
    """Saturdays are quiet: on Sunday evening before a Monday, and on Friday, it is the same day of last week."""
    days = [5.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0]
    rates = [days[minute // DAY % 7] for minute in range(WEEK + 2 * DAY)]
    before = fed(rates[: WEEK - 1]).expected((WEEK - 1) * 60.0)  # Monday, known by Sunday alone
    week = fed(rates[: WEEK + DAY]).expected((WEEK + DAY) * 60.0)
    assert before is not None
    assert week is not None
    assert (before.middle, week.middle) == (pytest.approx(1.0), pytest.approx(5.0))


def test_load_where_there_was_none_a_day_before_is_added() -> None:
    forecast = fed([0.0] * DAY + [2.0] * HOUR)
    expected = forecast.expected((DAY + HOUR) * 60.0)
    assert expected is not None
    assert expected.middle == pytest.approx(2.0)


def test_a_level_beyond_belief_is_bounded() -> None:
    forecast = fed([1.0] * DAY + [100.0] * HOUR)
    expected = forecast.expected((DAY + HOUR) * 60.0)
    assert expected is not None
    assert expected.middle == pytest.approx(4.0)


def test_the_upper_bound_is_exceeded_in_about_one_minute_of_ten() -> None:
    rng = Random(7)
    forecast, above, asked = LoadForecast(180.0), 0, 0
    due: dict[int, float] = {}
    for minute in range(2000):
        rate = rng.gauss(20.0, 3.0)
        if minute in due:
            asked += 1
            above += rate > due[minute]
        forecast.observe(minute, rate)
        expected = forecast.expected((minute + 1) * 60.0)
        assert expected is not None
        assert expected.upper >= expected.middle
        if minute > 100:
            due[int(expected.at // 60)] = expected.upper
    assert 0.07 < above / asked < 0.14


def test_it_is_held_against_seasonal_naive() -> None:
    rng = Random(3)
    rates = [daily(minute) * (1.5 if minute >= DAY else 1.0) * rng.uniform(0.9, 1.1) for minute in range(2 * DAY)]
    forecast = fed(rates)
    assert forecast.mase is not None
    assert forecast.pinball is not None
    assert forecast.mase < 0.5  # the level is corrected, which seasonal-naive does not do
    assert forecast.pinball[0] < forecast.pinball[1]


def test_minutes_that_were_not_seen_are_unknown_rather_than_empty() -> None:
    forecast = fed([3.0] * 10)
    forecast.observe(13, 5.0)
    expected = forecast.expected(14 * 60.0)
    assert expected is not None
    assert expected.middle == 5.0
    assert forecast.state()["rates"] == [3.0] * 10 + [5.0]
    assert (forecast.state()["first"], forecast.state()["length"]) == ([0.0, 13.0], [10.0, 1.0])


def test_a_history_that_is_too_old_says_nothing() -> None:
    forecast = fed([3.0] * WEEK)
    forecast.observe(10 * WEEK, 5.0)
    expected = forecast.expected((10 * WEEK + 1) * 60.0)
    assert expected is not None
    assert expected.middle == 5.0


@pytest.mark.parametrize("rate", [-1.0, nan, inf])
def test_a_rate_that_cannot_be_is_left_out(rate: float) -> None:
    forecast = fed([3.0] * 10)
    forecast.observe(10, rate)
    forecast.observe(9, 100.0)  # told before
    forecast.observe(-1, 100.0)
    assert forecast.state()["rates"] == [3.0] * 10


def test_the_history_of_eight_days_is_kept() -> None:
    forecast = fed([float(minute % 7) for minute in range(WEEK + 3 * DAY)])
    state = forecast.state()
    assert (state["first"], len(state["rates"])) == ([2.0 * DAY], WEEK + DAY)


def test_it_goes_on_after_a_restart() -> None:
    rng = Random(5)
    rates = [daily(minute) * rng.uniform(0.8, 1.2) for minute in range(WEEK + 2 * DAY)]
    one, other = fed(rates), LoadForecast(180.0)
    other.restore(one.state())
    now = len(rates) * 60.0
    assert other.expected(now) == one.expected(now)
    assert (other.mase, other.state(), repr(other)) == (one.mase, one.state(), repr(one))
    empty = LoadForecast(180.0)
    empty.restore(LoadForecast(180.0).state())
    assert empty.expected(0.0) is None


@pytest.mark.parametrize("wrong", [2 * DAY - 3 * HOUR, 0, 2 * DAY + 2 * HOUR, 10**9, 4 * WEEK])
def test_a_clock_that_was_wrong_for_a_while_costs_no_history(wrong: int) -> None:
    """Neither one that was ahead nor one that was behind, and no restart meanwhile."""
    first = 4 * WEEK if wrong == 0 else 0
    forecast = fed([daily(minute) for minute in range(2 * DAY)], first=first)
    for minute in range(wrong, wrong + 20):
        forecast.observe(minute, 1.0)
    assert len(forecast.state()["rates"]) >= 2 * DAY
    after = LoadForecast(180.0)
    after.restore(forecast.state())
    assert after.state() == forecast.state()
    now = first + 2 * DAY + 8 * HOUR
    for minute in range(now - 30, now):
        after.observe(minute, daily(minute - first))
    expected = after.expected(now * 60.0)
    assert expected is not None
    assert expected.middle == pytest.approx(daily(now - first + 3), rel=0.01)


def test_a_clock_that_is_set_back_by_two_minutes_changes_next_to_nothing() -> None:
    rates = [daily(minute) for minute in range(WEEK + 8 * HOUR)]
    one, other = fed(rates), fed(rates)
    for minute in range(len(rates) - 2, len(rates) + 30):
        one.observe(minute, daily(minute))
    for minute in range(len(rates), len(rates) + 30):
        other.observe(minute, daily(minute))
    now = (len(rates) + 30) * 60.0
    found, as_ever = one.expected(now), other.expected(now)
    assert found is not None
    assert as_ever is not None
    assert (found.middle, found.upper) == (as_ever.middle, pytest.approx(as_ever.upper, rel=0.01))
    assert one.state()["rates"] == other.state()["rates"]


def test_a_rate_below_zero_is_that_of_a_minute_that_was_not_seen() -> None:
    forecast = LoadForecast(180.0)
    forecast.restore({"first": [7.0], "rates": [1.0, -1.0, 2.0], "residuals": [], "errors": [0.0] * 5})
    assert (forecast.state()["first"], forecast.state()["rates"]) == ([7.0, 9.0], [1.0, 2.0])


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"first": [], "rates": [1.0], "residuals": [], "errors": [0.0] * 5},
        {"first": [0.0], "rates": [nan], "residuals": [], "errors": [0.0] * 5},
        {"first": [0.0], "rates": [1.0], "residuals": [], "errors": [0.0]},
        {"first": [inf], "rates": [1.0], "residuals": [], "errors": [0.0] * 5},
        {"first": [0.0], "length": [2.0], "rates": [1.0], "residuals": [], "errors": [0.0] * 5},
        {"first": [-1.0], "rates": [1.0], "residuals": [], "errors": [0.0] * 5},
    ],
)
def test_what_is_no_state_is_refused(state: dict[str, list[float]]) -> None:
    forecast = LoadForecast(180.0)
    with pytest.raises((KeyError, IndexError, ValueError)):
        forecast.restore(state)
    assert forecast.expected(0.0) is None


def slow_middle(rates: dict[int, float], due: int) -> float:
    """Return the forecast as its words say, from all that was ever seen."""
    last = max(rates)

    def mean(first: int, end: int) -> float | None:
        known = [rates[each] for each in range(first, end + 1) if each in rates]
        return sum(known) / len(known) if known else None

    period = next((each for each in (WEEK, DAY) if due - each in rates), None)
    if period:
        recent, then = mean(last - 14, last), mean(last - 14 - period, last - period)
        season = mean(due - period - 2, due - period + 2)
        assert season is not None
        if recent is not None and then is not None:
            return season * min(max(recent / then, 0.25), 4.0) if then else season + recent
    return mean(last - 1, last) or 0.0


@given(
    days=st.integers(0, 8),
    pieces=st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, 50.0)), min_size=1, max_size=6),
    gap=st.integers(-500, 500) | st.integers(0, 20),
)
def test_the_forecast_is_what_its_words_say(days: int, pieces: list[tuple[int, float]], gap: int) -> None:
    """The days before are told by a state, so that an example takes no seconds."""
    past = [float((minute * 7919) % 13) for minute in range(days * DAY)]
    forecast = LoadForecast(180.0)
    forecast.restore({"first": [0.0], "rates": past, "residuals": [], "errors": [0.0] * 5})
    rates, minute, last = dict(enumerate(past)), days * DAY, -1
    for length, rate in pieces:
        for _ in range(length):
            forecast.observe(minute, rate)
            if minute != last:  # else it was told before
                rates[minute] = rate
            last, minute = minute, minute + 1
        minute = max(0, minute + gap)
    rates = {each: rate for each, rate in rates.items() if each <= last}
    now = (last + 1) * 60.0
    expected = forecast.expected(now)
    assert expected is not None
    assert expected.middle == pytest.approx(slow_middle(rates, int(now + 180) // 60))
