"""What a person who looks at a rollout wants to know: what it waits for, how long, and which command helps."""

from dataclasses import dataclass
from math import inf

from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import GATEWAY, MIRRORING, Phase, Rollout, Seen, may_stand_in
from gateway.policy.canary.words import how_far, per_second, remedy, span, stalls


@dataclass(frozen=True, slots=True)
class Outlook:
    """How much longer a rollout takes.

    `missing` is how many requests of the candidate this step still needs, `step` and `rest` are the seconds until the
    step ends and until promotion, None where they are unknown. `words` tell it, and `command` is what a person may run.
    """

    missing: int | None
    step: float | None
    rest: float | None
    words: str
    command: str


def outlook(plan: Plan, rollout: Rollout, seen: Seen, now: float, model: str) -> Outlook:
    """Return what lies ahead of a rollout, at the traffic seen."""
    traffic, command = seen.traffic, _command(plan, rollout, seen, model)
    if rollout.phase in {Phase.PROMOTED, Phase.ROLLED_BACK}:
        return Outlook(None, None, None, "", command)
    live = rollout.is_live and rollout.step != MIRRORING
    share = rollout.share if live else traffic.first_step(plan)
    held = seen.held(rollout, now) if rollout.phase is Phase.STEP and live else 0.0
    missing = traffic.missing(plan, share)
    step = max(0.0, plan.held_for(share) - held, traffic.seconds(plan, share))
    rest = traffic.rest(plan, share, held)
    if not seen.stable_ready:
        serves = f"; {plan.candidate} serves meanwhile if it is ready" if may_stand_in(plan, rollout) else ""
        command = f"tidegate canary promote {model}, if {plan.stable} is gone for good"
        return Outlook(missing, None, None, f"goes on once {plan.stable} is ready{serves}", command)
    if not traffic.rate:
        return Outlook(missing, None, None, "too few requests seen to say how long it takes", command)
    begins = "once resumed, " if rollout.phase is Phase.PAUSED else "" if live else f"once started at {share:g} %, "
    words = f"{begins}{how_far(plan, share, traffic)}; " if missing else begins
    nxt = plan.after(share)
    if step != inf and nxt < 100.0:
        words += f"{nxt:g} % in {span(step)}, "
    words += "promotion is not in sight" if rest == inf else f"promotion in {span(rest)} at {per_second(traffic.rate)}"
    if ends := stalls(plan, share, traffic, rollout.predicted if live else 0.0, held):
        words += f"; {ends}"
    return Outlook(missing, None if step == inf else step, None if rest == inf else rest, words, command)


def _command(plan: Plan, rollout: Rollout, seen: Seen, model: str) -> str:
    frozen = seen.budget_left is not None and seen.budget_left < plan.freeze_below
    starts = f"tidegate canary start {model}" + (" --despite-budget" if frozen else "")
    match rollout.phase:
        case Phase.IDLE:
            return starts if plan.manual or frozen else ""
        case Phase.WAITING:
            return starts if frozen and not rollout.despite_budget else ""
        case Phase.PAUSED:
            short = seen.budget_left is not None and seen.budget_left < plan.pause_below and not rollout.despite_budget
            helps = remedy(plan, rollout.share, seen.traffic, rollout.predicted, model)
            return f"tidegate canary resume {model} --despite-budget" if short else helps
        case Phase.ROLLED_BACK:
            by_itself = rollout.actor == GATEWAY
            return f"tidegate canary report {model}; to try again: {starts}" if by_itself else starts
        case Phase.PROMOTED:
            return f"make {plan.candidate} the `stable` of the routes, or their only version"
        case _:
            return f"tidegate canary report {model}"
