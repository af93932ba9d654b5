"""Beside how many requests an engine refuses one more: never by the word of one request alone."""

from random import Random

from gateway.claim import Claim
from gateway.exchange import Verdict
from gateway.policy.routing.bearing import Bearing
from gateway.policy.routing.limit_evidence import UNLIMITED
from tests.policy.test_health import pool


def test_one_request_that_is_refused_again_and_again_says_nothing_of_the_engine() -> None:
    bearing = Bearing()
    assert [bearing.refused("poison", beside, 0.0) for beside in (3, 9, 1)] == [None] * 3
    assert repr(bearing) == "<Bearing [1]>"


def test_two_say_beside_how_many_both_were_refused() -> None:
    bearing = Bearing()
    bearing.refused("poison", 3, 0.0)
    assert bearing.refused("another", 20, 1.0) == 20
    assert bearing.refused("a third", 18, 2.0) == 18
    assert bearing.refused("poison", 25, 2.0) == 18
    assert bearing.refused("another", 2, 2.0) == 3


def test_what_is_worked_on_beside_as_many_refutes_a_refusal() -> None:
    bearing = Bearing()
    bearing.took(bearing.turn, 50)
    before = bearing.turn
    bearing.refused("poison", 3, 0.0)
    bearing.took(before, 5)
    bearing.took(bearing.turn, 2)
    assert bearing.doubted, "one was sent before, the other had room"
    bearing.took(bearing.turn, 3)
    assert not bearing.doubted
    assert bearing.refused("another", 20, 0.1) is None


def test_old_refusals_are_forgotten() -> None:
    bearing = Bearing()
    bearing.refused("poison", 3, 0.0)
    assert bearing.refused("another", 20, 10.1) is None
    bearing.refused("poison", 30, 11.0)
    assert bearing.refused("poison", 30, 22.0) is None
    assert repr(bearing) == "<Bearing [30]>"


def test_a_client_that_keeps_asking_for_what_is_always_refused_does_not_lower_a_healthy_limit() -> None:
    """Each of its requests is another one; in between those of others are served beside as many."""
    _, (health, *_) = pool()
    for turn in range(40):
        held = [health.lease(10) for _ in range(5)]
        poison = health.lease(10)
        health.refused(turn * 0.5, None, busy=True, request=object())
        poison.release()
        good = health.lease(10)
        if turn % 2:
            health.began(good, 0.1)
        for lease in (*held, good):
            lease.release()
            health.ended(lease, Verdict.GOOD, turn * 0.5 + 0.4, Random(0), seconds=0.4)
        assert (health.slots.evidence.saturated, health.slots.evidence.borne) == (False, UNLIMITED)
        health.slots.looked_at()


def test_an_engine_at_capacity_is_found_out_by_the_second_request_that_it_refuses() -> None:
    _, (health, *_) = pool()
    held = [health.lease(10, Claim()) for _ in range(10)]
    refused = [health.lease(10), health.lease(10)]
    health.refused(0.0, None, busy=True, request="first")
    assert not health.slots.evidence.saturated
    refused.pop().release()
    health.refused(0.1, None, busy=True, request="second")
    refused.pop().release()
    assert (health.slots.evidence.saturated, health.slots.evidence.borne) == (True, 11)
    held.pop().release()
    last = health.lease(10)
    health.began(last, 0.1)
    assert health.slots.evidence.bearing.doubted, "it had the place that came free"
