"""Hold by budget: while a higher class misses its objective, sheddable classes stay in the queue. It never refuses."""

from collections.abc import Collection


def held_below(
    burning: Collection[int], waiting: Collection[int], present: Collection[int], *, engine_queues: bool
) -> int | None:
    """Return the priority below which sheddable classes are held back; None where none is.

    All are priorities of classes: of those whose latency burns at page rate, of those of which some request waits for a
    slot, and of those that have been seen of late. Holding helps where requests of the burning class wait, here or
    (`engine_queues`) inside the engine; where they are merely slow it does not help.
    """
    helped = [each for each in burning if each in waiting or (engine_queues and each in present)]
    return min(helped, default=None)
