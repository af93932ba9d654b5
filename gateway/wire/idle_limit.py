"""For how long a connection to an engine may be idle: less than until the engine closes it."""

from math import inf
from typing import Final

IDLE_SECONDS: Final = 4.0
"""How long at most: uvicorn, which most engines use, closes an idle connection after 5 s."""
_MARGIN: Final = 1.0
_REMEMBERED: Final = 300.0
"""Seconds for which an engine's closing of an idle connection is remembered: it may have been a restart."""


class IdleLimit:
    """What an engine says of how long it keeps idle connections, what was seen of that, and the limit that follows."""

    __slots__ = ("_seen", "_seen_at", "_told", "seconds")

    def __init__(self) -> None:
        self.seconds = IDLE_SECONDS
        self._told = self._seen = inf
        self._seen_at = 0.0

    def __repr__(self) -> str:
        return f"<IdleLimit {self.seconds:g} s>"

    def told(self, seconds: float, now: float) -> None:
        """Take what the engine says."""
        if seconds != self._told:
            self._told = seconds
            self.renew(now)

    def closed_after(self, seconds: float, now: float) -> None:
        """Learn that the engine closed a connection that had been idle for so long."""
        self._seen = min(self._remembered(now), seconds)
        self._seen_at = now
        self.renew(now)

    def renew(self, now: float) -> None:
        """Forget what was seen too long ago."""
        closes = min(self._told, self._remembered(now))
        self.seconds = min(IDLE_SECONDS, max(closes - _MARGIN, closes / 2))

    def _remembered(self, now: float) -> float:
        return self._seen if now - self._seen_at <= _REMEMBERED else inf
