"""Readiness, and whether and when to try another backend."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routing import readiness
from gateway.policy.routing.readiness import Readiness, State
from gateway.policy.routing.retry import LONGEST_PAUSE, MAX_RETRIES, RetryBudget, may_retry, pause
from gateway.policy.routing.tokens import TokenEstimate


def test_one_bad_probe_is_forgiven_and_a_second_is_not() -> None:
    ready = readiness.probe_passed(Readiness())
    once = readiness.probe_failed(ready, "503")
    assert (once.state, once.eligible) == (State.READY, True)
    twice = readiness.probe_failed(once, "503")
    assert (twice.state, twice.eligible, twice.reason) == (State.NOT_READY, False, "503")
    assert readiness.probe_passed(twice).state is State.READY


def test_an_engine_that_never_passed_falls_at_once() -> None:
    assert Readiness().eligible
    assert readiness.probe_failed(Readiness(), "refused").state is State.NOT_READY


def test_three_failed_connects_in_a_row_need_no_probe() -> None:
    state = readiness.probe_passed(Readiness())
    for _ in range(2):
        state = readiness.connect_failed(state, "refused")
        assert state.eligible
    assert readiness.connected(state).failed_connects == 0
    assert not readiness.connect_failed(state, "refused").eligible
    assert readiness.connected(Readiness()) == Readiness()


@given(st.booleans(), st.integers(1, 5), st.booleans(), st.floats(-1, 1))
def test_a_retry_needs_hope_silence_time_and_a_try_left(worth: bool, tries: int, begun: bool, left: float) -> None:
    allowed = may_retry(worth=worth, attempts=tries, committed=begun, time_left=left)
    assert allowed == (worth and not begun and left > 0 and tries <= MAX_RETRIES)


@given(st.integers(1, 10), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_are_bounded(retries: int, chance: float) -> None:
    class Fixed(Random):
        def random(self) -> float:
            return chance

    assert 0 <= pause(retries, Fixed()) < min(LONGEST_PAUSE, 0.025 * 2 ** (retries - 1)) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans()), max_size=120))
def test_retries_stay_within_their_budget(rows: list[tuple[float, bool]]) -> None:
    budget, now = RetryBudget(), 1000.0
    requests: list[int] = []
    retries: list[int] = []
    for elapsed, is_retry in rows:
        now += elapsed
        recent = [each for each in requests if each > int(now) - 10]
        spent = [each for each in retries if each > int(now) - 10]
        if is_retry:
            allowed = budget.take(now)
            assert allowed == (len(spent) < max(0.2 * len(recent), 30))
            retries += [int(now)] * allowed
        else:
            budget.request(now)
            requests.append(int(now))
    assert repr(budget).startswith("<RetryBudget ")


def test_an_outage_is_not_multiplied() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.request(5.0)
    assert sum(budget.take(5.0) for _ in range(1000)) == 200
    assert budget.refused == 800
    assert budget.take(16.0)


def test_prompt_lengths_are_learnt() -> None:
    estimate = TokenEstimate()
    assert estimate.tokens(4000) == 1000
    for _ in range(300):
        estimate.observe(4000, 500)
    assert estimate.tokens(4000) == pytest.approx(500, rel=0.02)
    estimate.observe(0, 5)
    estimate.observe(5, 0)
    assert estimate.tokens(0) == 1


def test_how_far_off_estimates_are_is_known_and_how_long_answers_are() -> None:
    estimate = TokenEstimate()
    assert estimate.error is None
    estimate.observe(4000, 500)
    assert estimate.error == pytest.approx(1.0)
    for _ in range(500):
        estimate.observe(4000, 500)
        estimate.answered(40)
    assert estimate.error == pytest.approx(0.0, abs=0.02)
    assert estimate.output == pytest.approx(40, abs=1)
