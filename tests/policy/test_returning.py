"""Backends that were out, or are silent to probes: by what they are known to work, and measured by their peers."""

from random import Random

import pytest

from gateway.exchange import Verdict
from gateway.policy.routing.activity import Activity
from gateway.policy.routing.ejection import PROBES, USUAL, State
from gateway.policy.routing.health import Health
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pool_state import SHORT, PoolState
from gateway.policy.routing.vitals import MET_BURN

RNG = Random(1)
TICK = 0.25
TTFT, TPOT = 0.1, 0.15
WELL, BURNING = Signal(burn=1.0), Signal(burn=20.0)


def pool(count: int = 2) -> tuple[PoolState, list[Health]]:
    peers = PoolState("gpu", 0.0)
    peers.follow(f"gpu/{number}" for number in range(count))
    return peers, list(peers.members.values())


def answers(health: Health, now: float, *, times: float = 1.0, met: bool = True, stream: bool = True) -> None:
    """Have one request answered, so many times slower than usual."""
    lease = health.lease(100)
    if stream:
        health.activity.began(now, times * TTFT)
        health.began(lease, times * TTFT)
    lease.release()
    health.ended(lease, Verdict.GOOD, now, RNG, seconds=3.0, tpot=times * TPOT if stream else None, met=met)


def at_work(healths: list[Health], peers: PoolState, *, met: bool) -> None:
    """Let ten seconds pass in which all answer one request a second."""
    for second in range(10):
        for health in healths:
            answers(health, float(second), met=met)
        peers.tick(float(second), {}, RNG)


def away(health: Health, peers: PoolState) -> None:
    """Let probes find that it cannot be reached, and then that it can."""
    peers.tick(11.0, {health.id: Signal(gone=True)}, RNG)
    peers.tick(16.0, {health.id: Signal()}, RNG)
    assert health.outlier.ejection.state is State.HALF_OPEN


def ejected(health: Health, peers: PoolState, *, slow: bool) -> None:
    """Eject it, and let that time pass."""
    if slow:
        health.eject("slow", 11.0, RNG)
    else:
        for _ in range(USUAL.consecutive_failures):
            health.ended(health.lease(100), Verdict.BAD, 11.0, RNG)
    peers.tick(50.0, {}, RNG)
    assert health.outlier.ejection.state is State.HALF_OPEN


def test_one_of_equals_that_are_all_slower_than_the_objective_comes_back() -> None:
    peers, healths = pool()
    at_work(healths, peers, met=False)
    away(healths[0], peers)
    for _ in range(PROBES):
        answers(healths[0], 17.0, met=False)
    assert healths[0].outlier.ejection.state is State.SLOW_START


def test_one_that_was_ejected_for_failures_comes_back_by_answers_that_are_late_like_those_of_its_peers() -> None:
    peers, healths = pool()
    at_work(healths, peers, met=False)
    ejected(healths[0], peers, slow=False)
    for _ in range(PROBES):
        answers(healths[0], 51.0, met=False)
    assert healths[0].outlier.ejection.state is State.SLOW_START


def test_what_an_engine_failed_as_it_went_does_not_keep_it_out_when_it_is_back() -> None:
    peers, healths = pool()
    at_work(healths, peers, met=True)
    for _ in range(USUAL.consecutive_failures):
        healths[0].ended(healths[0].lease(100), Verdict.BAD, 11.0, RNG)
    assert healths[0].outlier.ejection.state is State.EJECTED
    away(healths[0], peers)
    assert healths[0].outlier.ejection.returned


def test_one_that_comes_back_slower_than_its_peers_does_not_serve_until_it_is_needed() -> None:
    peers, (slow, other) = pool()
    at_work([slow, other], peers, met=True)
    away(slow, peers)
    answers(slow, 17.0, times=3.0)
    assert (slow.outlier.ejection.state, slow.outlier.ejection.reason) == (
        State.EJECTED,
        "a request that tried it was slow",
    )
    other.slots.limit_to(1)
    other.lease(100)
    for tick in range(int(SHORT / TICK) + 1):
        peers.tick(17.0 + tick * TICK, {}, RNG)
    assert slow.outlier.ejection.state is State.SLOW_START


