"""The states of a rollout, and what moves it from one to the next.

    idle --start--> waiting --ready--> step --advance--> step --finish--> promoted
                                       |  ^
                                 pause |  | resume
                                       v  |
                                      paused

`rollback` leads from anywhere but idle to rolled back, `promote` from anywhere before it to promoted; a rollout that
was rolled back stays so until it is started again. The candidate's share is part of the rollout, not of the plan: only
a move changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from types import MappingProxyType
from typing import Final

from gateway.policy.canary.forecast import ENOUGH_TRAFFIC, Traffic
from gateway.policy.canary.plan import LAST, WIDEST_FIRST, OnStall, Plan
from gateway.policy.canary.words import counted, how_far, no_stable, per_second, percent, remedy, span

GATEWAY: Final = "tidegate"
"""The actor of what the gateway decides."""
MIRRORING: Final = -1
"""The step before the first, in which requests are copied."""
UNREADY_SECONDS: Final = 30.0
"""How long no backend of a candidate in service may be ready."""
WATCHED: Final = 300.0
"""Seconds after which `auto` starts even though hardly any traffic was seen."""
_EXPECTED: Final = 20.0
"""Requests due in a step of which none came: chance does that once in 500 million times, sticky clients do."""


class Phase(StrEnum):
    """Where a rollout stands: the closed set of the `phase` label."""

    IDLE = "idle"
    WAITING = "waiting"
    STEP = "step"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Event(StrEnum):
    """What moves a rollout: what people may ask for, and what the gateway finds."""

    START = "start"
    READY = "ready"
    ADVANCE = "advance"
    FINISH = "finish"
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = MappingProxyType(
    {
        (Phase.IDLE, Event.START): Phase.WAITING,
        (Phase.ROLLED_BACK, Event.START): Phase.WAITING,
        (Phase.WAITING, Event.READY): Phase.STEP,
        (Phase.STEP, Event.ADVANCE): Phase.STEP,
        (Phase.STEP, Event.FINISH): Phase.PROMOTED,
        (Phase.STEP, Event.PAUSE): Phase.PAUSED,
        (Phase.PAUSED, Event.RESUME): Phase.STEP,
        **{(phase, Event.PROMOTE): Phase.PROMOTED for phase in (Phase.IDLE, Phase.WAITING, Phase.STEP, Phase.PAUSED)},
        **{
            (phase, Event.ROLLBACK): Phase.ROLLED_BACK
            for phase in (Phase.WAITING, Phase.STEP, Phase.PAUSED, Phase.PROMOTED)
        },
    }
)
"""Every way from phase to phase; what is not here is refused."""


class Refused(Exception):
    """A rollout does not do what was asked; the message says why, with the numbers, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A phase and step since when (seconds since the epoch), by whom, and why. `started` is 0.0 before the start.

    `share` is the candidate's, in per cent; `predicted` is how many seconds the step was expected to take when it
    began; `despite_budget` says that a person started it although the error budget is short.
    """

    phase: Phase = Phase.IDLE
    step: int = 0
    since: float = 0.0
    started: float = 0.0
    actor: str = GATEWAY
    reason: str = "not started"
    share: float = 0.0
    predicted: float = 0.0
    despite_budget: bool = False

    def mirrored(self, plan: Plan) -> float:
        """Return the share of requests copied to the candidate, in per cent."""
        return plan.mirror if self.phase is Phase.STEP and self.step == MIRRORING else 0.0

    @property
    def is_live(self) -> bool:
        """Whether outcomes are compared."""
        return self.phase in {Phase.STEP, Phase.PAUSED}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at one moment.

    `unready` is for how many seconds no backend of the candidate could be sent a request while one of stable's could;
    `stable_ready` says whether one of stable's can, and `away` for how many seconds of this step none could; `worse`
    and `guard` say in words what speaks against the candidate, `failing` that it fails every request while one of
    stable's may be sent some, ready or not, `doubt` what a person should look at, None for nothing;
    `watched` is for how many seconds the model's traffic has been counted; `budget_left` is the model's, None while
    unknown.
    """

    unready: float = 0.0
    stable_ready: bool = True
    away: float = 0.0
    worse: str | None = None
    guard: str | None = None
    failing: str | None = None
    doubt: str | None = None
    traffic: Traffic = Traffic()  # noqa: RUF009 - frozen
    watched: float = inf
    budget_left: float | None = None

    def held(self, rollout: Rollout, now: float) -> float:
        """Return for how many seconds a step has had something to compare with."""
        return now - rollout.since - self.away


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens now, None for nothing, and why; `share` is what the candidate gets from then on, in per cent."""

    event: Event | None
    reason: str
    step: int = 0
    share: float = 0.0
    predicted: float = 0.0


BY_PEOPLE: Final = frozenset((Event.START, Event.PAUSE, Event.RESUME, Event.PROMOTE, Event.ROLLBACK))
_KEEPS: Final = frozenset((Event.PAUSE, Event.RESUME))
_STAYS: Final = _KEEPS | {Event.ROLLBACK, Event.FINISH, Event.PROMOTE}


def move(rollout: Rollout, event: Event, now: float, *, actor: str, decision: Decision) -> Rollout:
    """Return the rollout after an event; raises Refused where that makes no sense."""
    phase = TRANSITIONS.get((rollout.phase, event))
    if phase is None:
        may = ", ".join(sorted(known for at, known in TRANSITIONS if at is rollout.phase and known in BY_PEOPLE))
        asked = "roll back" if event is Event.ROLLBACK else event
        raise Refused(f"cannot {asked} a rollout that is {_words(rollout.phase)}; possible: {may or 'nothing'}")
    share = decision.share
    if event in _KEEPS:
        share = rollout.share
    elif phase in {Phase.PROMOTED, Phase.ROLLED_BACK}:
        share = 100.0 if phase is Phase.PROMOTED else 0.0
    return Rollout(
        phase,
        rollout.step if event in _STAYS else decision.step,
        now,
        now if event is Event.START else rollout.started,
        actor,
        decision.reason,
        share,
        rollout.predicted if event in _KEEPS else decision.predicted,
        rollout.despite_budget and event is not Event.START,
    )


def may_stand_in(plan: Plan, rollout: Rollout) -> bool:
    """Whether the candidate may serve in stable's stead: not one that a person rolled back, or has yet to start."""
    if rollout.phase is Phase.ROLLED_BACK:
        return rollout.actor == GATEWAY
    return not (plan.manual and rollout.phase is Phase.IDLE)


