"""The states of a rollout, and what moves it from one to the next.

    idle --start--> waiting --ready--> step --advance--> step --finish--> promoted
                                       |  ^
                                 pause |  | resume
                                       v  |
                                      paused

`rollback` leads from anywhere but idle to rolled back, `promote` from anywhere before it to promoted; a rollout that
was rolled back stays so until it is started again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from gateway.policy.canary.plan import OnStall, Plan

GATEWAY = "tidegate"
"""The actor of what the gateway does by itself."""
MIRRORING = -1
"""The step before the first, in which requests are copied."""
UNREADY_SECONDS = 30.0
"""How long no backend of a candidate in service may be ready."""


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


TRANSITIONS: Mapping[tuple[Phase, Event], Phase] = MappingProxyType(
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
    """A rollout does not do what was asked; the message says why, with the numbers, and what would be right."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A phase and step since when (seconds since the epoch), by whom, and why. `started` is 0.0 before the start."""

    phase: Phase = Phase.IDLE
    step: int = 0
    since: float = 0.0
    started: float = 0.0
    actor: str = GATEWAY
    reason: str = "not started"

    def weight(self, plan: Plan) -> float:
        """Return the candidate's share of requests, in per cent."""
        if self.phase is Phase.PROMOTED:
            return 100.0
        if self.phase in {Phase.STEP, Phase.PAUSED} and self.step >= 0:
            return plan.steps[min(self.step, len(plan.steps) - 1)]
        return 0.0

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

    `unready` is for how many seconds no backend of the candidate could be sent a request, 0.0 while one can; `worse`
    and `guard` say in words what speaks against the candidate, "" for nothing; `requests` are the candidate's in this
    step, `bounds` how much more often it may miss, by SLI; `budget_left` is the model's, None while unknown.
    """

    unready: float = 0.0
    worse: str = ""
    guard: str = ""
    requests: int = 0
    bounds: Mapping[str, float] = field(default_factory=dict)
    budget_left: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens now, None for nothing, and why; an advance leads to `step`."""

    event: Event | None
    reason: str
    step: int = 0


def move(rollout: Rollout, event: Event, now: float, *, actor: str, reason: str, step: int = 0) -> Rollout:
    """Return the rollout after an event; raises Refused where that makes no sense."""
    phase = TRANSITIONS.get((rollout.phase, event))
    if phase is None:
        may = ", ".join(sorted(known for at, known in TRANSITIONS if at is rollout.phase and known in BY_PEOPLE))
        raise Refused(f"cannot {event} a rollout that is {_words(rollout.phase)}; what it can: {may or 'nothing'}")
    started = now if event is Event.START else rollout.started
    kept = rollout.step if event in {Event.PAUSE, Event.RESUME, Event.ROLLBACK, Event.FINISH, Event.PROMOTE} else step
    return Rollout(phase, kept, now, started, actor, reason)


BY_PEOPLE = frozenset((Event.START, Event.PAUSE, Event.RESUME, Event.PROMOTE, Event.ROLLBACK))


def may_start(plan: Plan, budget_left: float | None) -> str:
    """Return "" when the error budget allows a rollout to start, or why it does not."""
    if budget_left is None or budget_left >= plan.freeze_below:
        return ""
    return (
        f"{budget_left * 100:.1f} % of the error budget is left, and no rollout starts below "
        f"{plan.freeze_below * 100:g} % (`freeze_below`): let the budget recover, or `promote` if this is the remedy"
    )


def may_resume(plan: Plan, budget_left: float | None) -> str:
    """Return "" when the error budget allows a paused rollout to go on, or why it does not."""
    if budget_left is None or budget_left >= plan.pause_below:
        return ""
    return (
        f"{budget_left * 100:.1f} % of the error budget is left, and no rollout goes on below "
        f"{plan.pause_below * 100:g} % (`pause_below`): let the budget recover, or `rollback`"
    )


