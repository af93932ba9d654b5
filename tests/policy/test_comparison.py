"""The comparison of two versions: what it says equals its definition, and equals are hardly ever told apart."""

from itertools import product
from math import exp, isclose, log
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.canary.comparison import PRIOR_BAD, TIMES_WORSE, Comparison

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
        comparison.add(not bad, bad, candidate=candidate)
    assert isclose(exp(comparison.log_e), defined(stream, budget), rel_tol=1e-6)


@given(outcomes, st.sampled_from([0.001, 0.01, 0.1]))
def test_what_is_kept_over_a_restart_goes_on_as_before(stream: list[tuple[bool, bool]], budget: float) -> None:
    comparison = Comparison(budget)
    for candidate, bad in stream:
        comparison.add(not bad, bad, candidate=candidate)
    restored = Comparison(budget)
    restored.restore(comparison.state())
    assert restored.log_e == comparison.log_e
    assert restored.state() == comparison.state()
    for side in (False, True):
        bads = [bad for candidate, bad in stream if candidate is side]
        assert comparison.seen(candidate=side) == (len(bads) - sum(bads), sum(bads))


def test_what_an_older_version_kept_is_one_class() -> None:
    old = {"logs": [0.1, 0.2, 0.3, 0.4], "stable": [90, 1], "candidate": [9, 2]}
    comparison = Comparison(0.01)
    comparison.restore(old)
    assert (comparison.seen(candidate=False), comparison.seen(candidate=True)) == ((90, 1), (9, 2))
    assert 0.1 < comparison.log_e < 0.4


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
        comparison._open[0] = [0, 0, 0, 0]  # noqa: SLF001 - one bucket as it was
        ours, theirs = bads[:stable], bads[stable:]
        comparison.add(len(ours) - sum(ours), sum(ours), candidate=False)
        comparison.add(len(theirs) - sum(theirs), sum(theirs), candidate=True)
        total += exp(comparison.log_e - before) * share ** sum(bads) * (1 - share) ** (len(bads) - sum(bads))
    assert total <= 1 + 1e-9


def fed(past: list[tuple[int, bool]]) -> Comparison:
    comparison = Comparison(0.01)
    for side, bad in past:
        comparison.add(not bad, bad, candidate=side == 1)
    return comparison


@pytest.mark.no_cover
def test_equals_are_hardly_ever_told_apart_however_long_one_looks() -> None:
    rng, alarms = Random(7), 0
    for _ in range(300):
        comparison = Comparison(0.01)
        for _ in range(2000):
            bad = rng.random() < 0.03
            comparison.add(not bad, bad, candidate=rng.random() < 0.2)
            if comparison.log_e >= -log(0.05):
                alarms += 1
                break
    assert alarms <= 0.05 * 300


def test_a_version_that_happens_to_get_the_long_prompts_is_not_taken_for_a_worse_one() -> None:
    """Long prompts miss ten times as often, and the candidate gets most of them."""
    rng, pooled, by_class = Random(5), Comparison(0.01), Comparison(0.01)
    for _ in range(6000):
        candidate = rng.random() < 0.5
        long = rng.random() < (0.8 if candidate else 0.2)
        bad = rng.random() < (0.1 if long else 0.01)
        pooled.add(not bad, bad, candidate=candidate)
        by_class.add(not bad, bad, candidate=candidate, input_class=int(long))
    assert pooled.log_e > log(100)
    assert by_class.log_e < log(10)
    assert by_class.difference < pooled.difference / 3


def test_a_block_ends_by_what_arrives() -> None:
    comparison = Comparison(0.01)
    assert not comparison.is_open(0)
    comparison.add(3, 1, candidate=False)
    assert comparison.is_open(0)
    assert not comparison.is_open(1)
    comparison.add(0, 1, candidate=True)
    assert not comparison.is_open(0)
    assert repr(comparison).endswith("candidate (0, 1) stable (3, 1)>")


def test_the_loudest_outcome_is_known() -> None:
    comparison = Comparison(0.001)
    for _ in range(20):
        comparison.add(100, 0, candidate=False)
        comparison.add(1, 0, candidate=True)
    assert comparison.log_e_without_loudest == comparison.log_e
    comparison.add(100, 0, candidate=False)
    comparison.add(0, 1, candidate=True)
    assert comparison.log_e > comparison.log_e_without_loudest
