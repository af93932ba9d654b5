"""The life of a request as one table: where it stands, and what moves it on.

    reading --slot_granted--> connecting --connected--> awaiting_head --head--> holding --first_output--> answering
       |                        ^   |                        |                     |                        |
       | no_slot    slot_granted|   +------------------------+---------------------+ retry                  | completed
       v                        |                                                  v                        v
    queued -------------------->+<------------------------------------------- backing_off                settled

From everywhere a request may end: `docs/request-lifecycle.md` has the whole diagram, drawn from this table.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class State(StrEnum):
    """Where a request stands."""

    __hash__ = str.__hash__  # of every key on the hot path; Enum's own is written in Python

    READING = "reading"
    QUEUED = "queued"
    CONNECTING = "connecting"
    AWAITING_HEAD = "awaiting_head"
    HOLDING = "holding"
    ANSWERING = "answering"
    BACKING_OFF = "backing_off"
    SETTLED = "settled"


class Event(StrEnum):
    """What moves a request on."""

    __hash__ = str.__hash__

    SLOT_GRANTED = "slot_granted"
    NO_SLOT = "no_slot"
    CONNECTED = "connected"
    STALE = "stale"
    HEAD = "head"
    FIRST_OUTPUT = "first_output"
    RETRY = "retry"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"
    CLIENT_GONE = "client_gone"
    GIVEN_UP = "given_up"


_TRYING = (State.CONNECTING, State.AWAITING_HEAD, State.HOLDING)
"""States of an attempt of which the client has seen nothing."""
_OPEN = tuple(state for state in State if state is not State.SETTLED)

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        **{(state, Event.SLOT_GRANTED): State.CONNECTING for state in (State.READING, State.QUEUED, State.BACKING_OFF)},
        **{(state, Event.NO_SLOT): State.QUEUED for state in (State.READING, State.BACKING_OFF, State.HOLDING)},
        (State.CONNECTING, Event.CONNECTED): State.AWAITING_HEAD,
        (State.AWAITING_HEAD, Event.STALE): State.CONNECTING,
        (State.AWAITING_HEAD, Event.HEAD): State.HOLDING,
        (State.HOLDING, Event.FIRST_OUTPUT): State.ANSWERING,
        **{(state, Event.RETRY): State.BACKING_OFF for state in _TRYING},
        (State.ANSWERING, Event.COMPLETED): State.SETTLED,
        **{
            (state, Event.FAILED): State.SETTLED
            for state in (*_TRYING, State.ANSWERING, State.BACKING_OFF, State.QUEUED)
        },
        **{(state, Event.REFUSED): State.SETTLED for state in (State.READING, State.QUEUED)},
        **{(state, Event.CLIENT_GONE): State.SETTLED for state in _OPEN},
        **{(state, Event.GIVEN_UP): State.SETTLED for state in _OPEN},
    }
)
"""Every way from state to state; what is not here is a fault of the gateway's own."""

_NEXT: Final = {
    state: {event: TRANSITIONS[state, event] for event in Event if (state, event) in TRANSITIONS} for state in State
}
"""The same, in a form that is asked without making a key."""

# Reading a member through its class takes a call (Python 3.11): what every request asks for is read here instead.
READING: Final = State.READING
ANSWERING: Final = State.ANSWERING
SETTLED: Final = State.SETTLED
SLOT_GRANTED: Final = Event.SLOT_GRANTED
CONNECTED: Final = Event.CONNECTED
HEAD: Final = Event.HEAD
FIRST_OUTPUT: Final = Event.FIRST_OUTPUT
COMPLETED: Final = Event.COMPLETED


class ImpossibleTransition(Exception):
    """An event came in a state that knows none such; a fault of the gateway's own."""


def step(state: State, event: Event) -> State:
    """Return the state that follows; raises ImpossibleTransition."""
    following = _NEXT[state].get(event)
    if following is None:
        raise ImpossibleTransition(f"{event} while {state}")
    return following
