"""Where a client's connection stands between two requests."""

from enum import Enum, auto

from gateway.wire.guard import Limits

LAST_CALL = 2.0
"""Seconds in which a client that was not told that its connection ends may ask once more."""
LINGER_SECONDS, LINGER_LONGEST = 5.0, 30.0
"""How long what a refused client still sends is read away: seconds of silence, and in all. Some clients read the answer
only once they have sent everything, and a connection that closes before destroys it."""


class Phase(Enum):
    """What a connection without a request in progress waits for."""

    FRESH = auto()
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    LINGER = auto()


FRESH, IDLE, HEAD, BODY, LINGER = Phase
"""Read once: Python 3.11 takes ten times as long to find a member by its enum."""
COMING = frozenset((HEAD, BODY))
"""The next request has begun to come."""


def seconds_in(phase: Phase, limits: Limits, *, draining: bool) -> float:
    """Return how long a connection may stay so."""
    if phase is LINGER:
        return LINGER_SECONDS
    if phase is IDLE:
        return LAST_CALL if draining else limits.keep_alive
    return limits.body_seconds if phase is BODY else limits.head_seconds


def lingers_until(since: float, now: float) -> float:
    """Return when a connection ends that lingers `since` then and has read something away now."""
    return min(now + LINGER_SECONDS, since + LINGER_LONGEST)
