"""The slots that a queue waits for, and the place that is kept for a request too large for what is free."""

from random import Random

from gateway.claim import Claim
from gateway.policy.routing.ejection import Cause
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pool_state import PoolState
from gateway.proxy.awaited_slots import AwaitedSlots, holders_of
from tests.shared.columns import slots_of
from tests.shared.stepping import SteppedMemory

CLAIM = Claim(5)
LARGE, LARGER = Claim(80, 10), Claim(90, 0)


def awaited(kv: int = 100) -> AwaitedSlots:
    """Return the slots of two backends of one pool, each with three and room for so many tokens."""
    peers, slots = PoolState("gpu", 0.0), AwaitedSlots()
    peers.follow(["x", "y"])
    for health in peers.members.values():
        health.slots.limit_to(3)
        health.slots.kv_capacity = kv
    healths = list(peers.members.values())
    slots.follow(healths, [holders_of(each) for each in healths])
    return slots


def test_one_is_free_until_every_backend_has_all_that_it_may_have() -> None:
    slots = awaited()
    assert slots.any_free
    for health in slots.healths:
        health.slots.limit_to(1)
        health.lease(1, Claim(1), 0.0)
    assert (slots.any_free, slots.in_flight) == (False, 2)
    assert repr(slots) == "<AwaitedSlots of 2 backends, 2 in use>"


def test_the_free_slots_of_a_backend_that_is_away_are_none() -> None:
    slots = awaited()
    away, other = slots.healths
    away.symptoms.signal = Signal(gone=True)
    assert slots.any_free_in_service
    other.slots.limit_to(1)
    other.lease(1, Claim(1), 0.0)
    assert (slots.any_free, slots.any_free_in_service) == (True, False)
    away.symptoms.signal = Signal()
    away.outlier.eject("5 failures in a row", 0.0, Random(1), Cause.FAILURES)
    assert not slots.any_free_in_service
    away.peers.panic = True
    assert slots.any_free_in_service, "it gets requests although it is ejected"


def test_what_is_large_fits_where_there_is_room_for_it() -> None:
    slots = awaited()
    for health in slots.healths:
        health.lease(1, Claim(30), 0.0)
    assert (slots.has_slot(Claim(70)), slots.has_room(Claim(70))) == (True, True)
    assert (slots.has_slot(LARGE), slots.has_room(LARGE)) == (False, False)


def test_a_place_is_kept_where_the_fewest_tokens_are_held_until_it_is_not_wanted_any_more() -> None:
    slots = awaited()
    for health, kv in zip(slots.healths, (60, 50), strict=True):
        health.lease(1, Claim(kv), 0.0)
    slots.keep(LARGE)
    assert [holders_of(health).kept_for for health in slots.healths] == [None, LARGE]
    assert slots.is_kept_for(LARGE)
    slots.unkeep(LARGER)
    assert slots.is_kept_for(LARGE)
    slots.unkeep(LARGE)
    assert [holders_of(health).kept_for for health in slots.healths] == [None, None]


def test_a_higher_class_takes_the_place_over_and_a_lower_one_does_not() -> None:
    slots = awaited()
    for health in slots.healths:
        health.lease(1, Claim(50), 0.0)
    slots.keep(LARGE)
    slots.keep(LARGER)
    assert slots.is_kept_for(LARGER)
    slots.keep(LARGE)
    assert slots.is_kept_for(LARGER)


def test_none_is_kept_for_what_fits() -> None:
    slots = awaited()
    slots.keep(LARGE)
    assert not slots.is_kept_for(LARGE)


def test_of_what_other_processes_have_a_request_sees_one_backend_in_turn_and_many_at_once_see_none() -> None:
    memory, slots = SteppedMemory(2, backends=2), awaited()
    here, there = memory.join(), memory.join()
    for health in slots.healths:
        health.slots.shared = slots_of(here, health.id)
        assert slots_of(there, health.id).take(CLAIM, 10, 1000, 0.0)
    seen = []
    for now in (1.0, 1.001, 1.0024, 1.0026, 1.0027):
        slots.glance(now)
        seen.append(slots.in_flight)
    assert seen == [1, 1, 1, 2, 2]
    for health in slots.healths:
        assert slots_of(there, health.id).take(CLAIM, 10, 1000, 0.0)
    slots.glance(1.1)
    assert slots.in_flight == 3
    AwaitedSlots().glance(1.0)
