"""What is left of an error budget, also while its window has not been lived yet, and how that is said."""

from math import inf

import pytest

from gateway.policy.slo.budget import Budget, error_budget
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE, Windows

START = 1_700_000_000.0
ALLOWED = 0.001


def lived(days: float, *, a_day: int = 1000, bad: int = 0) -> Windows:
    """A service of so many events a day for so long, the bad ones at its beginning."""
    windows = Windows(START)
    windows.bad = bad
    windows.good = 1
    windows.advance(START)
    for _ in range(round(24 * days)):
        windows.advance(windows.now + HOUR)
        windows.good = round(a_day / 24)
    windows.advance(windows.now)
    return windows


def test_without_events_all_of_it_is_left() -> None:
    budget = error_budget(Windows(START), ALLOWED)
    assert (budget.left, budget.projected) == (1.0, False)
    old = lived(1, bad=5)
    old.advance(START + 60 * DAY)
    assert (error_budget(old, ALLOWED).left, error_budget(old, ALLOWED).projected) == (1.0, False)


def test_a_minute_is_not_taken_for_a_month() -> None:
    """Eight failures of ten in the first twenty seconds used to read -799."""
    windows = Windows(START)
    windows.good, windows.bad = 2, 8
    windows.advance(START)
    windows.advance(START + 20)
    budget = error_budget(windows, ALLOWED)
    assert (budget.spent, budget.left, budget.projected, budget.bad) == (None, None, False, 8)


@pytest.mark.parametrize("days", [1, 2, 7, 14])
def test_the_traffic_seen_is_carried_on_to_the_end_of_the_window(days: int) -> None:
    budget = error_budget(lived(days, a_day=24_000, bad=168), ALLOWED)
    assert budget.projected
    assert budget.spent == pytest.approx(168 / (28 * 24_000 * ALLOWED), rel=0.06)


def test_a_full_window_is_what_it_is() -> None:
    windows = lived(30, a_day=24_000)
    windows.bad = 1344
    windows.advance(windows.now)
    budget = error_budget(windows, ALLOWED)
    assert not budget.projected
    assert budget.spent == pytest.approx(2.0, rel=0.01)
    assert budget.left == pytest.approx(-1.0, rel=0.02)


def test_a_night_that_was_idle_is_not_filled_in() -> None:
    """Only what lies ahead is: a service that sleeps half of its days is taken to go on so."""
    windows = Windows(START)
    for _ in range(7):
        for _ in range(12 * 60):
            windows.advance(windows.now + MINUTE)
            windows.good += 10
        windows.advance(windows.now + 12 * HOUR)
    windows.bad += 100
    windows.advance(windows.now)
    assert error_budget(windows, ALLOWED).spent == pytest.approx(100 / (28 * 12 * 60 * 10 * ALLOWED), rel=0.05)


def test_a_budget_is_a_value() -> None:
    assert Budget(0, 0, DAY, inf, None).left is None
