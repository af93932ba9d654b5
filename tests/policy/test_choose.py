"""Filter, score, pick: whom a request goes to, and why."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.claim import Claim, SlotRules
from gateway.exchange import Verdict
from gateway.policy.routing.choose import TIE, Choice, choose, consider
from gateway.policy.routing.ejection import LEAST_WEIGHT, EjectionState, State
from gateway.policy.routing.health import Health
from gateway.policy.routing.pick import FEW, drawn
from gateway.policy.routing.pool_state import PoolState


@dataclass(frozen=True)
class Engine:
    health: Health


class Watched(Random):
    """Remembers what it drew."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drawn: list[float] = []

    def random(self) -> float:
        self.drawn.append(super().random())
        return self.drawn[-1]


def pool(count: int) -> list[Engine]:
    peers = PoolState("gpu", 0.0)
    peers.follow(f"gpu/{number}" for number in range(count))
    return [Engine(health) for health in peers.members.values()]


def chosen(ready: list[Engine], tokens: int, now: float, rng: Random) -> Choice[Engine]:
    """Choose where there is something to choose."""
    choice = choose(ready, tokens, now, rng)
    assert choice is not None
    return choice


states = st.lists(
    st.tuples(st.integers(0, 50), st.floats(LEAST_WEIGHT, 1.0), st.sampled_from(State), st.booleans()),
    min_size=1,
    max_size=9,
)


@given(states, st.integers(1, 10_000), st.integers())
def test_the_winner_is_never_worse_than_what_it_was_compared_with(
    rows: list[tuple[int, float, State, bool]], tokens: int, seed: int
) -> None:
    engines = pool(len(rows))
    for engine, (in_flight, weight, state, held) in zip(engines, rows, strict=True):
        engine.health.slots.in_flight, engine.health.outlier.weight = in_flight, weight
        engine.health.outlier.ejection = EjectionState(state)
        engine.health.backoff.hold_until = 10.0 if held else 0.0
    choice = chosen(engines, tokens, 5.0, Random(seed))
    assert choice.winner in engines
    if any(engine.health.available(5.0) for engine in engines) and len(engines) > 1:
        assert choice.winner.health.available(5.0)
    scores = {name: predicted / weight for name, predicted, weight in choice.compared}
    if scores:
        assert scores[choice.winner.health.id] <= min(scores.values()) * TIE
        assert len(scores) <= FEW
    assert choice.why in str(choice)


@given(st.integers(FEW + 1, 30), st.integers())
def test_of_many_two_different_ones_are_drawn(count: int, seed: int) -> None:
    rng = Watched(seed)
    first, second = drawn(list(range(count)), rng)
    assert first != second
    assert len(rng.drawn) == 2


@pytest.mark.parametrize("count", [2, 4, 9])
def test_equals_share_evenly(count: int) -> None:
    engines, rng = pool(count), Random(7)
    picks = Counter(chosen(engines, 100, 0.0, rng).winner.health.id for _ in range(9000))
    assert len(picks) == count
    assert max(picks.values()) < 1.15 * 9000 / count


def test_a_slower_a_busier_and_a_burning_one_are_left_alone() -> None:
    for change in ("slower", "busier", "burning"):
        engines = pool(3)
        health = engines[1].health
        if change == "slower":
            health.latency.ttft.coefficients = (0.5, 0.0005, 0.0)
        elif change == "busier":
            health.latency.prefilling = 50_000
        else:
            health.outlier.weight = 0.1
        picks = {chosen(engines, 100, 0.0, Random(seed)).winner.health.id for seed in range(50)}
        assert picks == {"gpu/0", "gpu/2"}


def test_the_only_one_needs_no_reason_but_that() -> None:
    assert str(choose(pool(1), 1, 0.0, Random(1))) == "the only backend to choose from"
    engines = pool(2)
    engines[0].health.outlier.ejection = EjectionState(State.EJECTED)
    assert str(choose(engines, 1, 0.0, Random(1))) == "the others are ejected or ask to retry later"


def test_a_filter_that_would_remove_everyone_removes_no_one() -> None:
    engines = pool(2)
    for engine in engines:
        engine.health.outlier.ejection = EjectionState(State.EJECTED)
    assert str(choose(engines, 1, 0.0, Random(1))).startswith("all are ejected or ask to retry later; lowest score: ")


def test_a_half_open_one_is_asked_by_one_request_at_a_time() -> None:
    engines = pool(3)
    engines[2].health.outlier.ejection = EjectionState(State.HALF_OPEN, ejections=1)
    choice = chosen(engines, 1, 0.0, Random(1))
    assert choice.winner is engines[2]
    lease = choice.winner.health.lease(1)
    assert lease.is_probe
    assert all(chosen(engines, 1, 0.0, Random(seed)).winner is not engines[2] for seed in range(50))
    lease.release()
    engines[2].health.ended(lease, Verdict.UNCOUNTED, 1.0, Random(1))
    assert chosen(engines, 1, 1.0, Random(1)).winner is engines[2]


