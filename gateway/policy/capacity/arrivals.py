"""How many requests come, by second of the last quarter of an hour: their rate, and how much they come in bursts."""

from itertools import pairwise
from math import inf
from typing import Final

from gateway.policy.capacity.want import Bursts

KEPT: Final = 900
"""Seconds that are looked back."""
EVERY: Final = 5
FEWEST: Final = 4
"""Half minutes from which on something can be said of how they come."""
RECENT: Final = 30
"""Seconds over which the rate of now, and the highest one, are taken."""


class ArrivalMeter:
    """Requests by second of one pool, those that were refused a slot too; seconds are whole numbers of any clock."""

    __slots__ = ("_bursts", "_counts", "_due", "_first", "_next")

    def __init__(self) -> None:
        self._counts: list[float] = [0.0] * KEPT
        self._first = self._next = -1
        self._bursts: Bursts | None = None
        self._due = 0

    def __repr__(self) -> str:
        return f"<ArrivalMeter of {len(self._known())} s>"

    def observe(self, second: int, count: float) -> None:
        """Count the requests of a whole second; seconds left out since the last had none.

        The last second told again, and a number that cannot be, are left out. With one that is earlier the clock was
        set back, and counting begins anew.
        """
        if second == self._next - 1 or not 0 <= count < inf:
            return
        if self._first < 0 or second < self._next:
            self._first = self._next = second
            self._bursts, self._due = None, 0
        for missed in range(max(self._next, second - KEPT), second):
            self._counts[missed % KEPT] = 0.0
        self._counts[second % KEPT] = count
        self._next = second + 1

    def rate(self) -> float | None:
        """Return the requests per second of the last half minute, None before the first second."""
        known = self._known()[-RECENT:]
        return sum(known) / len(known) if known else None

    def bursts(self, holding: float) -> Bursts | None:
        """Return how bursty they are, for requests that hold a slot for so many seconds; None in the first two minutes.

        It is found anew every few seconds, since that takes a millisecond.
        """
        if self._next >= self._due:
            self._due = self._next + EVERY
            self._bursts = self._found(holding)
        return self._bursts

    def _found(self, holding: float) -> Bursts | None:
        known = self._known()
        if len(known) < FEWEST * RECENT:
            return None
        mean = sum(known) / len(known)
        width = max(1, round(min(holding, RECENT)))
        spread = max(_spread(known, width) / width, _spread(known, RECENT) / RECENT * (width / RECENT))
        recent = peak = sum(known[:RECENT])
        for second in range(RECENT, len(known)):
            recent += known[second] - known[second - RECENT]
            peak = max(peak, recent)
        return Bursts(mean, peak / RECENT, spread / mean if mean else 0.0)

    def _known(self) -> list[float]:
        """Return the counts, the oldest first."""
        first = max(self._first, self._next - KEPT)
        return [self._counts[each % KEPT] for each in range(max(0, first), max(0, self._next))]


def _spread(counts: list[float], width: int) -> float:
    """Return the variance of how many come in `width` seconds, from neighbours, as von Neumann did.

    So a load that rises or falls once has hardly more of it than one that is steady.
    """
    # From the newest second back, so that what is cut off is the oldest.
    spans = [sum(counts[end - width : end]) for end in range(len(counts), width - 1, -width)]
    return sum((each - other) ** 2 for each, other in pairwise(spans)) / (2 * (len(spans) - 1))
