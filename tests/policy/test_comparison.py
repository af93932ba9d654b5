"""The comparison of two versions: what it says equals its definition, and equals are hardly ever told apart."""

from itertools import product
from math import exp, isclose, log
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.canary.comparison import PRIOR_BAD, TIMES_WORSE, Comparison
from gateway.policy.canary.evidence import ALPHA, AVAILABILITY, FIRST, Evidence, guard, upper_difference

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200)


def bernoulli(share: float, bad: bool) -> float:
    return share if bad else 1 - share


def defined(stream: list[tuple[bool, bool]], budget: float) -> float:
    """The e-value by its definition: block by block, likelihood by likelihood."""
    past: list[tuple[bool, bool]] = []
    block: list[tuple[bool, bool]] = []
    products = [1.0] * (1 + len(TIMES_WORSE))

    def learnt(candidate: bool) -> float:
        mine = [bad for side, bad in past if side is candidate]
        share = (sum(mine) + PRIOR_BAD) / (len(mine) + PRIOR_BAD / budget)
        return min(0.95, max(1e-6, share))

    for outcome in stream:
        block.append(outcome)
        if len({side for side, _ in block}) < 2:
            continue
        a = learnt(candidate=False)
        candidates = sum(side for side, _ in block)
        for place, b in enumerate((max(a, learnt(candidate=True)), *(min(0.95, a * times) for times in TIMES_WORSE))):
            c = (a * (len(block) - candidates) + b * candidates) / len(block)
            for side, bad in block:
                products[place] *= bernoulli(b if side else a, bad) / bernoulli(c, bad)
        past, block = past + block, []
    return sum(products) / len(products)


@given(outcomes, st.sampled_from([0.001, 0.01, 0.1]))
def test_the_e_value_equals_its_definition(stream: list[tuple[bool, bool]], budget: float) -> None:
    comparison = Comparison(budget)
    for candidate, bad in stream:
        comparison.add(candidate=candidate, bad=bad)
    assert isclose(exp(comparison.log_e), defined(stream, budget), rel_tol=1e-6)


@given(outcomes, st.sampled_from([0.001, 0.01, 0.1]))
def test_what_is_kept_over_a_restart_goes_on_as_before(stream: list[tuple[bool, bool]], budget: float) -> None:
    comparison = Comparison(budget)
    for candidate, bad in stream:
        comparison.add(candidate=candidate, bad=bad)
    restored = Comparison(budget)
    restored.restore(comparison.state())
    assert restored.log_e == comparison.log_e
    assert (restored.stable, restored.candidate) == (comparison.stable, comparison.candidate)
    for side in (False, True):
        bads = [bad for candidate, bad in stream if candidate is side]
        assert comparison.seen(candidate=side) == (len(bads) - sum(bads), sum(bads))


@pytest.mark.parametrize("state", [{}, {"logs": [0.0], "stable": [0, 0], "candidate": [0, 0]}])
def test_what_was_never_kept_is_not_taken_back(state: dict[str, list[float]]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Comparison(0.01).restore(state)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.001, 0.999),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_one_more_block_of_equals_is_worth_nothing_on_average(
    share: float, past: list[tuple[int, bool]], stable: int, candidate: int
) -> None:
    """The expectation of the next block's factor is at most 1 whatever was seen and however often both fail."""
    total = 0.0
    sides = [False] * stable + [True] * candidate
    before = fed(past).log_e
    for bads in product((False, True), repeat=len(sides)):
        comparison = fed(past)
        comparison._open_stable = [0, 0]
        comparison._open_candidate = [0, 0]
        for side, bad in list(zip(sides, bads, strict=True))[:stable]:
            comparison.add(candidate=side, bad=bad)
        block = comparison._open_candidate
        for bad in bads[stable:]:
            block[bad] += 1
        comparison._close()
        total += exp(comparison.log_e - before) * share ** sum(bads) * (1 - share) ** (len(bads) - sum(bads))
    assert total <= 1 + 1e-9


def fed(past: list[tuple[int, bool]]) -> Comparison:
    comparison = Comparison(0.01)
    for side, bad in past:
        comparison.add(candidate=side == 1, bad=bad)
    return comparison


def test_equals_are_hardly_ever_told_apart_however_long_one_looks() -> None:
    rng, alarms = Random(7), 0
    for _ in range(300):
        comparison = Comparison(0.01)
        for _ in range(2000):
            comparison.add(candidate=rng.random() < 0.2, bad=rng.random() < 0.03)
            if comparison.log_e >= -log(0.05):
                alarms += 1
                break
    assert alarms <= 0.05 * 300


def feed(evidence: Evidence, rng: Random, requests: int, *, stable: float, candidate: float) -> int:
    """Feed until the candidate is found out; return how many of its requests that took."""
    for _ in range(requests):
        is_candidate = rng.random() < 0.1
        bad = rng.random() < (candidate if is_candidate else stable)
        evidence.add({AVAILABILITY: not bad, **({} if bad else {"ttft": True})}, candidate=is_candidate)
        if evidence.is_worse:
            return evidence.answered
    return 0


