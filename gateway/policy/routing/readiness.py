"""Whether a backend is fit to be sent requests: a small table of states, moved by probes and by failed connects."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PROBES_TO_FALL: Final = 2
CONNECTS_TO_FALL: Final = 3
SILENT_PROBES: Final = 3
"""Probes without an answer by which a backend is lost: on a busy machine one or two may be merely late."""
LOST_FOR_LONG: Final = 10
"""Failed probes after which even an answer that comes in one piece is given up."""


class State(StrEnum):
    """UNKNOWN is before the first probe: such a backend may be tried, since waiting would fail every request."""

    UNKNOWN = "unknown"
    READY = "ready"
    NOT_READY = "not_ready"


class Changes:
    """How often the backends of one pool have changed in whether, and for what, they may be sent requests.

    Lists of those that may be hold until it has grown.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __repr__(self) -> str:
        return f"<Changes {self.count}>"

    def note(self) -> None:
        """Learn of one more."""
        self.count += 1


@dataclass(frozen=True, slots=True)
class Readiness:
    """A state with its reason in words, and how many signs against it came in a row.

    `silent` says that the last probe had no answer at all: neither a refusal nor an error.
    """

    state: State = State.UNKNOWN
    reason: str = "not probed yet"
    failed_probes: int = 0
    failed_connects: int = 0
    silent: bool = False

    def is_lost(self, *, long: bool = False) -> bool:
        """Whether probes say for certain, or for `long`, that no answer will begin there any more."""
        probes = LOST_FOR_LONG if long else SILENT_PROBES if self.silent else PROBES_TO_FALL
        return self.state is State.NOT_READY and self.failed_probes >= probes

    @property
    def eligible(self) -> bool:
        """Whether requests may be sent there."""
        return self.state is not State.NOT_READY


def probe_passed(_: Readiness) -> Readiness:
    """One good probe makes ready: an engine that says so can serve."""
    return Readiness(State.READY, "probes pass")


def probe_failed(current: Readiness, reason: str, *, silent: bool = False) -> Readiness:
    """Two failed probes in a row make not ready, so that one lost packet does not; the first of all does at once."""
    failed = current.failed_probes + 1
    falls = failed >= PROBES_TO_FALL or current.state is not State.READY
    state = State.NOT_READY if falls else current.state
    return Readiness(state, reason, failed, current.failed_connects, silent)


def connect_failed(current: Readiness, reason: str) -> Readiness:
    """Three failed connects in a row make not ready without waiting for the next probe."""
    failed = current.failed_connects + 1
    state = State.NOT_READY if failed >= CONNECTS_TO_FALL else current.state
    return Readiness(state, reason, current.failed_probes, failed, current.silent)


def connected(current: Readiness) -> Readiness:
    """Forget failed connects."""
    if not current.failed_connects:
        return current
    return Readiness(current.state, current.reason, current.failed_probes, 0, current.silent)
