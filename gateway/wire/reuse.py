"""Whether a connection that was lost had been closed by its engine before the request reached it."""

from typing import Final

LEAST_IDLE: Final = 1.0
"""Seconds after which an engine may have closed an idle connection just before the next request reached it."""
IMMEDIATE: Final = 0.02
"""Seconds within which such a close comes to light, at least: longer ago, the engine may have begun to work."""


class Reuse:
    """When a connection was last idle, and when it was used again. Times are seconds of one clock."""

    __slots__ = ("connect_seconds", "idle_for", "idle_since", "reused", "taken_at")

    def __init__(self) -> None:
        self.connect_seconds = 0.0
        self.reused = False
        self.idle_since = 0.0
        self.idle_for = 0.0
        self.taken_at = 0.0

    def __repr__(self) -> str:
        return f"<Reuse after {self.idle_for:.1f} s idle>" if self.reused else "<Reuse not yet>"

    def rest(self, now: float) -> None:
        """Note that the connection is idle from now on."""
        self.idle_since = now

    def take(self, now: float) -> float:
        """Note that the connection is used again; return the seconds for which it was idle."""
        self.reused = True
        self.taken_at = now
        self.idle_for = now - self.idle_since
        return self.idle_for

    def was_stale(self, now: float) -> bool:
        """Whether an engine that closes now, without a byte, most likely closed before the request came.

        RFC 9112 section 9.3.1 has such requests sent again.
        """
        if not self.reused or self.idle_for < LEAST_IDLE:
            return False
        return now - self.taken_at <= max(IMMEDIATE, 2 * self.connect_seconds)
