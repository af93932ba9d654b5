"""Intervals over seeds, and comparisons seed by seed."""

from dataclasses import replace
from itertools import product
from random import Random

import pytest

from loadtest.scenarios.intervals import FEWER, LIKE, MORE, Comparison, Interval, Rate, best
from loadtest.scenarios.runs import Run

RUN = Run("brown-out", "Tidegate", 1, 1000, 0, 0, 0, 0, 0, 0, 250.0, 0.1, 0.4, 0.02, 3.0, 11.0)


def runs(*missed: int) -> list[Run]:
    return [replace(RUN, seed=seed, missed=count) for seed, count in enumerate(missed, start=1)]


class TestInterval:
    def test_is_students(self) -> None:
        found = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])
        assert (found.mean, found.low, found.high) == (
            3.0,
            pytest.approx(1.037, abs=0.001),
            pytest.approx(4.963, abs=0.001),
        )

    def test_one_seed_says_nothing_of_the_others(self) -> None:
        assert Interval.of([1.0]) == Interval(1.0, None, None)

    @pytest.mark.parametrize("seeds", [3, 5, 20])
    def test_holds_the_truth_in_95_of_100(self, seeds: int) -> None:
        rng = Random(seeds)
        found = [Interval.of([rng.gauss(1.0, 2.0) for _ in range(seeds)]) for _ in range(2000)]
        assert 0.93 < sum((each.low or 0.0) <= 1.0 <= (each.high or 0.0) for each in found) / 2000 < 0.97


class TestRate:
    def test_where_none_was_missed_the_rule_of_three_bounds_it(self) -> None:
        assert Rate.of(runs(0, 0, 0)).told() == "0 of 3,000 (below 0.10 %)"

    def test_is_never_below_zero(self) -> None:
        assert Rate.of(runs(0, 0, 9)).told() == "0.30 % (0.00 to 1.59)"

    def test_of_one_seed_has_no_interval(self) -> None:
        assert Rate.of(runs(9)).told() == "0.90 %"


class TestComparison:
    def test_is_made_seed_by_seed(self) -> None:
        found = Comparison.of("a", runs(10, 100, 300), runs(14, 104, 305))
        assert found.verdict == FEWER
        assert Comparison.of("a", runs(14, 104, 305), runs(10, 100, 300)).verdict == MORE
        assert Comparison.of("a", runs(10, 100, 300), runs(305, 14, 104)).verdict == LIKE

    def test_of_seeds_that_only_one_has_played_nothing_is_taken(self) -> None:
        found = Comparison.of("a", runs(10, 10, 10, 500), runs(50, 50, 50))
        assert (found.ours.missed, found.theirs.missed) == (30, 150)

    def test_tells_how_many_times_fewer_with_an_interval(self) -> None:
        found = Comparison.of("a", runs(10, 12, 11, 9, 10), runs(50, 55, 52, 50, 53))
        assert found.told() == "1.04 % (0.90 to 1.18) missed, 5.20 % (4.94 to 5.46) behind a: 4.8x fewer (4.4 to 5.3)"

    def test_where_we_missed_none_there_is_a_lower_end_alone(self) -> None:
        found = Comparison.of("a", runs(0, 0, 0), runs(30, 30, 30))
        assert found.told() == "0 of 3,000 (below 0.10 %) missed, 3.00 % (3.00 to 3.00) behind a: at least 30.0x fewer"
        assert found.reaches(5)

    def test_where_neither_missed_any_there_is_nothing_to_gain(self) -> None:
        found = Comparison.of("a", runs(0, 0, 0), runs(0, 0, 0))
        assert found.told() == "neither Tidegate nor a missed any of 3,000"
        assert found.reaches(5)

    def test_a_difference_that_may_be_chance_says_so(self) -> None:
        found = Comparison.of("a", runs(10, 2, 6), runs(8, 5, 9))
        assert found.told().endswith("; no difference shown")
        assert found.reaches(1)
        assert not found.reaches(5)

    def test_two_seeds_decide_nothing(self) -> None:
        assert Comparison.of("a", runs(10, 10), runs(50, 50)).verdict == LIKE

    def test_some_where_another_has_none_is_never_enough(self) -> None:
        assert not Comparison.of("a", runs(5, 5, 5), runs(0, 0, 0)).reaches(1)


def test_the_best_other_is_the_one_that_missed_least() -> None:
    assert best(runs(9, 10, 11), {"a": runs(50, 50, 50), "b": runs(20, 30, 10)}).against == "b"


def test_few_seeds_alike_are_seldom_told_apart() -> None:
    rng = Random(7)
    draws = [
        [
            rng.binomialvariate(1000, 0.02) if hasattr(rng, "binomialvariate") else round(rng.gauss(20, 4.4))
            for _ in range(5)
        ]
        for _ in range(40)
    ]
    told = [Comparison.of("a", runs(*one), runs(*two)).verdict for one, two in product(draws, draws) if one is not two]
    assert told.count(LIKE) > 0.9 * len(told)
