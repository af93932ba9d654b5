"""What `/admin/models/{m}/canary` tells of a rollout, and the report that compares its two versions."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, Field

from gateway.admin.protection import error
from gateway.admin.sent import Sent
from gateway.config.durations import format_duration
from gateway.config.problems import suggest
from gateway.control.rollout_progress import RolloutProgress
from gateway.control.rollouts import RolloutController
from gateway.policy.canary import findings
from gateway.policy.canary.evidence import ALPHA, shown
from gateway.policy.canary.rollout import BY_PEOPLE, Event, Refused, Rollout
from gateway.policy.canary.words import counted
from gateway.telemetry.tally import QUANTILES, Tally, quantile

_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"description": "The model has no canary."},
    409: {"description": "Refused; the message says why."},
}


class MoveStatus(BaseModel):
    """One change of a rollout; `weight` is the candidate's share from then on, in per cent."""

    at: datetime
    phase: str
    step: int
    weight: float
    actor: str
    reason: str


class CanaryStatus(BaseModel):
    """A rollout: `step` counts from 1, 0 while requests are only copied; `decision` says what it waits for.

    `failing` says that the candidate fails at page rate, "" while it does not; `outlook` says how far that is
    at `requests_per_second`, of which `seconds_left` are until this step may end and `seconds_to_promotion` until the
    last one; `command` is what a person may do, "" for nothing. Null: cannot be said.
    """

    model: str
    stable: str
    candidate: str
    phase: str
    step: int
    steps: list[float]
    weight: float
    mirror: float
    since: datetime
    started: datetime | None
    actor: str
    reason: str
    decision: str
    failing: str
    outlook: str
    notes: list[str]
    command: str
    requests_missing: int | None
    requests_per_second: float
    seconds_left: float | None
    seconds_to_promotion: float | None
    requests_in_step: int
    min_requests: int
    error_budget_remaining: float | None
    history: list[MoveStatus]


class VersionReport(BaseModel):
    """What one version did since the rollout began; latencies in seconds by quantile, null without any."""

    version: str
    requests: int
    failed: int
    prompt_tokens: int
    output_tokens: int
    ttft: dict[str, float | None]
    tpot: dict[str, float | None]


class SliReport(BaseModel):
    """One SLI: misses of both versions, and how sure it is that the candidate misses more often.

    `e_value` reaches `roll_back_at` by chance in at most 1 % of the rollouts of a candidate that equals stable.
    """

    sli: str
    stable_bad: int
    stable_total: int
    candidate_bad: int
    candidate_total: int
    set_aside: int
    worst_difference: float | None
    e_value: float


class CanaryReport(BaseModel):
    """Candidate against stable."""

    model: str
    phase: str
    weight: float
    versions: list[VersionReport]
    slis: list[SliReport]
    e_value: float
    roll_back_at: float
    decision: str
    notes: list[str]


class Asked(Sent):
    """Why somebody wants it."""

    reason: Annotated[str, Field(max_length=500)] = ""


class AskedOfRollout(Asked):
    """Why somebody wants it; `despite_budget` starts or resumes although the error budget is short."""

    despite_budget: bool = False


def canary_routes(rollouts: RolloutController) -> APIRouter:
    """Return the paths of rollouts."""
    router = APIRouter(prefix="/admin/models")

    @router.get("/{model:path}/canary", response_model=CanaryStatus, responses={404: _ERRORS[404]})
    async def status(model: str) -> CanaryStatus | Response:
        """Return where a rollout stands, what it waits for, and its way so far."""
        running = rollouts.get(model)
        return _none(model, rollouts) if running is None else canary_status(running, rollouts)

    @router.get("/{model:path}/canary/report", response_model=CanaryReport, responses={404: _ERRORS[404]})
    async def report(model: str) -> CanaryReport | Response:
        """Compare candidate and stable."""
        running = rollouts.get(model)
        return _none(model, rollouts) if running is None else canary_report(running)

    @router.post("/{model:path}/canary/{action}", response_model=CanaryStatus, responses=_ERRORS)
    async def act(
        model: str,
        action: str,
        asked: Annotated[AskedOfRollout | None, Body()] = None,
        x_gateway_actor: Annotated[str, Header()] = "admin API",
    ) -> CanaryStatus | Response:
        """Start, pause, resume, promote or roll back. `x-gateway-actor` says who asks, for the record."""
        if action not in BY_PEOPLE:
            return error(404, "not_found", f"there is no `{action[:64]}`; there are {', '.join(sorted(BY_PEOPLE))}")
        reason = (asked.reason if asked else "") or "no reason given"
        known = rollouts.get(model)
        before = None if known is None else known.rollout
        try:
            running = rollouts.ask(
                model,
                Event(action),
                actor=x_gateway_actor,
                reason=reason,
                despite_budget=asked is not None and asked.despite_budget,
            )
        except KeyError:
            return _none(model, rollouts)
        except Refused as refused:
            return error(409, "rollout_refused", str(refused))
        found = canary_status(running, rollouts)
        if running.rollout is before:
            already = {Event.PAUSE: "paused", Event.START: "started"}.get(Event(action), "in progress")
            found.notes.insert(0, f"already {already}: nothing was changed")
        return found

    return router


