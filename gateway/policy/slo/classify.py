"""What an ending means: for the backend's availability, for the user's, and for whether to try elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.exchange import ANSWERED, BAD, GOOD, SERVED, UNCOUNTED, AttemptEnd, Fault, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Ruling:
    """What follows from an attempt's ending. `retry` holds only while the client has seen nothing of the answer.

    `outcome` is the request's when this attempt was its last and nothing of the answer had gone out. `fault` is what a
    failure shows of the backend.
    """

    verdict: Verdict
    retry: bool
    outcome: Outcome
    fault: Fault = Fault.SILENCE


_GOOD: Final = Ruling(Verdict.GOOD, retry=False, outcome=Outcome.OK)
_FAILED: Final = Ruling(Verdict.BAD, retry=True, outcome=Outcome.BACKEND_ERROR, fault=Fault.ANSWER)
_BROKEN: Final = Ruling(Verdict.BAD, retry=True, outcome=Outcome.BACKEND_ERROR, fault=Fault.BREAK)
_LATE: Final = Ruling(Verdict.BAD, retry=True, outcome=Outcome.TIMEOUT)

RULINGS: Final[Mapping[AttemptEnd, Ruling]] = MappingProxyType(
    {
        AttemptEnd.OK: _GOOD,
        AttemptEnd.CLIENT_ERROR: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.CLIENT_ERROR),
        AttemptEnd.CLIENT_GONE: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.CLIENT_GONE),
        AttemptEnd.CLIENT_TIMEOUT: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.CLIENT_TIMEOUT),
        AttemptEnd.SATURATED: Ruling(Verdict.UNCOUNTED, retry=True, outcome=Outcome.BACKEND_ERROR),
        AttemptEnd.UNAUTHORIZED: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.BACKEND_ERROR),
        AttemptEnd.SERVER_ERROR: _FAILED,
        AttemptEnd.CONNECT_FAILED: Ruling(Verdict.BAD, retry=True, outcome=Outcome.NO_BACKEND),
        AttemptEnd.NOT_READY: Ruling(Verdict.BAD, retry=True, outcome=Outcome.NO_BACKEND),
        AttemptEnd.CLOSED_EARLY: Ruling(Verdict.BAD, retry=True, outcome=Outcome.BACKEND_ERROR),
        AttemptEnd.STALE: Ruling(Verdict.UNCOUNTED, retry=True, outcome=Outcome.BACKEND_ERROR),
        AttemptEnd.MALFORMED: _FAILED,
        AttemptEnd.TRUNCATED: _BROKEN,
        AttemptEnd.ERROR_EVENT: _FAILED,
        AttemptEnd.STALLED: _LATE,
        AttemptEnd.FIRST_TOKEN_TIMEOUT: _LATE,
        AttemptEnd.DEADLINE_EXCEEDED: Ruling(Verdict.BAD, retry=False, outcome=Outcome.TIMEOUT),
        AttemptEnd.GATEWAY_LATE: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.TIMEOUT),
        AttemptEnd.TOO_LARGE: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.TOO_LARGE),
        AttemptEnd.ABANDONED: Ruling(Verdict.UNCOUNTED, retry=False, outcome=Outcome.INTERNAL),
    }
)
"""The whole table."""
VERDICTS: Final = {end: ruling.verdict for end, ruling in RULINGS.items()}
"""What each ending says about its backend's availability: every attempt asks for that, and a plain dict is quicker."""

FAULTS: Final = {end: ruling.fault for end, ruling in RULINGS.items()}
"""What each failure shows of its backend."""

_COMMITTED: Final[Mapping[AttemptEnd, Outcome]] = MappingProxyType(
    {
        AttemptEnd.OK: Outcome.OK,
        AttemptEnd.CLIENT_ERROR: Outcome.CLIENT_ERROR,
        AttemptEnd.CLIENT_GONE: Outcome.CLIENT_GONE,
        AttemptEnd.CLIENT_TIMEOUT: Outcome.CLIENT_TIMEOUT,
        AttemptEnd.TOO_LARGE: Outcome.TOO_LARGE,
        AttemptEnd.DEADLINE_EXCEEDED: Outcome.TIMEOUT,
        AttemptEnd.GATEWAY_LATE: Outcome.TIMEOUT,
    }
)

_UNCOUNTED: Final = frozenset(
    (Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.CLIENT_TIMEOUT, Outcome.QUOTA, Outcome.TOO_LARGE)
)


def classify_status(status: int, *, busy: bool = False) -> AttemptEnd:
    """Return what a backend's status says, before its body is known: OK is provisional for 2xx.

    `busy` says that the backend is healthy and at work: its 503 then means that it has enough to do.
    """
    if 200 <= status < 300:
        return ANSWERED
    if status in {401, 403}:
        return AttemptEnd.UNAUTHORIZED
    if status == 429 or (status == 503 and busy):
        return AttemptEnd.SATURATED
    if status == 501 or 400 <= status < 500:
        return AttemptEnd.CLIENT_ERROR
    if 500 <= status < 600:
        return AttemptEnd.SERVER_ERROR
    return AttemptEnd.MALFORMED


def classify_error(code: int, *, busy: bool = False) -> AttemptEnd:
    """Return what an error inside a 200 says: the same as the status that it names."""
    end = classify_status(code, busy=busy)
    return AttemptEnd.ERROR_EVENT if end is AttemptEnd.SERVER_ERROR else end


def request_outcome(end: AttemptEnd, *, committed: bool) -> Outcome:
    """Return the request's outcome from its last attempt; `committed` when the client had part of the answer."""
    return _COMMITTED.get(end, Outcome.TRUNCATED) if committed else RULINGS[end].outcome


def request_verdict(outcome: Outcome) -> Verdict:
    """Return what the user experienced."""
    if outcome is SERVED:
        return GOOD
    return UNCOUNTED if outcome in _UNCOUNTED else BAD
