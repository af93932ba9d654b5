"""The slots of one backend, whether one process has them alone or several share them."""

from gateway.claim import Claim
from gateway.policy.routing.slots import Slots
from tests.shared.columns import slots_of
from tests.shared.stepping import SteppedMemory

NOW = 1.0


def shared_by(processes: int, limit: int) -> list[Slots]:
    """Return the slots of one backend as each process sees them."""
    memory, found = SteppedMemory(processes), []
    for _ in range(processes):
        table = memory.join()
        table.beat(NOW)
        slots = Slots()
        slots.limit, slots.shared = limit, slots_of(table)
        found.append(slots)
    return found


def test_slots_that_one_process_has_alone_need_no_look_and_are_always_secured() -> None:
    slots = Slots()
    slots.look()
    assert slots.secure(Claim(10), NOW)
    assert (slots.in_flight, slots.own, slots.own_kv) == (0, 0, 0)


def test_a_slot_that_is_shared_is_secured_before_it_is_taken() -> None:
    one, other = shared_by(2, limit=1)
    assert one.secure(Claim(10), NOW)
    one.take(Claim(10), NOW)
    assert not other.secure(Claim(10), NOW)
    assert (other.in_flight, other.kv, other.own, other.own_kv) == (1, 10, 0, 0)
    assert (one.own, one.own_kv) == (1, 10)
    assert one.give_back(Claim(10), None)
    other.look()
    assert (other.in_flight, other.kv) == (0, 0)
    assert other.secure(Claim(10), NOW)


def test_slots_that_are_shared_no_more_know_nothing_of_other_processes() -> None:
    one, other = shared_by(2, limit=3)
    assert one.secure(Claim(10), NOW)
    one.take(Claim(10), NOW)
    other.look()
    other.part()
    assert (other.in_flight, other.kv, other.own) == (0, 0, 0)
    other.take(Claim(5), NOW)
    assert other.give_back(Claim(5), None)
    one.look()
    assert (one.in_flight, one.kv) == (1, 10)
