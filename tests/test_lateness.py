"""When this process was late itself, and for how much of that others are excused."""

import pytest

from gateway.lateness import BEAT, LATE, MOST, PERIOD, Lateness

START = 1000.0


def late(*pauses: float, apart: float = 0.0) -> tuple[Lateness, float]:
    """A process that paused for so many seconds each time, awake for `apart` seconds in between, and its time now."""
    lateness, now = Lateness(), START
    lateness.beat(now)
    for pause in pauses:
        awake = now + apart
        while now + BEAT <= awake:
            now += BEAT
            lateness.beat(now)
        now += BEAT + pause
        lateness.beat(now)
    return lateness, now


def test_a_process_that_has_not_begun_yet_is_not_late() -> None:
    assert Lateness().excuse(0.0, START) == 0.0


@pytest.mark.parametrize("pause", [0.0, 0.5, LATE])
def test_short_pauses_excuse_nothing(pause: float) -> None:
    lateness, now = late(*[pause] * 50)
    assert (lateness.times, lateness.excuse(START, now)) == (0, 0.0)


def test_a_pause_is_excused_as_far_as_it_overlaps() -> None:
    lateness, now = late(25.0, apart=5.0)
    assert lateness.times == 1
    assert lateness.excuse(START, now) == pytest.approx(25.0)
    assert lateness.excuse(now - 10.0, now) == pytest.approx(10.0)
    assert lateness.excuse(now, now + 1.0) == 0.0
    assert lateness.overlaps(now - 10.0, now)
    assert not lateness.overlaps(now, now + 1.0)


def test_time_passes_without_what_the_process_missed() -> None:
    lateness, now = late(25.0)
    assert lateness.has_passed(0.05, START, now)
    assert not lateness.has_passed(20.0, START, now)
    for _ in range(205):
        now += BEAT
        lateness.beat(now)
    assert lateness.has_passed(20.0, START, now)


def test_whoever_asks_first_after_a_pause_notices_it() -> None:
    lateness, now = late()
    assert lateness.excuse(START, now + 25.0) == pytest.approx(25.0 - BEAT)
    assert lateness.times == 1
    lateness.beat(now + 25.0)
    assert lateness.times == 1


def test_a_process_that_is_late_all_the_time_excuses_little() -> None:
    lateness, now = late(*[1.5] * 100)
    assert lateness.times == 100
    assert lateness.excuse(START, now) == pytest.approx(MOST * 1.5)
    assert lateness.has_passed(20.0, now - 20.0 - MOST * 1.5, now)


def test_a_process_that_hardly_runs_judges_in_the_end() -> None:
    pauses = 10
    lateness, now = late(*[25.0] * pauses)
    assert lateness.excuse(START, now) == pytest.approx(MOST * 25.0)
    assert now - START - MOST * 25.0 > PERIOD