def test_in_a_panic_ejections_are_ignored() -> None:
    engines = pool(2)
    engines[0].health.outlier.ejection = EjectionState(State.HALF_OPEN)
    engines[0].health.peers.panic = True
    engines[1].health.latency.prefilling = 50_000
    choice = chosen(engines, 1, 0.0, Random(1))
    assert (choice.winner, choice.why) == (engines[0], "lowest score")
    assert not choice.winner.health.lease(1).is_probe


def test_words_for_people() -> None:
    engines = pool(6)
    engines[0].health.outlier.weight = 0.5
    assert "lowest score of two drawn from 6" in str(choose(engines, 100, 0.0, Random(1)))
    text = str(choose(engines[:2], 100, 0.0, Random(1)))
    assert text == "lowest score: gpu/0 55 ms at weight 0.50, gpu/1 55 ms"


def test_the_busy_are_not_asked_even_where_all_are() -> None:
    engines = pool(2)
    for engine in engines:
        engine.health.lease(10)
        engine.health.refused(0.0, None, busy=True)
    assert choose(engines, 100, 0.1, Random(1)) is None
    assert choose(engines[:1], 100, 0.1, Random(1)) is None
    assert choose(engines, 100, 0.25, Random(1)) is not None
    engines[0].health.refused(1.0, 30.0, busy=False)
    engines[1].health.refused(1.0, 30.0, busy=True)
    assert chosen(engines, 100, 1.1, Random(1)).winner is engines[0], "sick, but perhaps well again"
    engines[0].health.backoff.hold_until = 100.0
    assert choose(engines, 100, 6.0, Random(1)) is not None, "where nobody else serves, the gateway's pause is enough"


def test_one_that_was_busy_is_asked_before_anyone_waits() -> None:
    first, second = pool(2)
    first.health.refused(0.0, 30.0, busy=True, alone=True)
    assert chosen([first, second], 100, 1.0, Random(1)).winner is second, "it is second choice"
    second.health.slots.limit = 0
    assert chosen([first, second], 100, 1.0, Random(1)).winner is first
    first.health.refused(1.0, 30.0, busy=False)
    assert choose([first, second], 100, 1.0, Random(1)) is None, "one that may be sick is not asked for want of a slot"


def test_how_a_backend_looks() -> None:
    health = pool(2)[0].health
    seen = consider(health, 100, 0.0)
    assert (seen.refused, seen.weight, seen.burn, seen.extrapolated) == ("", 1.0, 1.0, True)
    assert seen.score == seen.predicted_ttft == pytest.approx(0.055)
    health.refused(0.0, 60.0, busy=False)
    assert consider(health, 100, 10.0).refused == "refused work, and gets no requests for 20.0 s more"
    health.outlier.ejection = EjectionState(State.EJECTED, reason="5 failures in a row")
    assert consider(health, 100, 40.0).refused == "ejected: 5 failures in a row"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=8), st.integers())
def test_only_who_has_a_slot_is_chosen_and_nobody_out_of_service_for_want_of_one(
    rows: list[tuple[int, int, bool]], seed: int
) -> None:
    engines = pool(len(rows))
    for engine, (in_flight, limit, out) in zip(engines, rows, strict=True):
        engine.health.slots.in_flight, engine.health.slots.limit = in_flight, limit
        engine.health.outlier.ejection = EjectionState(State.EJECTED if out else State.IN_SERVICE)
    choice = choose(engines, 100, 0.0, Random(seed), Claim(10))
    usable = [engine for engine in engines if engine.health.available(0.0)] or engines
    free = [engine for engine in usable if engine.health.slots.in_flight < engine.health.slots.limit]
    assert (choice is None) == (not free)
    if choice is not None:
        assert choice.winner in free


def test_one_that_keeps_its_free_slots_for_others_says_so() -> None:
    class ForOthers(SlotRules):
        @property
        def is_strict(self) -> bool:
            return True

        def allows(self, claim: Claim, in_flight: int, limit: int) -> bool:
            return claim.priority == 0

    (engine,) = pool(1)
    engine.health.slots.rules, engine.health.slots.limit = ForOthers(), 8
    low = Claim(1, 20)
    assert choose([engine], 1, 0.0, Random(1), low) is None
    assert consider(engine.health, 1, 0.0, low).refused == "its free slots are kept for others: 0 in flight of 8"
    assert not consider(engine.health, 1, 0.0).refused
    engine.health.lease(1, low, 0.0).release()


def test_one_that_is_full_says_so() -> None:
    (engine,) = pool(1)
    engine.health.slots.limit = 1
    engine.health.lease(10)
    assert consider(engine.health, 10, 0.0).refused == "full: 1 in flight of 1"
