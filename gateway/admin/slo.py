"""What `/admin/models/{m}/slo` tells: every burn rate of a model and of what serves it, and the state of its alerts."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from gateway.admin.alerts import BudgetStatus, FiringAlert, budget_status, firing_alerts, waiting
from gateway.config.durations import format_duration
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.alerts import Alerter
from gateway.policy.slo.alerts import FASTEST, PAIRS, Alert, AlertPair
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.burn import Counts, burn, routing_burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Objective, Target
from gateway.policy.slo.series import Kind, Series

_HALF = 0.5


class Threshold(BaseModel):
    """The longest good time for prompts from so many tokens on."""

    prompt_tokens: int
    seconds: float


class TargetStatus(BaseModel):
    """The share of events that must be good, 0 to 1, and what is good."""

    sli: str
    target: float
    thresholds: list[Threshold]


class WindowStatus(BaseModel):
    """One window; `burn` is null without events, `coverage` the share of it in which this gateway counted."""

    window: str
    good: int
    bad: int
    burn: float | None
    coverage: float
    half_covered: bool
    state: Literal["ok", "insufficient", "no events"]


class AlertStatus(BaseModel):
    """One alert pair; a burn rate is null without events.

    `weight` is how much of the long window was in use, 0 to 1; its burn rate counts times that. `short_burn` is that of
    the latest events where the short window holds too few.
    """

    severity: str
    long_window: str
    short_window: str
    factor: float
    state: str
    since: datetime | None
    long_burn: float | None
    short_burn: float | None
    weight: float | None


class SliStatus(BaseModel):
    """One SLI of one subject under one objective.

    `prompt_tokens` is a class of prompt lengths such as "4096+", "" for prompts of all lengths. `waiting` says what a
    page waits for while its windows burn above its factor, "" else.
    """

    objective: str
    sli: str
    prompt_tokens: str
    target: float
    routing_burn: float
    error_budget_remaining: float | None
    budget: BudgetStatus
    windows: list[WindowStatus]
    alerts: list[AlertStatus]
    waiting: str


class SubjectStatus(BaseModel):
    """A model, version, pool or backend."""

    subject: str
    name: str
    slis: list[SliStatus]


class Goodput(BaseModel):
    """Requests since the start that met every target, and those that missed one."""

    good: int
    bad: int


class ModelObjective(BaseModel):
    """The objective of some classes of requests; no `classes` if it applies to all that have no other one."""

    name: str
    classes: list[str]
    window: str
    targets: list[TargetStatus]
    goodput: Goodput


class SloStatus(BaseModel):
    """How a model meets its objectives."""

    model: str
    objectives: list[ModelObjective]
    subjects: list[SubjectStatus]
    alerts: list[FiringAlert]


def slo_status(model: ModelSpec, table: RouteTable, ledger: SloLedger, alerter: Alerter) -> SloStatus:
    """Return how a model meets its objectives: itself, its versions, their pools and the backends of those."""
    current = {objective.name for objective in model.objectives}
    return SloStatus(
        model=model.name,
        objectives=[_objective(model, each, ledger) for each in model.objectives],
        subjects=[
            SubjectStatus(
                subject=kind,
                name=name,
                slis=[
                    _sli(each, ledger, alerter.readings(each))
                    for each in (*ledger.get(kind, name), *ledger.by_prompt_tokens(kind, name))
                    if each.objective in current
                ],
            )
            for kind, name in _subjects(model, table)
        ],
        alerts=firing_alerts(alerter, ledger, model.name),
    )


def _objective(model: ModelSpec, objective: Objective, ledger: SloLedger) -> ModelObjective:
    counted = [
        counts for (name, _, of), counts in ledger.requests.items() if (name, of) == (model.name, objective.name)
    ]
    classes = [name for name, each in model.objective_by_class.items() if each.name == objective.name]
    return ModelObjective(
        name=objective.name,
        classes=[] if objective.name == model.objective.name else classes,
        window=format_duration(objective.window),
        targets=[_target(sli, target) for sli, target in objective.targets.items()],
        goodput=Goodput(good=sum(each.met for each in counted), bad=sum(each.missed for each in counted)),
    )


def _subjects(model: ModelSpec, table: RouteTable) -> Iterable[tuple[Kind, str]]:
    yield Kind.MODEL, model.name
    for version in model.versions:
        yield Kind.VERSION, f"{model.name}/{version}"
    pools = dict.fromkeys(pool for version in model.versions.values() for pool in version.pools)
    for pool in pools:
        yield Kind.POOL, pool
        for backend in table.pools[pool].backends:
            yield Kind.BACKEND, backend.id


def _target(sli: str, target: Target) -> TargetStatus:
    steps = ((0, target.under), *target.by_prompt_tokens) if target.under else ()
    thresholds = [Threshold(prompt_tokens=tokens, seconds=seconds) for tokens, seconds in steps]
    return TargetStatus(sli=sli, target=target.ratio, thresholds=thresholds)


def _sli(series: Series, ledger: SloLedger, alerts: list[tuple[AlertPair, Alert]]) -> SliStatus:
    windows, budget = series.windows, series.target.budget
    return SliStatus(
        objective=series.objective,
        sli=series.sli,
        prompt_tokens=series.prompt_tokens,
        target=series.target.ratio,
        routing_burn=round(routing_burn(windows.recent, budget), 4),
        error_budget_remaining=_rounded(error_budget(windows, budget).left),
        budget=budget_status(series, ledger),
        windows=[_window(length, counts, series, ledger) for length, counts in windows.items()],
        alerts=[_alert(pair, alert, windows.slo) for pair, alert in alerts],
        waiting=waiting(alerts),
    )


def _window(length: float, counts: Counts, series: Series, ledger: SloLedger) -> WindowStatus:
    budget, coverage = series.target.budget, ledger.coverage(length)
    pair = next((pair for pair in PAIRS if length in {pair.long, pair.short}), FASTEST)
    factor = pair.factor(series.windows.slo)
    # It burns, but on so few events that chance may explain it.
    uncertain = counts.bad > factor * budget * counts.total and not pair.speaks(counts, factor, budget)
    return WindowStatus(
        window=format_duration(length),
        good=counts.good,
        bad=counts.bad,
        burn=_rounded(burn(counts, budget)),
        coverage=round(coverage, 4),
        half_covered=coverage < _HALF,
        state="no events" if not counts.total else "insufficient" if uncertain else "ok",
    )


def _alert(pair: AlertPair, alert: Alert, slo_window: float) -> AlertStatus:
    reading = alert.reading
    return AlertStatus(
        severity=pair.severity,
        long_window=format_duration(pair.long),
        short_window=format_duration(pair.short),
        factor=round(pair.factor(slo_window), 4),
        state=alert.state,
        since=datetime.fromtimestamp(alert.since, UTC) if alert.since else None,
        long_burn=_rounded(burn(reading.long, reading.budget) if reading else None),
        short_burn=_rounded(burn(reading.short, reading.budget) if reading else None),
        weight=_rounded(reading.weight if reading else None),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
