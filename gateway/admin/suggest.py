"""What `/admin/models/{m}/slo/suggest` tells: objectives that would have been met, and what they would have cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from gateway.admin.protection import no_such_model
from gateway.clock import Clock
from gateway.config.durations import format_duration
from gateway.config.table import ModelSpec
from gateway.control.reload import Reloader
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Objective, Sli
from gateway.policy.slo.observed import BOUNDS, OBSERVED, STEPS, Observed
from gateway.policy.slo.series import Kind
from gateway.policy.slo.suggestion import Suggestion, TooFew, availability, latency
from gateway.telemetry.latency_profile import LatencyProfile

_Target: TypeAlias = Annotated[float, Query(ge=90.0, lt=100.0)]
_Headroom: TypeAlias = Annotated[float, Query(ge=0.0, le=10.0)]
_BY_LENGTH = {Sli.TTFT: True, Sli.TPOT: False, Sli.E2E: True}


class SuggestedStep(BaseModel):
    """A threshold for prompts of at least so many tokens, and the seconds that the share `target` took at most."""

    prompt_tokens: int
    under: str
    observed_seconds: float
    events: int


class SuggestedTarget(BaseModel):
    """A target in per cent, and what it would have cost in the time observed.

    `budget_spent` is a share of the error budget of a whole SLO window.
    """

    sli: str
    target: float
    steps: list[SuggestedStep]
    good: int
    bad: int
    burn: float
    budget_spent: float


class NotSuggested(BaseModel):
    """An SLI without a proposal: it has too few events, `needed` at least, or fails too often where that is 0."""

    sli: str
    events: int
    needed: int


class SuggestedObjective(BaseModel):
    """Targets for the requests that one objective applies to, observed for so many seconds."""

    name: str
    instead_of: str
    window: str
    observed_seconds: float
    targets: list[SuggestedTarget]
    too_few: list[NotSuggested]


class SuggestStatus(BaseModel):
    """Objectives proposed for a model, from latencies that `observed_by` of `workers` processes have seen."""

    model: str
    headroom: float
    observed_by: int
    workers: int
    objectives: list[SuggestedObjective]


class ObservedLatencies(BaseModel):
    """What one worker has seen of one objective: counts per bucket, by SLI and class of prompt lengths."""

    objective: str
    observed_seconds: float
    counts: dict[str, list[list[int]]]


class OtherWorkers(BaseModel):
    """What the other workers have seen, each for itself, and how many workers there are with this one."""

    observed: list[list[ObservedLatencies]] = []
    workers: int = 1


def suggest_routes(reloader: Reloader, ledger: SloLedger, latencies: LatencyProfile, clock: Clock) -> APIRouter:
    """Return the path of suggestions; `clock` is that of requests."""
    router = APIRouter(prefix="/admin/models")

    @router.get("/{model:path}/slo/suggest", response_model=SuggestStatus, responses={404: {"description": "Unknown."}})
    async def suggest(model: str, target: _Target = 99.0, headroom: _Headroom = 0.25) -> SuggestStatus | Response:
        """Return objectives for a model, or alias, that latencies observed so far would have met; nothing is changed.

        `target` is a percentage for latencies, `headroom` the share by which thresholds exceed what was observed.
        """
        return await suggest_with(model, OtherWorkers(), target, headroom)

    @router.post("/{model:path}/slo/suggest", response_model=SuggestStatus, include_in_schema=False)
    async def suggest_with(
        model: str, others: OtherWorkers, target: _Target = 99.0, headroom: _Headroom = 0.25
    ) -> SuggestStatus | Response:
        """Do so from what this worker and the others have seen."""
        names = reloader.table.names
        spec = names.get(model)
        if spec is None:
            return no_such_model(model, names)
        asked = _Asked(target / 100, headroom)
        seen = [*(each for each in others.observed if _fits(each)), list(_seen(spec, latencies, clock()))]
        objectives = [_objective(spec, each, ledger, _together(each.name, seen), asked) for each in spec.objectives]
        return SuggestStatus(
            model=spec.name, headroom=headroom, observed_by=len(seen), workers=others.workers, objectives=objectives
        )

    @router.get("/{model:path}/slo/observed", response_model=list[ObservedLatencies], include_in_schema=False)
    async def observed(model: str) -> list[ObservedLatencies] | Response:
        """Return what this worker has seen, for the one that makes proposals."""
        names = reloader.table.names
        spec = names.get(model)
        return no_such_model(model, names) if spec is None else list(_seen(spec, latencies, clock()))

    return router


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for: a target as a ratio, and headroom as a share."""

    target: float
    headroom: float


def _seen(model: ModelSpec, latencies: LatencyProfile, now: float) -> Iterator[ObservedLatencies]:
    for objective in model.objectives:
        observed = latencies.observed.get((model.name, objective.name)) or Observed(now)
        counts = {str(sli): observed.counts(sli) for sli in OBSERVED}
        yield ObservedLatencies(objective=objective.name, observed_seconds=now - observed.began, counts=counts)


def _fits(seen: list[ObservedLatencies]) -> bool:
    """Whether a worker counts as this one does: one of another version may have other buckets."""
    shape = [len(BOUNDS) + 1] * (len(STEPS) + 1)
    return all([*map(len, each.counts.get(sli, ()))] == shape for each in seen for sli in OBSERVED)


def _together(objective: str, seen: Iterable[list[ObservedLatencies]]) -> ObservedLatencies:
    """Return what all have seen of one objective, as if one worker had."""
    found = [each for of_worker in seen for each in of_worker if each.objective == objective]
    counts = {
        str(sli): [[sum(bucket) for bucket in zip(*same, strict=True)] for same in zip(*rows, strict=True)]
        for sli in OBSERVED
        if (rows := [each.counts[sli] for each in found])
    }
    age = max(each.observed_seconds for each in found)
    return ObservedLatencies(objective=objective, observed_seconds=age, counts=counts)


def _objective(
    model: ModelSpec,
    objective: Objective,
    ledger: SloLedger,
    observed: ObservedLatencies,
    asked: _Asked,
) -> SuggestedObjective:
    answered = Counts()
    age = observed.observed_seconds
    for series in ledger.get(Kind.MODEL, model.name):
        if (series.objective, series.sli) == (objective.name, Sli.AVAILABILITY):
            answered = series.windows.count(series.windows.slo)
    results = [
        availability(Sli.AVAILABILITY, answered, asked.headroom),
        *(
            latency(sli, observed.counts[sli], asked.target, asked.headroom, by_length=by_length)
            for sli, by_length in _BY_LENGTH.items()
        ),
    ]
    return SuggestedObjective(
        name=f"{objective.name}-suggested",
        instead_of=objective.name,
        window=format_duration(objective.window),
        observed_seconds=round(age, 1),
        targets=[_target(each, age / objective.window) for each in results if isinstance(each, Suggestion)],
        too_few=[
            NotSuggested(sli=each.sli, events=each.events, needed=each.needed)
            for each in results
            if isinstance(each, TooFew)
        ],
    )


def _target(found: Suggestion, share: float) -> SuggestedTarget:
    """Return a target as it is shown; the time observed is a `share` of the SLO window."""
    return SuggestedTarget(
        sli=found.sli,
        target=round(100 * found.target, 6),
        steps=[
            SuggestedStep(
                prompt_tokens=each.prompt_tokens,
                under=format_duration(each.under),
                observed_seconds=round(each.quantile, 4),
                events=each.events,
            )
            for each in found.steps
        ],
        good=found.counts.good,
        bad=found.counts.bad,
        burn=round(found.burn, 4),
        budget_spent=round(found.burn * min(1.0, share), 6),
    )
