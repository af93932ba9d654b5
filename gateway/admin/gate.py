"""What `/admin/models/{m}/gate` tells: whether a deployment may begin, and why (not)."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from gateway.admin.alerts import BudgetStatus, budget_status
from gateway.admin.protection import no_such_model
from gateway.config.durations import format_duration
from gateway.control.gate import Gate, GateAnswer, GateSli, Verdict
from gateway.control.reload import Reloader
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE

_BURNS = (5 * MINUTE, HOUR, 6 * HOUR)


class GateSliStatus(BaseModel):
    """One SLI: its budget, and its burn rate by window, null without events."""

    objective: str
    sli: str
    burn: dict[str, float | None]
    budget: BudgetStatus


class GateRollout(BaseModel):
    """The model's rollout; `weight` is the candidate's share of requests in per cent."""

    candidate: str
    phase: str
    weight: float
    decision: str


class GateStatus(BaseModel):
    """Whether a deployment may begin.

    `reasons` say why not, `notes` what one should know all the same. `budget_left` is the smallest share of an error
    budget left, null below one day of history; below `freeze_below` deployments wait.
    """

    model: str
    verdict: Verdict
    reasons: list[str]
    notes: list[str]
    budget_left: float | None
    freeze_below: float
    rollout: GateRollout | None
    slis: list[GateSliStatus]


def gate_routes(gate: Gate, reloader: Reloader, ledger: SloLedger) -> APIRouter:
    """Return the path of the gate."""
    router = APIRouter(prefix="/admin/models")

    @router.get("/{model:path}/gate", response_model=GateStatus, responses={404: {"description": "Unknown."}})
    async def ask(
        model: str,
        freeze_below: Annotated[float | None, Query(ge=0.0, le=1.0)] = None,
        despite_budget: Annotated[bool, Query()] = False,
    ) -> GateStatus | Response:
        """Return whether a deployment of a model, or alias, may begin now. Nothing is changed."""
        names = reloader.table.names
        spec = names.get(model)
        if spec is None:
            return no_such_model(model, names)
        return _status(gate.ask(spec, freeze_below, despite_budget=despite_budget), ledger)

    return router


def _status(answer: GateAnswer, ledger: SloLedger) -> GateStatus:
    running, left = answer.rollout, answer.budget_left
    return GateStatus(
        model=answer.model,
        verdict=answer.verdict,
        reasons=answer.stops,
        notes=answer.notes,
        budget_left=None if left is None else round(left, 4),
        freeze_below=answer.freeze_below,
        rollout=None
        if running is None
        else GateRollout(
            candidate=running.plan.candidate,
            phase=running.rollout.phase,
            weight=running.rollout.share,
            decision=running.decision.reason,
        ),
        slis=[_sli(each, ledger) for each in answer.slis],
    )


def _sli(sli: GateSli, ledger: SloLedger) -> GateSliStatus:
    series = sli.series
    rates = {
        format_duration(window): burn(series.windows.count(window), series.target.budget)
        for window in (*_BURNS, series.windows.slo)
    }
    return GateSliStatus(
        objective=series.objective,
        sli=series.sli,
        burn={window: None if rate is None else round(rate, 4) for window, rate in rates.items()},
        budget=budget_status(series, ledger),
    )
