"""A backend's model of TTFT: finds the truth in clean data, follows a change, leans on its pool, is never negative."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.routing.fit import FLOOR, Fit

floats = st.floats(0, 1e6)


def fed(fit: Fit, rng: Random, truth: tuple[float, float, float], count: int, *, noise: float = 0.0) -> None:
    """Give it samples of a linear truth."""
    for number in range(count):
        tokens, in_flight = rng.uniform(10, 8000), rng.randrange(40)
        seconds = truth[0] + truth[1] * tokens + truth[2] * in_flight
        seconds *= 1 + noise * rng.uniform(-1, 1)
        predicted = fit.predict(tokens, in_flight)
        fit.judge(predicted, seconds)
        fit.observe(tokens, in_flight, seconds, predicted)
        if number % 10 == 9:
            fit.refit(0.25)


def test_it_finds_base_rate_and_load() -> None:
    fit = Fit(30.0)
    fed(fit, Random(1), (0.02, 0.0001, 0.0005), 300)
    assert fit.coefficients == pytest.approx((0.02, 0.0001, 0.0005), rel=0.02)
    fed(fit, Random(2), (0.02, 0.0001, 0.0005), 101)
    assert fit.error is not None
    assert fit.error < 0.01
    assert "samples" in repr(fit)


def test_it_knows_up_to_how_many_tokens_samples_lie() -> None:
    fit = Fit(30.0)
    assert fit.reach == 0.0
    fed(fit, Random(1), (0.02, 0.0001, 0.0005), 300)
    assert 6000 < fit.reach < 16_000, "samples have 10 to 8,000"


def test_noise_is_averaged_and_the_error_says_how_much_there_is() -> None:
    fit = Fit(30.0)
    fed(fit, Random(3), (0.02, 0.0001, 0.0005), 600, noise=0.3)
    assert fit.predict(4000, 10) == pytest.approx(0.425, rel=0.1)
    assert fit.error == pytest.approx(0.15, abs=0.06)


def test_it_follows_an_engine_that_became_five_times_slower() -> None:
    fit, rng = Fit(5.0), Random(4)
    fed(fit, rng, (0.02, 0.0001, 0.0), 200)
    for _ in range(200):
        fed(fit, rng, (0.1, 0.0005, 0.0), 10)
    assert fit.predict(2000, 0) == pytest.approx(1.1, rel=0.1)


def test_without_samples_it_predicts_what_its_pool_does_and_comes_back_to_that() -> None:
    pool, own, rng = Fit(30.0), Fit(5.0), Random(5)
    fed(pool, rng, (0.02, 0.0001, 0.0), 200)
    own.refit(0.25, lean_on=pool)
    assert own.predict(1000, 0) == pytest.approx(pool.predict(1000, 0), rel=0.02)
    fed(own, rng, (0.1, 0.0005, 0.0), 60)
    own.refit(0.25, lean_on=pool)
    assert own.predict(1000, 0) > 3 * pool.predict(1000, 0)
    for _ in range(120):
        own.refit(0.5, lean_on=pool)
    assert own.predict(1000, 0) == pytest.approx(pool.predict(1000, 0), rel=0.1)


def test_what_it_has_learnt_can_be_forgotten() -> None:
    fit = Fit(30.0)
    assert fit.error is None
    fed(fit, Random(6), (1.0, 0.0, 0.0), 50)
    fit.forget()
    assert fit.samples == 0
    before = fit.coefficients
    fit.refit(1.0)
    assert fit.coefficients == before


samples = st.lists(st.tuples(floats, st.floats(0, 1000), st.floats(0, 600)), max_size=30)


@given(samples, st.floats(0, 100), floats, st.floats(0, 1000))
@settings(max_examples=200)
def test_whatever_it_is_told_predictions_are_finite_and_above_zero(
    rows: list[tuple[float, float, float]], elapsed: float, tokens: float, in_flight: float
) -> None:
    fit, pool = Fit(5.0), Fit(30.0)
    for row_tokens, row_in_flight, seconds in rows:
        for each in (fit, pool):
            each.observe(row_tokens, row_in_flight, max(seconds, FLOOR), each.predict(row_tokens, row_in_flight))
        fit.refit(elapsed, lean_on=pool)
    pool.refit(elapsed)
    for each in (fit, pool):
        assert FLOOR <= each.predict(tokens, in_flight) < float("inf")
        assert all(coefficient >= 0 for coefficient in each.coefficients)
