"""When engines are asked: often enough, and few of them in the same moment."""

from collections import Counter
from random import Random

import pytest

from gateway.control.pacing import LONGEST, stretch, turn, until_next


@pytest.mark.parametrize("interval", [0.01, 1.0, 4.0])
def test_each_is_asked_at_its_own_moment_of_every_interval(interval: float) -> None:
    rng, own = Random(1), turn("pool/10.0.0.1:8000", 256)
    now = 1000.0
    for _ in range(20):
        pause = until_next(now, interval, own)
        assert interval / 2 <= pause < 1.5 * interval + 1e-9
        now += pause
        assert abs((now - own) / interval - round((now - own) / interval)) < 1e-6
        now += rng.uniform(0, interval / 3)  # what asking takes


def test_an_engine_that_takes_long_is_asked_again_half_an_interval_later_at_the_earliest() -> None:
    assert until_next(10.4, 1.0, 0.5) == pytest.approx(1.1)
    assert until_next(10.0, 1.0, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("backends", "moments"), [(1, 1), (16, 1), (64, 4), (256, 16), (4096, 64)])
def test_they_are_spread_over_the_second_about_sixteen_at_a_time(backends: int, moments: int) -> None:
    turns = [turn(f"pool/10.{number // 256}.{number % 256}.1:8000", backends) for number in range(backends)]
    assert all(0 <= each < LONGEST for each in turns)
    for interval in (1.0, 2.0, 4.0):
        together = Counter(round(each % interval * moments) % (moments * interval) for each in turns)
        assert len(together) <= moments * interval
        assert max(together.values()) <= max(6, 2.5 * backends / moments / interval)


def test_the_moment_of_an_engine_is_always_the_same() -> None:
    assert turn("m/127.0.0.1:8000", 256) == turn("m/127.0.0.1:8000", 256) != turn("m/127.0.0.1:8001", 256)


@pytest.mark.parametrize(("backends", "seconds"), [(0, 1), (32, 1), (33, 2), (64, 2), (96, 3), (97, 4), (1000, 4)])
def test_with_more_engines_each_is_asked_more_seldom_up_to_a_bound(backends: int, seconds: int) -> None:
    assert stretch(backends) == seconds
