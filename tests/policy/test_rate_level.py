"""The rate of late: chance hardly moves it, a change does."""

from random import Random

import pytest

from gateway.policy.capacity.rate_level import LASTING, RateLevel


def test_chance_hardly_moves_it() -> None:
    random, level = Random(1), RateLevel(4.0, 0.0)
    seen = [level.observe(random.gauss(4.0, 0.3), float(second)) for second in range(1, 600)]
    assert min(seen) > 3.8
    assert max(seen) < 4.2


@pytest.mark.parametrize("rate", [0.0, 2.0, 40.0])
def test_a_change_that_lasts_is_taken_at_once(rate: float) -> None:
    level = RateLevel(8.0, 0.0)
    for second in range(1, int(LASTING) + 1):
        assert level.observe(rate, float(second)) != rate
    assert level.observe(rate, LASTING + 1.0) == rate
    assert repr(level) == f"<RateLevel {rate:.2f}/s>"


def test_what_lies_a_little_off_is_followed_slowly() -> None:
    level = RateLevel(10.0, 0.0)
    assert 10.9 < level.observe(12.0, 120.0) < 11.1
    assert level.observe(12.0, 119.0) < 11.1, "a clock that goes back changes nothing"


def test_few_requests_say_little() -> None:
    level = RateLevel(0.2, 0.0)
    for second in range(1, 20):
        assert level.observe(0.4, float(second)) < 0.25
