"""Two of many are drawn before any is looked at: beside the obvious way, which looks at all and draws of those left."""

from collections import Counter
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.claim import Claim
from gateway.policy.routing.choose import TIE, choose
from gateway.policy.routing.ejection import EjectionState, State
from gateway.policy.routing.pick import FEW
from tests.policy.test_choose import Engine, pool

NOW = 5.0
CLAIM = Claim(10)


def able(engines: list[Engine]) -> list[Engine]:
    """Return those that could get the request: where one is half-open and waits for it, that one alone."""
    (panic,) = {engine.health.peers.panic for engine in engines}
    out = {State.EJECTED, State.HALF_OPEN} if not panic else set()
    open_ = [e for e in engines if e.health.backoff.hold_until <= NOW]
    waiting = [e for e in open_ if e.health.outlier.ejection.state is State.HALF_OPEN and not panic]
    if waiting:
        return waiting[:1]
    open_ = [e for e in open_ if e.health.outlier.ejection.state not in out] or engines
    return [e for e in open_ if e.health.slots.in_flight < e.health.slots.limit]


def obvious(engines: list[Engine], tokens: int, rng: Random) -> Engine | None:
    """Look at all, draw two of those that are left if they are many, and compare."""
    left = able(engines)
    if len(left) > FEW:
        first = int(rng.random() * len(left))
        left = [left[first], left[(first + 1 + int(rng.random() * (len(left) - 1))) % len(left)]]
    if len(left) < 2:
        return left[0] if left else None
    scores = [engine.health.predicted(tokens) / engine.health.outlier.weight for engine in left]
    close = [engine for engine, score in zip(left, scores, strict=True) if score <= min(scores) * TIE]
    least = min(engine.health.slots.in_flight for engine in close)
    tied = [engine for engine in close if engine.health.slots.in_flight == least]
    return tied[int(rng.random() * len(tied))] if len(tied) > 1 else tied[0]


def look(engines: list[Engine]) -> None:
    """Let the pool note what a tick would."""
    engines[0].health.peers.note_half_open()


in_use = st.tuples(st.integers(0, 3), st.sampled_from([0.02, 0.3, 0.95, 1.0]))
FREE = st.tuples(in_use, st.just(9), st.just(State.IN_SERVICE), st.just(0.0))
ANY = st.tuples(
    in_use, st.sampled_from([1, 9]), st.sampled_from([State.IN_SERVICE, *State]), st.sampled_from([0.0, 0.0, 10.0])
)
Row = tuple[tuple[int, float], int, State, float]


def made(rows: list[Row], *, panic: bool = False) -> list[Engine]:
    engines = pool(len(rows))
    for engine, ((in_flight, weight), limit, state, held) in zip(engines, rows, strict=True):
        engine.health.slots.in_flight, engine.health.slots.limit = in_flight, limit
        engine.health.outlier.weight, engine.health.outlier.ejection = weight, EjectionState(state)
        engine.health.backoff.hold_until = held
    engines[0].health.peers.panic = panic
    look(engines)
    return engines


@given(st.lists(FREE, min_size=2, max_size=40), st.integers(1, 5000), st.integers())
def test_where_all_could_take_it_the_same_numbers_give_the_same_winner(rows: list[Row], tokens: int, seed: int) -> None:
    engines = made(rows)
    choice = choose(engines, tokens, NOW, Random(seed), CLAIM)
    assert choice is not None
    assert choice.winner is obvious(engines, tokens, Random(seed))


@given(st.lists(ANY, min_size=2, max_size=FEW), st.booleans(), st.integers())
def test_of_a_few_the_same_numbers_give_the_same_winner_whoever_could_take_it(
    rows: list[Row], panic: bool, seed: int
) -> None:
    engines = made(rows, panic=panic)
    choice = choose(engines, 100, NOW, Random(seed), CLAIM)
    assert (choice.winner if choice is not None else None) is obvious(engines, 100, Random(seed))


@given(st.lists(ANY, min_size=FEW + 1, max_size=40), st.booleans(), st.integers())
def test_of_many_it_goes_to_one_that_could_take_it(rows: list[Row], panic: bool, seed: int) -> None:
    engines = made(rows, panic=panic)
    choice, left = choose(engines, 100, NOW, Random(seed), CLAIM), able(engines)
    assert (choice is None) == (not left)
    if choice is not None:
        names = {engine.health.id for engine in left}
        assert choice.winner in left
        assert {name for name, _, _ in choice.compared} <= names


@pytest.mark.parametrize("others", [0, 22, 37])
def test_every_pair_of_those_that_could_take_it_has_the_same_chance(others: int) -> None:
    engines, rng, rounds = pool(40), Random(11), 40_000
    for place, engine in enumerate(rng.sample(engines, others)):
        if place % 3 == 0:
            engine.health.slots.limit = 0
        elif place % 3 == 1:
            engine.health.backoff.hold_until = 10.0
        else:
            engine.health.outlier.ejection = EjectionState(State.EJECTED)
    look(engines)
    drawn: Counter[tuple[str, ...]] = Counter()
    won: Counter[tuple[str, ...]] = Counter()
    for _ in range(rounds):
        choice = choose(engines, 100, NOW, rng, CLAIM)
        assert choice is not None
        won[choice.winner.health.id,] += 1
        drawn[tuple(name for name, _, _ in choice.compared)] += 1
    left = [engine.health.id for engine in able(engines)]
    if len(left) > FEW:
        assert_even(drawn, list(permutations(left, 2)), rounds)
    assert_even(won, list(permutations(left, 1)), rounds)


def assert_even(found: Counter[tuple[str, ...]], of: list[tuple[str, ...]], rounds: int) -> None:
    """Pearson's chi-square: five standard deviations above its mean is the limit."""
    assert set(found) <= set(of)
    expected = rounds / len(of)
    freedom = len(of) - 1
    chi_square = sum((found[each] - expected) ** 2 / expected for each in of)
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5


def test_of_many_a_half_open_one_gets_the_next_request() -> None:
    engines = pool(256)
    engines[200].health.outlier.ejection = EjectionState(State.HALF_OPEN, until=1e9)
    engines[200].health.peers.note_half_open()
    choice = choose(engines, 100, NOW, Random(1), CLAIM)
    assert choice is not None
    assert (choice.winner, choice.why) == (engines[200], "half-open: this request tests whether it can return")
    choice.winner.health.lease(100)
    for seed in range(50):
        next_choice = choose(engines, 100, NOW, Random(seed), CLAIM)
        assert next_choice is not None
        assert next_choice.why == "lowest score of two drawn from 256", "one request tries it at a time"


def test_where_draws_find_none_all_are_looked_at() -> None:
    engines = pool(256)
    for engine in engines[1:]:
        engine.health.slots.limit = 0
    choice = choose(engines, 100, NOW, Random(1), CLAIM)
    assert choice is not None
    assert str(choice).startswith("lowest score of those with a slot: gpu/0 ")
