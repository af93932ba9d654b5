"""What the book says of a backend and of a pool, where requests of several objectives run there."""

import pytest

from gateway.control.judging import pool_burns, signal
from gateway.policy.slo.objective import Sli, Target
from gateway.policy.slo.series import SeriesKey
from gateway.policy.slo.windows import Windows
from gateway.telemetry.slo import Kind, Tracked


def series(objective: str, target: float, good: int, bad: int, sli: Sli = Sli.AVAILABILITY) -> Tracked:
    windows = Windows(0.0)
    windows.good, windows.bad = good, bad
    windows.advance(0.25)
    return Tracked(SeriesKey(Kind.BACKEND, "p/e:1", objective, sli), Target(target, 1.0), windows)


def test_a_backend_is_as_bad_as_its_worst_series_each_held_to_its_own_target() -> None:
    calm, burning = series("offline", 0.99, 99, 1), series("interactive", 0.999, 80, 20)
    said = signal([calm, burning], gone=False)
    assert said.burn == pytest.approx(signal([burning], gone=False).burn)
    assert "20 of 100 bad" in said.failing


def test_failures_that_are_too_few_under_each_objective_say_enough_together() -> None:
    few = [series(name, target, 3, 3) for name, target in (("a", 0.999), ("b", 0.99), ("c", 0.999), ("d", 0.999))]
    assert not signal(few[:1], gone=False).failing
    assert "12 of 24 bad in 1 m" in signal(few, gone=False).failing


def test_patient_requests_that_are_late_for_nobody_do_not_hide_or_make_a_slow_backend() -> None:
    patient = series("offline", 0.95, 500, 0, Sli.E2E)
    slow = series("interactive", 0.99, 0, 50, Sli.TTFT)
    assert "50 of 50 bad" in signal([patient, slow], gone=False).slow
    assert signal([patient], gone=False).slow == ""
    assert signal([], gone=True).burn == 1.0


def test_a_pool_burns_by_objective_and_says_nothing_of_one_with_too_few_events() -> None:
    burns = pool_burns(
        [
            series("offline", 0.99, 100, 0),
            series("interactive", 0.999, 80, 20),
            series("interactive", 0.99, 100, 0, Sli.TTFT),
            series("new", 0.999, 0, 9),
        ]
    )
    assert set(burns) == {"offline", "interactive"}
    assert burns["interactive"] == pytest.approx(20.5 / 0.6)  # with the prior, the worst of its SLIs
    assert burns["offline"] < 1
