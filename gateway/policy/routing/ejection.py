"""Taking a backend out of service, and back in: one table of states, and the rules of when.

    in service --eject--> ejected --time--> half-open --answered or time--> slow start --time--> in service
                             ^                  |                               |
                             +----- failed -----+----------- eject -------------+

Half-open ends by time too where no request comes: each of the few that do come would go to the very backend that is in
doubt, and its probes pass.

One that is out because it is slow, and not because it fails, goes to slow start at once where the rest of its pool has
no free slot: a slow answer is better than a refusal. So does one that was unreachable, once it has shown that it works.

A backend that was unreachable comes back at half-open, from wherever it was in service, and from its first ejection of
late: what it was like before, or how it failed as it went, says little about an engine that has restarted. One that can
be reached for the first time is new, not back: it begins at slow start, or in service where its peers are as new.

The terms are Envoy's (outlier detection: ejection, maximum ejection, panic) and Nygard's ("Release It!": half-open).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.policy.routing.pick import Chance

PAUSE: Final = 4.0
"""Seconds until a backend that has only come back, and was never ejected, is tried again."""
JITTER: Final = 0.1
PROBES: Final = 3
"""Good answers in a row, asked for one at a time, that end an ejection."""
SLOW_START: Final = 60.0
"""Seconds over which the weight of a returned backend grows to its full height."""
WARM_UP: Final = 5.0
"""The same for a backend that has only come back, or is new."""
QUIET: Final = 60.0
"""Seconds without a request after which a half-open backend returns, its probes having passed all the time."""
TURN: Final = 5.0
"""Seconds, and up to twice as many, by which a gateway that found an ejection tries the backend before others do."""
LEAST_WEIGHT: Final = 0.02


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a backend is ejected, and for how long: what a pool may set for itself.

    `consecutive_failures` eject at once; a burn rate does only with `min_requests` in the last minute. The first
    ejection lasts `base_ejection_time` seconds, each recent one adds as much, up to `max_ejection_time`. At most
    `max_ejection_percent` of the pool are out at a time.
    """

    consecutive_failures: int = 5
    min_requests: int = 10
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_percent: int = 50

    def most_out(self, backends: int) -> int:
        """Return how many of so many backends may be out at a time."""
        return backends * self.max_ejection_percent // 100


USUAL: Final = Thresholds()


class State(StrEnum):
    """Whether a backend gets requests: the closed set of the `ejection` label."""

    IN_SERVICE = "in_service"
    EJECTED = "ejected"
    HALF_OPEN = "half_open"
    SLOW_START = "slow_start"


class Event(StrEnum):
    """What moves a backend from state to state."""

    EJECT = "eject"
    TIME = "time"
    ANSWERED = "answered"
    FAILED = "failed"
    RETURNED = "returned"
    BEGAN = "began"
    NEEDED = "needed"
    TOLD = "told"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.IN_SERVICE, Event.EJECT): State.EJECTED,
        (State.SLOW_START, Event.EJECT): State.EJECTED,
        (State.EJECTED, Event.TIME): State.HALF_OPEN,
        (State.HALF_OPEN, Event.ANSWERED): State.SLOW_START,
        (State.HALF_OPEN, Event.TIME): State.SLOW_START,
        (State.HALF_OPEN, Event.FAILED): State.EJECTED,
        (State.SLOW_START, Event.TIME): State.IN_SERVICE,
        (State.IN_SERVICE, Event.RETURNED): State.HALF_OPEN,
        (State.SLOW_START, Event.RETURNED): State.HALF_OPEN,
        (State.EJECTED, Event.RETURNED): State.HALF_OPEN,
        (State.HALF_OPEN, Event.RETURNED): State.HALF_OPEN,
        (State.IN_SERVICE, Event.BEGAN): State.SLOW_START,
        (State.EJECTED, Event.NEEDED): State.SLOW_START,
        (State.HALF_OPEN, Event.NEEDED): State.SLOW_START,
        (State.IN_SERVICE, Event.TOLD): State.EJECTED,
        (State.SLOW_START, Event.TOLD): State.EJECTED,
        (State.EJECTED, Event.TOLD): State.EJECTED,
        (State.HALF_OPEN, Event.TOLD): State.EJECTED,
    }
)
"""Every way from state to state; what is not here changes nothing."""