def start_blocker(plan: Plan, budget_left: float | None, model: str = "MODEL") -> str | None:
    """Return why the error budget does not allow a rollout to start, None when it does."""
    if budget_left is None or budget_left >= plan.freeze_below:
        return None
    return (
        f"{_left(budget_left)}, and no rollout starts below {plan.freeze_below * 100:g} % (`freeze_below`): it starts "
        f"when old failures leave the window, or now, step by step, with `tidegate canary start {model} "
        "--despite-budget` if this version is the fix"
    )


def resume_blocker(plan: Plan, budget_left: float | None, model: str = "MODEL") -> str | None:
    """Return why the error budget does not allow a paused rollout to go on, None when it does."""
    if budget_left is None or budget_left >= plan.pause_below:
        return None
    return (
        f"{_left(budget_left)}, and no rollout goes on below {plan.pause_below * 100:g} % (`pause_below`): resume it "
        f"when old failures have left the window, or now with `tidegate canary resume {model} --despite-budget`"
    )


def decide(plan: Plan, rollout: Rollout, seen: Seen, now: float, model: str = "MODEL") -> Decision:
    """Return what the gateway does now."""
    match rollout.phase:
        case Phase.IDLE:
            return _at_idle(plan, seen, model)
        case Phase.WAITING:
            return _while_waiting(plan, rollout, seen, model)
        case Phase.STEP:
            return (
                against(plan, seen)
                or _for_a_person(plan, rollout, seen, model)
                or _in_step(plan, rollout, seen, now, model)
            )
        case Phase.PAUSED:
            return against(plan, seen) or Decision(None, rollout.reason)
        case _:
            return Decision(None, rollout.reason)


