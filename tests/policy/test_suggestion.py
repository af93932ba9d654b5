"""Objectives are proposed from enough data only, above what was observed, and never tighter for longer prompts."""

import pytest

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.observed import ALL, BOUNDS, EVERY, GENERATION, STEPS, TTFT, Observed, step_of
from gateway.policy.slo.suggestion import (
    Suggestion,
    TooFew,
    above,
    availability,
    fewest,
    latency,
    quantile,
    rounded_up,
)


def observed(*series: tuple[int, float, int]) -> list[list[int]]:
    """Counts of (prompt tokens, seconds, how many)."""
    found = Observed(0.0)
    for tokens, seconds, many in series:
        for _ in range(many):
            found.add(TTFT, step_of(tokens), seconds)
    return found.counts("ttft")


def proposed(counts: list[list[int]], *, by_length: bool = True, headroom: float = 0.25) -> Suggestion:
    found = latency("ttft", counts, 0.99, headroom, by_length=by_length)
    assert isinstance(found, Suggestion)
    return found


def test_below_five_expected_misses_nothing_is_proposed() -> None:
    assert (fewest(0.99), fewest(0.95)) == (500, 100)
    assert latency("ttft", observed((10, 0.1, 499)), 0.99, 0.25, by_length=True) == TooFew("ttft", 499, 500)
    assert proposed(observed((10, 0.1, 500))).counts == Counts(500, 0)


def test_a_threshold_lies_above_what_was_observed_with_headroom() -> None:
    found = proposed(observed((10, 0.1, 990), (10, 0.3, 6), (10, 3.0, 4)))
    (step,) = found.steps
    assert (step.prompt_tokens, step.events) == (0, 1000)
    assert 0.1 <= step.quantile <= 0.12, "as exact as a bucket"
    assert step.quantile * 1.25 <= step.under <= 0.15
    assert found.counts == Counts(990, 10)
    assert found.burn == pytest.approx(1.0)
    assert proposed(observed((10, 0.1, 1000))).burn == 0.0


def test_longer_prompts_have_thresholds_of_their_own_where_there_are_enough_of_them() -> None:
    found = proposed(observed((10, 0.1, 600), (2000, 0.5, 600), (20_000, 4.0, 600)))
    assert [step.prompt_tokens for step in found.steps] == [0, 1024, 16_384]
    unders = [step.under for step in found.steps]
    assert unders == sorted(unders)
    assert proposed(observed((10, 0.1, 600), (2000, 0.5, 600)), by_length=False).steps[0].events == 1200


@pytest.mark.parametrize(("tokens", "step"), [(0, 0), (255, 0), (256, 1), (65_535, 4), (65_536, 5), (1_000_000, 5)])
def test_a_prompt_is_of_the_longest_class_that_begins_with_no_more_tokens(tokens: int, step: int) -> None:
    assert step_of(tokens) == step


def test_a_few_long_prompts_are_put_together_with_shorter_ones_and_held_to_what_both_took() -> None:
    (step,) = proposed(observed((10, 0.1, 500), (20_000, 4.0, 50))).steps
    assert step.under > 4.0
    assert step.events == 550


def test_few_short_prompts_are_put_together_with_longer_ones() -> None:
    steps = proposed(observed((10, 0.1, 50), (2000, 0.5, 600), (20_000, 4.0, 600))).steps
    assert [(step.prompt_tokens, step.events) for step in steps] == [(0, 650), (16_384, 600)]


def test_a_threshold_is_never_lower_for_longer_prompts_and_equal_ones_are_one() -> None:
    (step,) = proposed(observed((10, 1.0, 600), (2000, 0.1, 600))).steps
    assert (step.prompt_tokens, step.events) == (0, 1200)


def test_thresholds_that_are_about_the_same_are_one() -> None:
    (step,) = proposed(observed((10, 1.0, 600), (2000, 1.1, 600))).steps
    assert (step.prompt_tokens, step.events) == (0, 1200)
    assert step.under >= 1.1 * 1.25


def test_what_takes_longer_than_ten_minutes_counts_as_late_whatever_the_threshold() -> None:
    found = proposed(observed((10, 0.1, 100), (10, 5000.0, 900)))
    assert found.steps[0].quantile == BOUNDS[-1]
    assert found.counts == Counts(100, 900)


@pytest.mark.parametrize(
    ("counts", "target"),
    [(Counts(100_000, 0), 0.9999), (Counts(99_990, 10), 0.9995), (Counts(10_000, 0), 0.9995), (Counts(970, 30), 0.95)],
)
def test_availability_is_the_strictest_that_leaves_headroom(counts: Counts, target: float) -> None:
    found = availability("availability", counts, 0.25)
    assert isinstance(found, Suggestion)
    assert (found.target, found.steps) == (target, ())


def test_availability_without_data_or_below_every_target_is_not_proposed() -> None:
    assert availability("availability", Counts(99, 0), 0.25) == TooFew("availability", 99, 100)
    assert availability("availability", Counts(90, 10), 0.25) == TooFew("availability", 100, 0)


def test_quantiles_and_what_lies_above_them_are_interpolated() -> None:
    (counts,) = [each for each in observed((10, 0.0005, 100)) if any(each)]
    assert quantile(counts, 0.5) == pytest.approx(0.0005)
    assert above(counts, 0.0005) == 50
    assert above(counts, 0.001) == 0


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.00001, 0.001), (0.0614, 0.062), (0.61, 0.61), (1.234, 1.3), (62.0, 62.0), (123.0, 130.0)],
)
def test_thresholds_have_two_digits(seconds: float, written: float) -> None:
    assert rounded_up(seconds) == written


def test_what_was_observed_is_forgotten_after_two_generations() -> None:
    found = Observed(0.0)
    found.add(TTFT, 0, 0.1)
    found.turn(GENERATION - 1)
    assert found.began == 0.0
    found.turn(GENERATION)
    found.add(TTFT, 0, 0.1)
    assert (found.began, sum(found.counts("ttft")[0])) == (0.0, 2)
    found.turn(2 * GENERATION + DAY)
    assert (found.began, sum(found.counts("ttft")[0])) == (GENERATION, 1)
    assert found.counts("e2e") == [[0] * (len(BOUNDS) + 1)] * (len(STEPS) + 1)
    assert repr(found) == "<Observed 0 series>"


def test_of_many_requests_one_in_eight_is_counted_as_eight() -> None:
    found = Observed(0.0)
    weights = [found.weight() for _ in range(ALL + 8 * EVERY)]
    assert weights[:ALL] == [1] * ALL
    assert sorted(set(weights[ALL:])) == [0, EVERY]
    assert sum(weights) == len(weights)
    found.turn(GENERATION)
    assert found.weight() == 1
