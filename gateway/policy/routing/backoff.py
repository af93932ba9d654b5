"""For how long a backend is left alone after it refused work: busy is not sick."""

from typing import Final

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
"""Seconds for which a backend that named no Retry-After is left alone, doubling with each refusal in a row."""
LONGEST_HOLD: Final = 30.0
"""The most of a Retry-After that is granted, in seconds."""


class Backoff:
    """What one backend said when it was asked for more than it could take.

    Until `hold_until` others are preferred to it; until `closed_until` it is asked only while it has fewer than `room`
    in flight, those beside which it refused one more; `is_busy` says that what it refused last, at `refused_at`, it
    refused for that. Times are seconds of the caller's clock.
    """

    __slots__ = ("_refusals", "closed_until", "hold_until", "is_busy", "refused_at", "room")

    def __init__(self) -> None:
        self.hold_until = 0.0
        self.closed_until = 0.0
        self.room = 0
        self.is_busy = False
        self.refused_at = float("-inf")
        self._refusals = 0

    def __repr__(self) -> str:
        return f"<Backoff until {self.hold_until:.1f}, {self._refusals} refusals in a row>"

    def refused(self, now: float, patience: float | None, *, busy: bool, beside: int | None = None) -> None:
        """Learn that it refused work (429, 503), and for how many seconds it asked to be left alone, if it did.

        `beside` is how many were in flight that kept it busy; None where nothing did: others are preferred to it for a
        while, but it stays open. Refusals while it is left alone already are of requests sent before, and do not
        prolong that.
        """
        self.refused_at = now
        if now >= (self.hold_until if beside is None else self.closed_until):
            self._refusals += 1
        own = min(FIRST_PAUSE * 2.0 ** (min(self._refusals, 10) - 1), LONGEST_PAUSE)
        self.is_busy = busy
        if beside is not None:
            # Its Retry-After binds the request that it refused: for others a slot may come free at any time.
            self.room = beside if now >= self.closed_until else min(self.room, beside)
            self.closed_until = max(self.closed_until, now + min(own, patience or own))
        self.hold_until = max(self.hold_until, now + min(patience or own, LONGEST_HOLD))

    def reset(self) -> None:
        """Learn that it works: the next refusal is the first in a row."""
        self._refusals = 0

    def is_closed(self, in_flight: int, now: float) -> bool:
        """Whether it has too much to do to be asked for more than the so many `in_flight` there."""
        return now < self.closed_until and in_flight >= self.room