def _while_waiting(plan: Plan, rollout: Rollout, seen: Seen, model: str) -> Decision:
    if seen.unready:
        return Decision(None, f"no backend of {plan.candidate} is ready")
    frozen = None if rollout.despite_budget else start_blocker(plan, seen.budget_left, model)
    if frozen:
        return Decision(None, frozen)
    if not seen.stable_ready:
        return Decision(None, no_stable(plan))
    if plan.is_auto and not seen.traffic.rate and seen.watched < WATCHED:
        return Decision(
            None,
            f"counts requests to choose the first step: starts after {ENOUGH_TRAFFIC} requests, or in "
            f"{WATCHED - seen.watched:.0f} s",
        )
    if plan.mirror:
        return Decision(Event.READY, f"{plan.candidate} is ready", MIRRORING, 0.0, plan.hold)
    share = seen.traffic.first_step(plan)
    rest = seen.traffic.rest(plan, share)
    told = "" if rest == inf else f"; promotion in about {span(rest)} at {per_second(seen.traffic.rate)}"
    return _to(plan, seen, Event.READY, share, f"{plan.candidate} is ready{told}")


def _to(plan: Plan, seen: Seen, event: Event, share: float, reason: str) -> Decision:
    predicted = seen.traffic.step(plan, share)
    return Decision(event, reason, plan.place(share), share, 0.0 if predicted == inf else predicted)


def against(plan: Plan, seen: Seen) -> Decision | None:
    """Return the rollback of a candidate that is worse, or cannot be reached.

    While stable is not ready, only of one that fails every request: it carries stable's load, and may be slow for that.
    """
    reason = (seen.worse or seen.guard) if seen.stable_ready else seen.failing
    if not reason and seen.stable_ready and seen.unready > UNREADY_SECONDS:
        reason = f"no backend of {plan.candidate} has been ready for {seen.unready:.0f} s"
    return Decision(Event.ROLLBACK, reason) if reason else None


def _at_idle(plan: Plan, seen: Seen, model: str) -> Decision:
    if plan.manual:
        return Decision(None, f"waits for `tidegate canary start {model}`")
    frozen = start_blocker(plan, seen.budget_left, model)
    if frozen:
        return Decision(None, frozen)
    if not seen.stable_ready:
        return Decision(None, no_stable(plan))
    return Decision(Event.START, f"{plan.candidate} is new")


def _for_a_person(plan: Plan, rollout: Rollout, seen: Seen, model: str) -> Decision | None:
    """Return the pause of a step that a person should look at."""
    frozen = None if rollout.despite_budget else resume_blocker(plan, seen.budget_left, model)
    if frozen:
        return Decision(Event.PAUSE, frozen)
    if seen.doubt:
        return Decision(
            Event.PAUSE,
            f"{seen.doubt}: compare both with `tidegate canary report {model}`, then `resume` or `rollback`",
        )
    return None


