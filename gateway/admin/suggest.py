"""What `/admin/models/{m}/slo/suggest` tells: objectives that would have been met, and what they would have cost."""

from dataclasses import dataclass
from typing import Annotated

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
from gateway.policy.slo.observed import Observed
from gateway.policy.slo.series import Kind
from gateway.policy.slo.suggestion import Suggestion, TooFew, availability, latency
from gateway.telemetry.latency_profile import LatencyProfile

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
    """Objectives proposed for a model."""

    model: str
    headroom: float
    objectives: list[SuggestedObjective]


def suggest_routes(reloader: Reloader, ledger: SloLedger, latencies: LatencyProfile, clock: Clock) -> APIRouter:
    """Return the path of suggestions; `clock` is that of requests."""
    router = APIRouter(prefix="/admin/models")

    @router.get("/{model:path}/slo/suggest", response_model=SuggestStatus, responses={404: {"description": "Unknown."}})
    async def suggest(
        model: str,
        target: Annotated[float, Query(ge=90.0, lt=100.0)] = 99.0,
        headroom: Annotated[float, Query(ge=0.0, le=10.0)] = 0.25,
    ) -> SuggestStatus | Response:
        """Return objectives for a model, or alias, that latencies observed so far would have met; nothing is changed.

        `target` is a percentage for latencies, `headroom` the share by which thresholds exceed what was observed.
        """
        names = reloader.table.names
        spec = names.get(model)
        if spec is None:
            return no_such_model(model, names)
        asked = _Asked(target / 100, headroom, clock())
        found = [_objective(spec, each, ledger, latencies, asked) for each in spec.objectives]
        return SuggestStatus(model=spec.name, headroom=headroom, objectives=found)

    return router


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for: a target as a ratio, headroom as a share, and when."""

    target: float
    headroom: float
    now: float


def _objective(
    model: ModelSpec,
    objective: Objective,
    ledger: SloLedger,
    latencies: LatencyProfile,
    asked: _Asked,
) -> SuggestedObjective:
    observed = latencies.observed.get((model.name, objective.name)) or Observed(asked.now)
    answered = Counts()
    age = asked.now - observed.began
    for series in ledger.get(Kind.MODEL, model.name):
        if (series.objective, series.sli) == (objective.name, Sli.AVAILABILITY):
            answered = series.windows.count(series.windows.slo)
    results = [
        availability(Sli.AVAILABILITY, answered, asked.headroom),
        *(
            latency(sli, observed.counts(sli), asked.target, asked.headroom, by_length=by_length)
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