def test_a_candidate_that_fails_five_times_as_often_is_found_out() -> None:
    evidence = Evidence({AVAILABILITY: 0.001, "ttft": 0.01}, 0)
    assert 0 < feed(evidence, Random(1), 40_000, stable=0.01, candidate=0.05) < 1000
    assert "availability is worse than stable's: e-value" in evidence.is_worse
    assert evidence.worst == AVAILABILITY


def test_a_candidate_that_fails_from_the_first_is_out_after_five() -> None:
    evidence = Evidence({AVAILABILITY: 0.001}, 20)
    for _ in range(FIRST):
        assert not evidence.is_worse
        evidence.add({AVAILABILITY: False}, candidate=True)
    assert evidence.is_worse == "its first 5 requests all failed"


def test_one_good_request_before_the_failures_asks_for_more_evidence() -> None:
    evidence = Evidence({AVAILABILITY: 0.001}, 0)
    evidence.add({AVAILABILITY: True}, candidate=True)
    for _ in range(FIRST):
        evidence.add({AVAILABILITY: False}, candidate=True)
    assert not evidence.is_worse, "there is no stable request to compare with"
    for _ in range(2 * FIRST):
        evidence.add({AVAILABILITY: True}, candidate=False)
        evidence.add({AVAILABILITY: False}, candidate=True)
    assert evidence.is_worse


def test_latencies_of_the_first_answers_do_not_count_but_their_failures_do() -> None:
    evidence = Evidence({AVAILABILITY: 0.001, "ttft": 0.01}, 3)
    for _ in range(5):
        evidence.add({AVAILABILITY: True, "ttft": False}, candidate=True)
        evidence.add({"itl": False}, candidate=True)
    evidence.add({AVAILABILITY: True, "ttft": True}, candidate=False)
    assert evidence.comparisons["ttft"].candidate == [0, 2]
    assert evidence.comparisons[AVAILABILITY].candidate == [5, 0]
    assert evidence.requests == 5
    evidence.begin_step()
    assert (evidence.requests, evidence.answered, evidence.bounds()) == (0, 5, {})


def test_evidence_survives_a_restart() -> None:
    evidence, restored = (Evidence({AVAILABILITY: 0.001, "ttft": 0.01}, 2) for _ in range(2))
    feed(evidence, Random(3), 500, stable=0.01, candidate=0.02)
    restored.restore(evidence.state())
    assert restored.state() == evidence.state()
    assert (restored.log_e, restored.bounds()) == (evidence.log_e, evidence.bounds())
    fewer = Evidence({AVAILABILITY: 0.001, "tpot": 0.01}, 2)
    fewer.restore(evidence.state())
    assert fewer.answered == evidence.answered


def test_without_a_promise_of_availability_the_others_weigh_all() -> None:
    evidence = Evidence({"ttft": 0.01, "tpot": 0.01}, 0)
    assert exp(evidence.log_e) == pytest.approx(1.0)


def test_the_difference_is_bounded_more_tightly_by_more_requests() -> None:
    few, many = upper_difference([198, 2], [198, 2]), upper_difference([19_800, 200], [19_800, 200])
    assert 0 < many < 0.005 < few < 0.05
    assert upper_difference([100, 0], [50, 50]) > 0.5
    assert upper_difference([50, 50], [100, 0]) < 0


@pytest.mark.parametrize(
    ("candidate", "stable", "says"),
    [
        (([0, 19], [0, 19]), [100, 0], ""),  # too few
        (([80, 20], [10, 0]), [1000, 0], ""),  # it is over
        (([80, 20], [0, 0]), [1000, 0], ""),
        (([80, 20], [8, 2]), [800, 200], ""),  # stable is as bad
        (([0, 20], [0, 20]), [0, 200], ""),
        (([80, 20], [8, 2]), [700, 300], ""),
        (([98, 2], [8, 2]), [1000, 1], ""),  # may be chance
        (([80, 20], [8, 2]), [1000, 1], "availability burns at 200.0 over 5 m and 200.0 over 1 m (limit 14.4)"),
        (([0, 20], [0, 20]), [0, 0], "availability burns at 1000.0"),
    ],
)
def test_the_guard_needs_a_burn_that_is_no_chance(
    candidate: tuple[list[int], list[int]], stable: list[int], says: str
) -> None:
    found = guard(AVAILABILITY, candidate, stable, budget=0.001, factor=14.4)
    assert found.startswith(says)
    assert bool(found) == bool(says)


def test_words_name_alpha() -> None:
    assert ALPHA == 0.01
    assert repr(Evidence({"ttft": 0.01}, 0)) == "<Evidence of 0 requests, e 1>"
    assert repr(Comparison(0.01)) == "<Comparison e 1 candidate [0, 0] stable [0, 0]>"
