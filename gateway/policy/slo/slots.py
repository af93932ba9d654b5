"""What is stored of one slot of a window, and how much a store has already."""

from math import inf

Slot = tuple[int, int, float, float]
"""Good, bad, and when the first and the last event was counted."""


def merged(one: Slot, other: Slot) -> Slot:
    """Return what two slots hold together."""
    return one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3])


class Saved:
    """How many `good` and `bad` events a store has; `fresh` is when the first was counted that it has not."""

    __slots__ = ("bad", "fresh", "good")

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0
        self.fresh = inf

    def __repr__(self) -> str:
        return f"<Saved {self.good} good {self.bad} bad>"

    def save(self, good: int, bad: int, last: float) -> Slot:
        """Return what the store lacks of all these, the last counted at `last`; from now on it has them."""
        lacks = good - self.good, bad - self.bad, self.fresh, last
        self.good, self.bad, self.fresh = good, bad, inf
        return lacks

    def skip(self, good: int, bad: int) -> None:
        """Learn of events that a store has from another process."""
        self.good += good
        self.bad += bad
