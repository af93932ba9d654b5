from math import exp
from random import Random

import pytest

from loadtest.bench.ratios import LEAST_PAIRS, WORSE, compare, lowest_rank


def paired(rng: Random, count: int, ratio: float, noise: float = 0.05) -> tuple[list[float], list[float]]:
    """Values of both sides, each with noise of its own, and a drift that both share."""
    moods = [exp(rng.gauss(0, 0.3)) for _ in range(count)]
    now = [mood * ratio * exp(rng.gauss(0, noise)) for mood in moods]
    return now, [mood * exp(rng.gauss(0, noise)) for mood in moods]


@pytest.mark.parametrize(("count", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6)])
def test_ranks_are_those_of_published_tables(count: int, rank: int) -> None:
    assert lowest_rank(count) == rank


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    rng = Random(1)
    found = [compare(*paired(rng, 10, 1.1)) for _ in range(1000)]
    held = sum(each is not None and each.low <= 1.1 <= each.high for each in found)
    assert held >= 950


def test_the_same_code_is_hardly_ever_called_slower_and_slower_code_is() -> None:
    rng = Random(2)

    def slower(ratio: float) -> int:
        found = [compare(*paired(rng, 10, ratio)) for _ in range(500)]
        return sum(each is not None and each.is_worse for each in found)

    assert slower(1.0) <= 5
    assert slower(WORSE) <= 25, "at the limit itself: one side of 95 %"
    assert slower(1.2) >= 450


def test_one_spoilt_pair_changes_no_verdict() -> None:
    now, then = [100.0] * 10, [100.0] * 10
    now[3] = 900.0
    compared = compare(now, then)
    assert compared is not None
    assert (compared.median, compared.low, compared.high, compared.is_worse) == (1.0, 1.0, 1.0, False)


def test_what_cannot_be_divided_is_not_judged() -> None:
    assert compare([1.0] * (LEAST_PAIRS - 1), [1.0] * (LEAST_PAIRS - 1)) is None
    assert compare([0.0] * 10, [0.0] * 10) is None
    assert compare([1.0] * 10, [-0.1] * 5 + [1.0] * 5) is None
    assert compare([1.0] * 10, [0.0] * 4 + [1.0] * 6) is not None
