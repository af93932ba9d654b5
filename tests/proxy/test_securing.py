"""Getting the slot that was seen, where another process is quicker."""

from random import Random

from gateway.backends.backend import Backend
from gateway.claim import Claim
from gateway.exchange import Exchange
from gateway.policy.routing.choose import choose
from gateway.proxy.finding import FULL, Tried
from gateway.proxy.securing import secured
from gateway.shared.slots import SharedSlots
from tests.proxy.front import CHAT, Front, Opened
from tests.proxy.test_finding import opened_with, routed
from tests.shared.columns import slots_of
from tests.shared.stepping import SteppedMemory

PLENTY = 1 << 60


def shared_by_two(front: Front, limit: int) -> list[SharedSlots]:
    """Have backends shared with another process; return how that one sees them."""
    memory = SteppedMemory(2, backends=len(front.registry))
    own, other = memory.join(), memory.join()
    for backend in front.registry:
        backend.health.slots.limit_to(limit)
        backend.health.slots.shared = slots_of(own, backend.id)
    return [slots_of(other, backend.id) for backend in front.registry]


def secure(front: Front, first: Backend) -> Backend | Tried:
    return secured(first, routed(front), Exchange("r1", CHAT, 0.0), (), choose, now=front.loop.now, rng=Random(1))


def test_a_slot_that_another_process_took_first_is_looked_for_elsewhere(opened: Opened) -> None:
    front, (first, second) = opened_with(opened, 2)
    others = shared_by_two(front, 1)
    assert others[0].take(Claim(7), 1, PLENTY, 0.0)
    assert first.health.slots.has_slot(), "it was not looked at since"
    assert secure(front, first) is second
    assert (first.health.slots.in_flight, first.health.slots.kv, first.health.slots.own_kv) == (1, 7, 0)
    assert not others[1].take(Claim(), 1, PLENTY, 0.0)
    assert secure(front, first) is FULL


def test_a_slot_is_secured_once_for_a_lease_that_gives_it_back(opened: Opened) -> None:
    front, (first,) = opened_with(opened, 1)
    (other,) = shared_by_two(front, 2)
    assert secure(front, first) is first
    lease = first.health.lease(10)
    assert other.take(Claim(), 2, PLENTY, 0.0)
    assert not other.take(Claim(), 2, PLENTY, 0.0)
    first.health.slots.look()
    assert (first.health.slots.in_flight, first.in_flight) == (2, 1)
    lease.release()
    assert other.take(Claim(), 2, PLENTY, 0.0)
    assert (first.health.slots.in_flight, first.in_flight) == (1, 0)
