"""What says how many requests a backend bears, since its limit was last judged."""

from typing import Final

from gateway.policy.routing.bearing import Bearing

UNLIMITED: Final = 1 << 61
"""The largest power of two that compiled code holds in a register."""


class LimitEvidence:
    """`peak` is the most requests in flight, `begun` and `late` count latencies of what was let in under this limit.

    `borne` is the fewest in flight beside a request that was refused because the backend is busy, by the word of two
    requests; UNLIMITED where it refused none. `bearing` is what single refusals say. A new `era` begins with each lower
    limit.
    """

    __slots__ = ("bearing", "begun", "borne", "era", "late", "peak")

    def __init__(self) -> None:
        self.peak = 0
        self.era = 0
        self.begun = self.late = 0
        self.borne = UNLIMITED
        self.bearing = Bearing()

    def __repr__(self) -> str:
        return f"<LimitEvidence at most {self.peak}, {self.late} of {self.begun} late>"

    @property
    def saturated(self) -> bool:
        """Whether the backend refused work because it is busy."""
        return self.borne < UNLIMITED

    def reached(self, in_flight: int) -> None:
        """Learn that so many requests are in flight."""
        self.peak = max(self.peak, in_flight)

    def clear(self, in_flight: int) -> None:
        """Begin anew with so many requests in flight."""
        self.peak = in_flight
        self.begun = self.late = 0
        self.borne = UNLIMITED

    def begin_era(self) -> None:
        """Forget latencies: a lower limit is judged by what it lets in."""
        self.era += 1
        self.begun = self.late = 0

    def judged(self, era: int, *, late: bool) -> None:
        """Learn whether a latency of a request let in in this era was beyond its target."""
        if era == self.era:
            self.begun += 1
            self.late += late

    def refused(self, request: object, beside: int, now: float) -> None:
        """Learn that a request was refused beside so many others because the backend is busy."""
        borne = self.bearing.refused(request, beside, now)
        if borne is not None:
            self.borne = min(self.borne, borne)

    def took(self, turn: int, beside: int) -> None:
        """Learn that one is worked on which was sent in this turn beside so many."""
        if self.bearing.doubted:
            self.bearing.took(turn, beside)
