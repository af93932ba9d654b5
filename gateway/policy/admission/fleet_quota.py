"""How gateways on several machines keep one quota: when others are to be told, and what to assume while none answers.

Each gateway decides by its own view of the bucket, so no request waits. A view is the bucket as all of them had it when
they last exchanged what they charged, less what this gateway has charged since. What others charged meanwhile is
missing from it: the fewer requests lie between two exchanges where the bucket is nearly empty, the less all together
exceed the limit. What they exceed it by is a debt, and is paid back before anything else is admitted.
"""

from math import exp
from typing import Final

MEMORY: Final = 60.0
"""Seconds over which a gateway's part of what all use is averaged."""
_OF_LEFT: Final = 4.0
_OF_LIMIT: Final = 100.0


def urgent_after(size: int, level: float, processes: int) -> float:
    """Return how much a process may charge before it tells the others at once.

    If all charge as much, they have used a quarter of what is left, or a hundredth of the limit where that is more.
    One request is told in any case. A process that is alone tells none.
    """
    if processes < 2:
        return float("inf")
    return max(1.0, level / _OF_LEFT / processes, size / _OF_LIMIT / processes)


class Part:
    """How much of a quota one process has used, of all that use it."""

    __slots__ = ("others", "own")

    def __init__(self) -> None:
        self.own = 0.0
        self.others = 0.0

    def __repr__(self) -> str:
        return f"<Part {self.own:.1f} of {self.own + self.others:.1f} s>"

    def add(self, own: float, others: float, elapsed: float) -> None:
        """Add what was used in a time, in seconds of refilling."""
        before, theirs = self.after(elapsed)
        self.own = before + max(0.0, own)
        self.others = theirs + max(0.0, others)

    def after(self, elapsed: float) -> tuple[float, float]:
        """Return what it and the others will have used of late if nothing is added for so long."""
        stays = exp(-max(0.0, elapsed) / MEMORY)
        return self.own * stays, self.others * stays

    def of(self, processes: int) -> float:
        """Return what part of the refill it may take while it hears nothing: at least that of one among them all.

        One that had more goes on with that: a quiet gateway leaves its part to a busy one.
        """
        even = 1.0 / max(1, processes)
        used = self.own + self.others
        return even if used <= 0.0 else max(even, self.own / used)
