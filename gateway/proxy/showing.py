"""What waits in the queues of this process, as it is shown to the others that share limits with it."""

from collections.abc import Sequence
from typing import Protocol

from gateway.policy.routing.health import Health
from gateway.proxy.awaited_slots import AwaitedSlots
from gateway.shared.slots import NOTHING, mark


class Waiting(Protocol):
    """A queue."""

    slots: AwaitedSlots

    def first(self) -> tuple[int, float] | None:
        """Return the priority of what waits first for any free slot, and since when; None where nothing does."""


def show(lines: Sequence[Waiting]) -> bool:
    """Show at each backend what waits first for its slots, and nothing at one whose free slots are of no use to it.

    Return whether a slot came free meanwhile, so that it is to be looked for once more.
    """
    best: dict[Health, int] = {}
    for line in lines:
        first = line.first()
        if first is None and not line.slots.shows:
            continue
        marked = NOTHING if first is None else mark(first[0], first[1])
        line.slots.shows = first is not None
        for health in line.slots.healths:
            known = best.get(health, NOTHING)
            best[health] = min(known or marked, marked or known)
    again = False
    for health, marked in best.items():
        slots = health.slots
        shared = slots.shared
        if shared is not None:
            useless = slots.has_free and not shared.yields
            again = shared.wait(NOTHING if useless else marked, slots.limit) or again
    return again
