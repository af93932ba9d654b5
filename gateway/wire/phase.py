"""Where a client's connection stands, as one table: what the client does next, what moves it on, and for how long."""

import math
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.wire.guard import Limits

LAST_CALL: Final = 2.0
"""Seconds in which a client that was not told that its connection ends may ask once more, as the process stops."""
CLOSE_SECONDS: Final = 10.0
"""How long the end of the last answer may take before its client is asked whether it still reads."""
LINGER_SECONDS: Final = 5.0
LINGER_LONGEST: Final = 30.0
"""How long what a refused client still sends is read away: seconds of silence, and in all. Some clients read the answer
only once they have sent everything, and a connection that closes before destroys it."""


class Phase(StrEnum):
    """What the client does, or is to do next. A request may be in progress while the head or body of the next comes."""

    __hash__ = str.__hash__  # in C; Enum's own is written in Python

    FRESH = "fresh"
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    HELD = "held"
    ANSWERING = "answering"
    ENDED = "ended"
    REFUSED = "refused"
    LINGER = "linger"
    CLOSING = "closing"


class Event(StrEnum):
    """What moves a connection on."""

    __hash__ = str.__hash__

    PART_OF_HEAD = "part_of_head"
    PART_OF_BODY = "part_of_body"
    EXPECTS_CONTINUE = "expects_continue"
    REQUEST = "request"
    ANSWERED = "answered"
    BROKEN = "broken"
    HALF_CLOSED = "half_closed"
    CLOSED = "closed"


# Read once: Python 3.11 takes ten times as long to find a member by its enum.
FRESH: Final = Phase.FRESH
IDLE: Final = Phase.IDLE
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY
HELD: Final = Phase.HELD
ANSWERING: Final = Phase.ANSWERING
ENDED: Final = Phase.ENDED
REFUSED: Final = Phase.REFUSED
LINGER: Final = Phase.LINGER
CLOSING: Final = Phase.CLOSING
PART_OF_HEAD: Final = Event.PART_OF_HEAD
PART_OF_BODY: Final = Event.PART_OF_BODY
EXPECTS_CONTINUE: Final = Event.EXPECTS_CONTINUE
REQUEST: Final = Event.REQUEST
ANSWERED: Final = Event.ANSWERED
BROKEN: Final = Event.BROKEN
HALF_CLOSED: Final = Event.HALF_CLOSED
CLOSED: Final = Event.CLOSED

COMING: Final = frozenset((HEAD, BODY))
"""The next request has begun to come."""
DEAF: Final = frozenset((ENDED, REFUSED, LINGER, CLOSING))
"""Nothing more is parsed."""

TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = MappingProxyType(
    {
        **{(phase, PART_OF_HEAD): HEAD for phase in (FRESH, IDLE, ANSWERING, HEAD)},
        **{(phase, PART_OF_BODY): BODY for phase in (FRESH, IDLE, ANSWERING, HEAD, HELD, BODY)},
        **{(phase, EXPECTS_CONTINUE): HELD for phase in (ANSWERING, HEAD, HELD)},
        **{(phase, REQUEST): ANSWERING for phase in (FRESH, IDLE, ANSWERING, HEAD, HELD, BODY)},
        (ANSWERING, ANSWERED): IDLE,
        (HEAD, ANSWERED): HEAD,
        (BODY, ANSWERED): BODY,
        (HELD, ANSWERED): BODY,
        (REFUSED, ANSWERED): LINGER,
        **{(phase, BROKEN): REFUSED for phase in Phase if phase not in DEAF},
        **{(phase, HALF_CLOSED): ENDED for phase in (ANSWERING, HEAD, BODY, HELD, REFUSED)},
        **{(phase, CLOSED): CLOSING for phase in Phase},
    }
)
"""Every way from phase to phase; an event that is not here in a phase is a fault of the gateway's own."""

_NEXT: Final = {
    phase: {event: TRANSITIONS[phase, event] for event in Event if (phase, event) in TRANSITIONS} for phase in Phase
}
"""The same, in a form that is asked without making a key."""


def seconds_in(phase: Phase, limits: Limits, *, last_call: float) -> float:
    """Return how long a connection may stay so; infinity while the client owes nothing.

    `last_call` is how long an idle one may in a process that drains, 0 in one that does not.
    """
    if phase is IDLE:
        return last_call or limits.keep_alive
    if phase is BODY:
        return limits.body_seconds
    if phase is HEAD or phase is FRESH:
        return limits.head_seconds
    if phase is LINGER:
        return LINGER_SECONDS
    return CLOSE_SECONDS if phase is CLOSING else math.inf


def lingers_until(since: float, now: float) -> float:
    """Return when a connection ends that lingers `since` then and has read something away now."""
    return min(now + LINGER_SECONDS, since + LINGER_LONGEST)


class PhaseTimer:
    """The phase of one connection, and when it is over. It reads no clock."""

    __slots__ = ("_deadline", "_limits", "_read_at", "phase")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.phase = FRESH
        self._deadline = math.inf
        self._read_at = 0.0

    def __repr__(self) -> str:
        return f"<PhaseTimer {self.phase}>"

    @property
    def next_deadline(self) -> float:
        """When the client is late, infinity if it owes nothing; a body may not pause for long either."""
        if self.phase is BODY:
            return min(self._deadline, self._read_at + self._limits.body_silence)
        return self._deadline

    def step(self, event: Event, now: float, *, last_call: float = 0.0) -> None:
        """Go on to the phase that follows; one that is entered has all of its time. Raises KeyError."""
        following = _NEXT[self.phase][event]
        if following is not self.phase:
            self.phase = following
            self.restart(now, last_call=last_call)

    def restart(self, now: float, *, last_call: float = 0.0) -> None:
        """Give the phase all of its time from now on."""
        self._read_at = now
        self._deadline = now + seconds_in(self.phase, self._limits, last_call=last_call)

    def came(self, part: Event, now: float) -> None:
        """Learn that a part of a request was read, but not all of it."""
        if self.phase not in DEAF:
            self.step(part, now)
            self._read_at = now

    def read_away(self, now: float) -> None:
        """Learn that something was read that is not wanted."""
        if self.phase is LINGER:
            self._deadline = lingers_until(self._read_at, now)

    def last_call(self, now: float, seconds: float) -> None:
        """Give a client without a request in progress so much time to ask once more."""
        if self.phase is FRESH or self.phase is IDLE:
            self._deadline = now + seconds
