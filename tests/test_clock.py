"""When what is done at intervals is done next."""

from random import Random

import pytest

from gateway.clock import until_next


@pytest.mark.parametrize("interval", [0.01, 1.0, 4.0])
def test_what_is_done_every_interval_is_done_at_its_own_moment(interval: float) -> None:
    rng, own = Random(1), 0.375
    now = 1000.0
    for _ in range(20):
        pause = until_next(now, interval, own)
        assert interval / 2 - 1e-9 <= pause < 1.5 * interval + 1e-9
        now += pause
        assert abs((now - own) / interval - round((now - own) / interval)) < 1e-6
        now += rng.uniform(0, interval / 3)  # what doing it takes


def test_what_takes_long_is_done_again_half_an_interval_later_at_the_earliest() -> None:
    assert until_next(10.4, 1.0, 0.5) == pytest.approx(1.1)
    assert until_next(10.0, 1.0, 0.5) == pytest.approx(0.5)