class Cause(StrEnum):
    """Why a backend was ejected: the closed set of the `reason` label."""

    FAILURES = "failures"
    BURN = "burn"
    PROBE = "probe"
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class EjectionState:
    """A state since when, until when (seconds; 0.0 for good), after how many recent ejections, and why.

    `slow` says that it is out because it is slow, not because it fails; `returned` that it was merely unreachable, and
    no trial of it has failed since; `by_peer` that another gateway found why, and this one nothing; `out` whether it is
    taken out of service.
    """

    state: State = State.IN_SERVICE
    since: float = 0.0
    until: float = 0.0
    ejections: int = 0
    answered: int = 0
    reason: str = "never ejected"
    slow: bool = False
    returned: bool = False
    by_peer: bool = False
    out: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", self.state is State.EJECTED or self.state is State.HALF_OPEN)


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a backend is out until a time, as one gateway found by how it answers, and tells the others.

    It is `slow`, or fails in a `share` of its answers (0 to 1). `since` is when that was found, or when failures
    `in_row` began: what it answered well to later requests speaks against these. Times are seconds.
    """

    until: float
    reason: str
    slow: bool = False
    share: float = 1.0
    since: float = 0.0
    in_row: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A backend's change of standing; `cause` only when it was ejected, `finding` when that concerns all gateways."""

    backend: str
    before: State
    after: EjectionState
    cause: Cause | None = None
    finding: Finding | None = None


def eject(
    standing: EjectionState, now: float, reason: str, rng: Chance, *, slow: bool = False, by: Thresholds = USUAL
) -> EjectionState:
    """Take out for 30 s times the number of recent ejections, at most 300 s, give or take a tenth.

    KeyError from a state that knows no ejection: a backend that is out cannot be ejected.
    """
    return _out(replace(standing, ejections=standing.ejections + 1, slow=slow), Event.EJECT, now, reason, rng, by=by)


def told(
    standing: EjectionState, now: float, finding: Finding, rng: Chance, *, by: Thresholds = USUAL
) -> EjectionState:
    """Take out what another gateway found to fail, or keep it out for longer.

    It stays out for a few seconds more than there: the other one tries it first, and tells when it still fails. One
    that is out for what this gateway found itself is its own to try.
    """
    if standing.out and not standing.by_peer:
        return standing
    until = min(finding.until + TURN * (1 + rng.random()), now + by.max_ejection_time)
    reason = f"another gateway found: {finding.reason}"
    if standing.state is State.EJECTED:
        slow = standing.slow and finding.slow
        return replace(standing, until=max(standing.until, until), slow=slow, reason=reason)
    state, more = TRANSITIONS[standing.state, Event.TOLD], not standing.out
    return EjectionState(state, now, until, standing.ejections + more, 0, reason, finding.slow, by_peer=True)


def answered(standing: EjectionState, now: float) -> EjectionState:
    """Count a good answer of a half-open backend; after three in a row it returns, slowly."""
    if standing.state is not State.HALF_OPEN:
        return standing
    if standing.answered + 1 < PROBES:
        return replace(standing, answered=standing.answered + 1, until=now + QUIET)
    return _slowly(standing, Event.ANSWERED, now, f"{PROBES} good answers in a row")


def returned(standing: EjectionState, now: float) -> EjectionState:
    """Ask a backend that can be reached again one request at a time first.

    One that was ejected time and again stays so for its time: it restarts because it fails.
    """
    if standing.state is State.EJECTED and standing.ejections > 1:
        return standing
    state, reason = TRANSITIONS[standing.state, Event.RETURNED], "could not be reached, and can be again"
    until = standing.until if standing.state is state else now + QUIET
    return EjectionState(state, now, until, standing.ejections, 0, reason, slow=standing.slow, returned=True)


def began(standing: EjectionState, now: float) -> EjectionState:
    """Let the share of a backend grow slowly that can be reached for the first time while its peers are at work."""
    if (standing.state, Event.BEGAN) not in TRANSITIONS:
        return standing
    return _slowly(standing, Event.BEGAN, now, "was reached for the first time")


def unsettled(standing: EjectionState, now: float) -> EjectionState:
    """Start the time without requests from zero: a half-open backend is in use, or cannot be used."""
    return replace(standing, until=now + QUIET) if standing.state is State.HALF_OPEN else standing


def failed(
    standing: EjectionState, now: float, reason: str, rng: Chance, *, slow: bool = False, by: Thresholds = USUAL
) -> EjectionState:
    """Take a half-open backend that did not answer well out again, as long as before: it is the same trouble."""
    return _out(replace(standing, slow=slow), Event.FAILED, now, reason, rng, by=by)


def needed(standing: EjectionState, now: float) -> EjectionState:
    """Take back one that is out because it is slow, or was away: the rest of its pool has no free slot."""
    if not (standing.slow or standing.returned) or (standing.state, Event.NEEDED) not in TRANSITIONS:
        return standing
    why = "could not be reached, and can be again" if standing.returned else "is slow"
    return _slowly(standing, Event.NEEDED, now, f"{why}, and the rest of its pool has no free slot")


def idled(standing: EjectionState, seconds: float) -> EjectionState:
    """Nothing was at work for so long: the share of a backend that no request has tried grows by none of that.

    Otherwise half of a burst after a pause would meet one that is still sick.
    """
    if standing.state is not State.SLOW_START or standing.answered:
        return standing
    return replace(standing, since=standing.since + seconds, until=standing.until + seconds)