def _in_step(plan: Plan, rollout: Rollout, seen: Seen, now: float, model: str) -> Decision:
    if not seen.stable_ready:
        return Decision(None, no_stable(plan))
    held = seen.held(rollout, now)
    share = rollout.share
    if rollout.step == MIRRORING:
        missing = _few_requests(plan, seen, "copy")
        least, longest = plan.hold, plan.longest(0.0)
    else:
        missing = _missing(plan, share, seen)
        least, longest = plan.held_for(share), plan.longest(rollout.predicted)
    if held < least:
        return Decision(None, f"held for {span(held)} of {span(least)}" + (f"; {missing}" if missing else ""))
    if not missing:
        return _advance(
            plan, rollout, seen, f"held for {span(held)}, {counted(seen.traffic.requests, 'request')}, no SLI is worse"
        )
    if _is_empty(plan, rollout, seen, held):
        return _advance(plan, rollout, seen, f"held for {span(held)}, and no client is in {share:g} % of requests")
    if held < longest:
        return Decision(None, missing)
    missing = f"{missing}: {how_far(plan, share, seen.traffic)}"
    return _at_stall(plan, rollout, seen, f"{missing}; held for {span(held)} (`max_hold` {span(longest)}", model)


def _is_empty(plan: Plan, rollout: Rollout, seen: Seen, held: float) -> bool:
    """Whether none of few sticky clients is in a step of `auto`: it might as well have begun with the next one."""
    expected = seen.traffic.rate * rollout.share / 100 * held
    return plan.is_auto and 0 < rollout.share < WIDEST_FIRST and not seen.traffic.requests and expected >= _EXPECTED


def _at_stall(plan: Plan, rollout: Rollout, seen: Seen, missing: str, model: str) -> Decision:
    reason = f"{missing}, `on_stall: {plan.on_stall}`)"
    match plan.on_stall:
        case OnStall.PROMOTE:
            return _advance(plan, rollout, seen, reason)
        case OnStall.ROLLBACK:
            return Decision(Event.ROLLBACK, reason)
        case _:
            helps = remedy(plan, rollout.share, seen.traffic, rollout.predicted, model)
            return Decision(Event.PAUSE, f"{reason}: {helps}")


def _missing(plan: Plan, share: float, seen: Seen) -> str:
    """Return what a step still lacks, "" when it may end."""
    traffic = seen.traffic
    few = _few_requests(plan, seen, "request")
    to = plan.after(share)
    for sli, standing in traffic.slis.items():
        if few or standing.may_go_on(to, plan.margin):
            continue
        if standing.upper is None:
            side = plan.stable if sum(standing.candidate) else plan.candidate
            few = f"{side} has had no request to judge {sli} by"
        else:
            few = (
                f"worst case for {sli}: {percent(standing.upper)} points below stable; must be under "
                f"{percent(standing.bound(to, plan.margin))} before {_named(to)} (`margin` {plan.margin:g})"
            )
    return few


def _named(share: float) -> str:
    return "promotion" if share == 100.0 else f"the {share:g} % step"


def _few_requests(plan: Plan, seen: Seen, what: str) -> str:
    if seen.traffic.requests >= plan.min_requests:
        return ""
    return f"{counted(seen.traffic.requests, what)} of `min_requests` {plan.min_requests:,}"


def _advance(plan: Plan, rollout: Rollout, seen: Seen, reason: str) -> Decision:
    if rollout.step == MIRRORING:
        return _to(plan, seen, Event.ADVANCE, seen.traffic.first_step(plan), reason)
    share = plan.after(rollout.share)
    if share == 100.0:
        return Decision(Event.FINISH, reason, rollout.step, share)
    return _to(plan, seen, Event.ADVANCE, share, reason)


def migrated(rollout: Rollout, share: float) -> Rollout:
    """Return a rollout that was kept by a version before 0.2 without its share, which was `share` per cent.

    A last step of 100 % becomes one of 95 %, so that there is something to compare with.
    """
    if rollout.is_live and share > LAST:
        return replace(rollout, share=LAST, reason=f"{rollout.reason}; 5 % stay on stable in the last step")
    return replace(rollout, share=share)


def _left(budget_left: float) -> str:
    if budget_left < 0:
        return f"the error budget is overspent by {-budget_left * 100:.0f} %"
    return f"{budget_left * 100:.1f} % of the error budget is left"


def _words(phase: Phase) -> str:
    return "in progress" if phase is Phase.STEP else phase.replace("_", " ")
