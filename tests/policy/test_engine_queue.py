"""What an engine says of its own queue: only others' requests count, for a while, and never for much."""

from random import Random

import pytest

from gateway.policy.routing.choose import choose
from gateway.policy.routing.engine_queue import FADES, MOST, SHARE, EngineQueue
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState


class Backend:
    def __init__(self, health: Health) -> None:
        self.health = health


def _two() -> tuple[PoolState, list[Backend]]:
    peers = PoolState("gpu", 0.0)
    peers.follow(["gpu/a", "gpu/b"])
    return peers, [Backend(health) for health in peers.members.values()]


def test_an_engine_that_others_have_filled_is_not_chosen() -> None:
    peers, (a, b) = _two()
    a.health.latency.told(20.0, 10.0)
    peers.tick(10.1, {}, Random(1))

    choices = [choose([a, b], 500, 10.1, Random(seed)) for seed in range(20)]

    assert {choice and choice.winner for choice in choices} == {b}


def test_what_waits_for_us_is_not_counted_twice() -> None:
    peers, (a, _) = _two()
    leases = [a.health.lease(500) for _ in range(3)]

    a.health.latency.told(3.0, 10.0)
    peers.tick(10.0, {}, Random(1))
    assert a.health.latency.foreign == 0.0

    for lease in leases:
        lease.prefilled()
        lease.release()
    assert a.health.latency.unbegun == 0
    a.health.latency.told(3.0, 11.0)
    peers.tick(11.0, {}, Random(1))
    assert a.health.latency.foreign == 3 * SHARE


def test_a_prediction_and_what_is_learnt_from_it_see_the_same_queue() -> None:
    peers, (a, _) = _two()
    a.health.latency.told(8.0, 10.0)
    peers.tick(10.0, {}, Random(1))

    predicted = a.health.predicted(500)
    lease = a.health.lease(500)

    assert lease.predicted == pytest.approx(predicted)
    assert (lease.tokens, lease.in_flight) == (500 + 2 * 500, 2.0)


def test_a_word_fades_with_its_age() -> None:
    queue = EngineQueue()
    queue.told(8.0, 0, 10.0)

    assert repr(queue) == "<EngineQueue 8 of others at 10.0>"
    assert queue.foreign(10.0) == 8 * SHARE
    assert queue.foreign(10.0 + FADES / 2) == pytest.approx(4 * SHARE)
    assert queue.foreign(10.0 + FADES) == 0.0
    assert queue.foreign(9.0) == 8 * SHARE, "a clock that stepped back adds nothing"


@pytest.mark.parametrize("word", [None, -1.0, 1e9, float("inf"), float("nan")])
def test_an_absurd_word_is_ignored(word: float | None) -> None:
    queue = EngineQueue()
    queue.told(4.0, 0, 10.0)
    queue.told(word, 0, 10.5)

    assert 0 < queue.foreign(10.5) < 4 * SHARE, "the word before it holds, and fades"


def test_a_long_queue_counts_for_no_more_than_the_bound() -> None:
    queue = EngineQueue()
    queue.told(5_000.0, 10, 10.0)

    assert queue.foreign(10.0) == MOST * SHARE
