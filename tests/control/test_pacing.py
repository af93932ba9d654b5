"""When engines are asked: often enough, and few of them in the same moment."""

from collections import Counter

import pytest

from gateway.control.pacing import LONGEST, stretch, turn


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