@pytest.mark.parametrize(("times", "back"), [(1.0, True), (1.6, False), (3.0, False)])
def test_one_that_was_ejected_because_it_was_slow_and_is_late_is_measured_closely(times: float, back: bool) -> None:
    peers, healths = pool()
    at_work(healths, peers, met=True)
    ejected(healths[0], peers, slow=True)
    for number in range(10):
        answers(healths[1], 50.0 + number)
    answers(healths[0], 61.0, times=times, met=False)
    assert healths[0].outlier.ejection.out
    assert (healths[0].outlier.ejection.state is State.HALF_OPEN) is back


def test_one_that_was_ejected_because_it_was_slow_comes_back_by_met_objectives() -> None:
    peers, healths = pool()
    at_work(healths, peers, met=True)
    ejected(healths[0], peers, slow=True)
    for _ in range(PROBES):
        answers(healths[0], 51.0, times=1.6)
    assert healths[0].outlier.ejection.state is State.SLOW_START


@pytest.mark.parametrize(
    ("signal", "back"),
    [(WELL, False), (Signal(burn=MET_BURN + 0.1), True), (BURNING, True), (Signal(gone=True), True)],
    ids=["its peer is well", "its peer misses its objective", "its peer is far beyond its budget", "it is alone"],
)
def test_an_answer_in_one_piece_is_measured_by_whether_peers_meet_theirs(signal: Signal, back: bool) -> None:
    peers, healths = pool(3)
    at_work(healths, peers, met=True)
    ejected(healths[0], peers, slow=True)
    healths[1].symptoms.signal = signal
    healths[2].eject("slow", 50.0, RNG)
    for health in healths:
        health.activity.answered(50.0, 3.0)
    answers(healths[0], 51.0, met=False, stream=False)
    assert (healths[0].outlier.ejection.state is State.HALF_OPEN) is back


def test_before_anything_is_known_of_its_pool_no_answer_is_slow() -> None:
    peers, healths = pool()
    healths[0].activity.answered(1.0, 3.0)
    away(healths[0], peers)
    answers(healths[0], 17.0, times=100.0, met=False)
    assert healths[0].outlier.ejection.answered == 1


@pytest.mark.parametrize("sign", ["a first token", "its own metrics", ""])
def test_one_that_was_away_is_back_when_its_pool_has_been_full_for_two_seconds_and_it_works(sign: str) -> None:
    peers, healths = pool()
    at_work(healths, peers, met=True)
    away(healths[0], peers)
    healths[1].slots.limit_to(1)
    healths[1].lease(100)
    trial, signals = healths[0].lease(100), {}
    if sign == "a first token":
        healths[0].activity.began(16.5, TTFT)
    elif sign:
        signals = {healths[0].id: Signal(progressed=16.5)}
    peers.tick(17.0, signals, RNG)
    assert not healths[0].available(17.0), "one request at a time"
    for tick in range(1, int(SHORT / TICK) + 1):
        peers.tick(17.0 + tick * TICK, signals, RNG)
    assert (healths[0].outlier.ejection.state is State.SLOW_START) is bool(sign)
    assert healths[0].available(20.0) is bool(sign)
    trial.release()
    healths[0].ended(trial, Verdict.GOOD, 30.0, RNG, met=False)
    assert not healths[0].outlier.probing


def test_only_what_came_after_a_probe_without_an_answer_shows_that_an_engine_works() -> None:
    activity = Activity()
    activity.began(100.0, TTFT)
    assert not activity.works_despite(101.0, 102.0), "it may have stopped since"
    activity.answered(102.0, 3.0)
    assert activity.works_despite(101.0, 110.0)
    assert not activity.works_despite(101.0, 113.0)