def decide(plan: Plan, rollout: Rollout, seen: Seen, now: float) -> Decision:
    """Return what the gateway does by itself."""
    match rollout.phase:
        case Phase.IDLE:
            return _at_idle(plan, seen)
        case Phase.WAITING:
            return _while_waiting(plan, seen)
        case Phase.STEP:
            return _against(plan, seen) or _in_step(plan, rollout, seen, now)
        case Phase.PAUSED:
            return _against(plan, seen) or Decision(None, rollout.reason)
        case _:
            return Decision(None, rollout.reason)


def _while_waiting(plan: Plan, seen: Seen) -> Decision:
    if seen.unready:
        return Decision(None, f"no backend of {plan.candidate} is ready")
    frozen = may_start(plan, seen.budget_left)
    if frozen:
        return Decision(None, frozen)
    return Decision(Event.READY, f"{plan.candidate} is ready", MIRRORING if plan.mirror else 0)


def _against(plan: Plan, seen: Seen) -> Decision | None:
    """Return the rollback of a candidate that is worse, or cannot be reached."""
    reason = seen.worse or seen.guard
    if not reason and seen.unready > UNREADY_SECONDS:
        reason = f"no backend of {plan.candidate} has been ready for {seen.unready:.0f} s"
    return Decision(Event.ROLLBACK, reason) if reason else None


def _at_idle(plan: Plan, seen: Seen) -> Decision:
    if plan.manual:
        return Decision(None, "waits for `tidegate canary start`")
    frozen = may_start(plan, seen.budget_left)
    if frozen:
        return Decision(None, frozen)
    return Decision(Event.START, f"{plan.candidate} is new")


def _in_step(plan: Plan, rollout: Rollout, seen: Seen, now: float) -> Decision:
    if seen.budget_left is not None and seen.budget_left < plan.pause_below:
        left, limit = seen.budget_left * 100, plan.pause_below * 100
        return Decision(Event.PAUSE, f"{left:.1f} % of the error budget is left, below {limit:g} % (`pause_below`)")
    held = now - rollout.since
    missing = _missing(plan, seen)
    if held < plan.hold:
        return Decision(None, f"held for {held:.0f} s of {plan.hold:g} s")
    if not missing:
        return _advance(plan, rollout, f"held for {held:.0f} s, {seen.requests:,} requests, no SLI is worse")
    if held < plan.max_hold:
        return Decision(None, missing)
    return _at_stall(plan, rollout, f"{missing}, for {held:.0f} s")


def _at_stall(plan: Plan, rollout: Rollout, missing: str) -> Decision:
    reason = f"{missing} (`max_hold` {plan.max_hold:g} s, `on_stall: {plan.on_stall}`)"
    match plan.on_stall:
        case OnStall.PROMOTE:
            return _advance(plan, rollout, reason)
        case OnStall.ROLLBACK:
            return Decision(Event.ROLLBACK, reason)
        case _:
            return Decision(Event.PAUSE, reason)


def _missing(plan: Plan, seen: Seen) -> str:
    """Return what a step still lacks, "" when it may end."""
    if seen.requests < plan.min_requests:
        return f"{seen.requests:,} requests of `min_requests` {plan.min_requests:,}"
    for sli, bound in seen.bounds.items():
        if bound >= plan.margin:
            return (
                f"{sli} may still miss {bound * 100:.2f} percentage points more often than stable's "
                f"(`margin` {plan.margin * 100:g})"
            )
    return ""


def _advance(plan: Plan, rollout: Rollout, reason: str) -> Decision:
    step = rollout.step + 1
    if step >= len(plan.steps):
        return Decision(Event.FINISH, reason)
    return Decision(Event.ADVANCE, reason, step)


def resumed(plan: Plan, rollout: Rollout, weight: float) -> Rollout:
    """Return a rollout under a changed plan: at the highest step that is not above the share it had (per cent)."""
    if rollout.step == MIRRORING or rollout.phase not in {Phase.STEP, Phase.PAUSED}:
        return rollout
    below = [place for place, step in enumerate(plan.steps) if step <= weight]
    return replace(rollout, step=below[-1] if below else 0)


def _words(phase: Phase) -> str:
    return "in progress" if phase is Phase.STEP else phase.replace("_", " ")