def elapse(standing: EjectionState, now: float, by: Thresholds = USUAL) -> EjectionState:
    """Let time end an ejection, a wait for requests or a slow start, and forget an ejection that is long ago."""
    if standing.state is State.IN_SERVICE:
        if standing.ejections and now - standing.since >= by.max_ejection_time:
            return replace(standing, since=now, ejections=standing.ejections - 1)
        return standing
    if now < standing.until:
        return standing
    state = TRANSITIONS[standing.state, Event.TIME]
    if state is State.HALF_OPEN:
        reason = f"was ejected: {standing.reason}"
        by_peer = standing.by_peer
        return EjectionState(state, now, now + QUIET, standing.ejections, 0, reason, standing.slow, by_peer=by_peer)
    if state is State.SLOW_START:
        return _slowly(standing, Event.TIME, now, f"no request in {QUIET:g} s, and its probes pass")
    return EjectionState(state, now, 0.0, standing.ejections, 0, "slow start is over")


def weight(burn: float, standing: EjectionState, now: float) -> float:
    """Return the share of its due that a backend gets, from 0.02 to 1, by its routing burn and its slow start."""
    ramp = 1.0
    if standing.state is State.SLOW_START and now < standing.until:
        ramp = (now - standing.since) / (standing.until - standing.since)
    return max(LEAST_WEIGHT, min(1.0, 1.0 / burn) * ramp)


@dataclass(frozen=True, slots=True)
class Member:
    """One backend as the rules for its whole pool see it.

    `gone` it cannot be asked (not ready); `burning` it spends its budget at page rate, for whatever cause; `guilty`
    that is its own doing, in the words of `reason`, "" where another gateway says so; `slow` it answers late, but does
    not fail. `carries` are requests that it works on, `spare` are its free slots; `works` it has produced something
    since its standing changed.
    """

    standing: EjectionState
    gone: bool = False
    burning: bool = False
    guilty: bool = False
    reason: str = ""
    slow: bool = False
    carries: int = 0
    spare: int = 1 << 31
    works: bool = False

    @property
    def is_useful(self) -> bool:
        """Whether it is out, but better than no backend: it is only slow, or was only away and works again."""
        standing = self.standing
        return standing.out and not self.gone and (standing.slow or (standing.returned and self.works))


@dataclass(frozen=True, slots=True)
class Ruling:
    """Which members (by index) to eject now, and whether ejections are to be ignored, with the reason in words.

    `needed` are those that are out although the rest has no free slot, and are only slow, or were only away.
    """

    eject: tuple[int, ...]
    panic: bool
    reason: str = field(default="", compare=False)
    needed: tuple[int, ...] = ()


def rule(members: Sequence[Member], by: Thresholds = USUAL) -> Ruling:
    """Eject the guilty, at most half of the pool, or what its thresholds allow.

    Where more than half is out or burning, the fault is the load's or ours: panic, and ejections are ignored. One that
    is only slow stays where the rest could not take over what it carries.
    """
    troubled = sum(member.burning or member.standing.out for member in members)
    gone = sum(member.gone and not (member.burning or member.standing.out) for member in members)
    if troubled and (troubled + gone) * 2 > len(members) > 1:
        unfit = f"{troubled + gone} of {len(members)} backends are ejected, not ready or far beyond their budget"
        return Ruling((), panic=True, reason=unfit)
    room = by.most_out(len(members)) - sum(member.gone or member.standing.out for member in members)
    serving = [i for i, member in enumerate(members) if not (member.gone or member.standing.out)]
    spare = sum(members[i].spare for i in serving)
    ejected: list[int] = []
    for i in serving:
        member, rest = members[i], spare - members[i].spare
        if member.guilty and len(ejected) < room and (not member.slow or rest >= member.carries):
            ejected.append(i)
            spare = rest - member.carries
    short = bool(serving) and not spare
    needed = tuple(i for i, member in enumerate(members) if short and member.is_useful)
    return Ruling(tuple(ejected), panic=False, needed=needed)


def _slowly(standing: EjectionState, event: Event, now: float, reason: str) -> EjectionState:
    until = now + (SLOW_START if standing.ejections else WARM_UP)
    answered = PROBES if event is Event.ANSWERED else 0
    return EjectionState(TRANSITIONS[standing.state, event], now, until, standing.ejections, answered, reason)


def _out(
    standing: EjectionState, event: Event, now: float, reason: str, rng: Chance, *, by: Thresholds
) -> EjectionState:
    seconds = (by.base_ejection_time * standing.ejections or PAUSE) * (1 + JITTER * (2 * rng.random() - 1))
    until = now + min(by.max_ejection_time, seconds)
    return EjectionState(TRANSITIONS[standing.state, event], now, until, standing.ejections, 0, reason, standing.slow)