def _none(model: str, rollouts: RolloutController) -> Response:
    hint = suggest(model[:128], [each.model for each in rollouts], "models with a canary")
    return error(404, "canary_not_found", f"the routes have no canary for a model `{model[:128]}`; {hint}")


def canary_status(running: RolloutProgress, rollouts: RolloutController) -> CanaryStatus:
    """Return a rollout as people read it."""
    plan, rollout, seen, ahead = running.plan, running.rollout, rollouts.seen(running), rollouts.outlook(running)
    return CanaryStatus(
        model=running.model,
        stable=plan.stable,
        candidate=plan.candidate,
        phase=rollout.phase,
        step=rollout.step + 1,
        steps=list(plan.shares),
        weight=rollout.share,
        mirror=rollout.mirrored(plan),
        since=_time(rollout.since),
        started=_time(rollout.started) if rollout.started else None,
        actor=rollout.actor,
        reason=rollout.reason,
        decision=running.decision.reason,
        failing=findings.failing(running.evidence, plan.stable, plan.candidate) if rollout.is_live else "",
        outlook=ahead.words,
        notes=rollouts.notes(running),
        command=ahead.command,
        requests_missing=ahead.missing,
        requests_per_second=round(seen.traffic.rate, 4),
        seconds_left=ahead.step,
        seconds_to_promotion=ahead.rest,
        requests_in_step=seen.traffic.requests,
        min_requests=plan.min_requests,
        error_budget_remaining=None if seen.budget_left is None else round(seen.budget_left, 4),
        history=[_move(each) for each in running.history],
    )


def canary_report(running: RolloutProgress) -> CanaryReport:
    """Return the comparison of both versions."""
    standings = running.evidence.standings({})
    return CanaryReport(
        model=running.model,
        phase=running.rollout.phase,
        weight=running.rollout.share,
        versions=[_version(name, tally) for name, tally in running.tallies.items()],
        slis=[
            SliReport(
                sli=sli,
                stable_bad=each.side(candidate=False)[1],
                stable_total=sum(each.side(candidate=False)),
                candidate_bad=each.side(candidate=True)[1],
                candidate_total=sum(each.side(candidate=True)),
                set_aside=each.set_aside,
                worst_difference=_rounded(standings[sli].upper),
                e_value=_e(each.comparison.log_e),
            )
            for sli, each in running.evidence.tracks.items()
        ],
        e_value=_e(running.evidence.log_e),
        roll_back_at=1 / ALPHA,
        decision=running.decision.reason,
        notes=[_cold(running)] if running.cold else [],
    )


def _cold(running: RolloutProgress) -> str:
    plan = running.plan
    return (
        f"the latencies of {counted(running.cold, 'request')} of {plan.candidate} do not count: its backends were "
        f"warming up, which takes {plan.warm_up} answers of each and {format_duration(plan.warm_up_time)} "
        "(`warm_up_time`)"
    )


def _version(name: str, tally: Tally) -> VersionReport:
    return VersionReport(
        version=name,
        requests=tally.requests,
        failed=tally.failed,
        prompt_tokens=tally.prompt_tokens,
        output_tokens=tally.output_tokens,
        ttft=_quantiles(quantile(tally.ttft, share) for share in QUANTILES),
        tpot=_quantiles(quantile(tally.tpot, share) for share in QUANTILES),
    )


def _quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    return {
        f"p{share * 100:g}": None if value is None else round(value, 6)
        for share, value in zip(QUANTILES, values, strict=True)
    }


def _move(rollout: Rollout) -> MoveStatus:
    return MoveStatus(
        at=_time(rollout.since),
        phase=rollout.phase,
        step=rollout.step + 1,
        weight=rollout.share,
        actor=rollout.actor,
        reason=rollout.reason,
    )


def _e(log_e: float) -> float:
    return float(f"{shown(log_e):.4g}")


def _rounded(difference: float | None) -> float | None:
    return None if difference is None else round(difference, 5)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
