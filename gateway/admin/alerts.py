"""What `/admin/status` and `/admin/models/{m}/slo` tell of alerts that fire, and of budgets."""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite

from pydantic import BaseModel

from gateway.admin.objective_state import Burner, ObjectiveState, burners, objective_state
from gateway.config.durations import format_duration
from gateway.control.alerts import Alerter
from gateway.control.incidents import texts
from gateway.policy.slo.alerts import PAIRS, Alert, AlertPair, AlertState, Severity, read
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE, Windows
from gateway.policy.slo.words import budget_words, rate_words, waiting_words
from gateway.wire.slices import Work

_BURNS = (5 * MINUTE, HOUR, 6 * HOUR, 3 * DAY)


class BudgetStatus(BaseModel):
    """An error budget over the SLO window; `left` and `spent` are shares of it, null below one day of history.

    `projected` until a whole window has passed. `not_counted_seconds` are those without a gateway.
    """

    left: float | None
    spent: float | None
    bad: int
    total: int
    history_seconds: float
    projected: bool
    not_counted_seconds: float
    words: str


class FiringAlert(BaseModel):
    """An alert that people were told of and that goes on; `version` and `prompt_tokens` are "" for a whole model.

    `notified` is `sent`, `waiting`, `failed` or `no webhook`; `also` are the alerts that belong to it and fire as well.
    """

    severity: str
    model: str
    version: str
    objective: str
    sli: str
    prompt_tokens: str
    since: datetime
    summary: str
    description: str
    notified: str
    also: list[str]


class ObjectiveStatus(BaseModel):
    """One SLI of a model's objective: burn rates by window, null without events, its budget, and the alert that fires.

    `state` is exhausted, fast burn (pages), slow burn (ticket), at risk, too few data, or healthy. `outlook` says when
    the budget is gone at the rate of the last 6 h, or of the last hour where that is higher. `good` and `bad` are
    events by window. `pages_above` are the burn rates at which pages begin, by their long window. `burners` are whose
    the failures of the last hour were, kind by kind, the worst first.
    `coverage` is the share of each window in which this gateway counted, 0 to 1; `waiting` says what a page waits for
    while its windows burn above its factor, "" else. `bad_in_a_row` are the latest events up to the last good one,
    since this process began; `last_seconds` is how long ago the latest event was, null without one.
    """

    model: str
    objective: str
    sli: str
    prompt_tokens: str
    target: float
    burn: dict[str, float | None]
    coverage: dict[str, float]
    budget: BudgetStatus
    state: ObjectiveState
    outlook: str
    good: dict[str, int]
    bad: dict[str, int]
    pages_above: dict[str, float]
    burners: list[Burner]
    alert: str
    waiting: str
    bad_in_a_row: int
    last_seconds: float | None


def budget_status(series: Series, ledger: SloLedger) -> BudgetStatus:
    """Return how the budget of one series stands."""
    budget, down = error_budget(series.windows, series.target.budget), ledger.uncounted(series.windows)
    return BudgetStatus(
        left=_rounded(budget.left),
        spent=_rounded(budget.spent),
        bad=budget.bad,
        total=budget.total,
        history_seconds=round(budget.age, 1) if isfinite(budget.age) else 0.0,
        projected=budget.projected,
        not_counted_seconds=round(down, 1),
        words=budget_words(budget, down),
    )


def firing_alerts(alerter: Alerter, ledger: SloLedger, model: str | None = None) -> list[FiringAlert]:
    """Return what fires, with its texts as they would be now; of one model, or of all."""
    found = []
    for series, firing, incident in alerter.incidents:
        if model not in {None, series.model}:
            continue
        summary, description = texts(series, firing, ledger)
        found.append(
            FiringAlert(
                severity=incident.severity,
                model=series.model,
                version=series.version,
                objective=series.objective,
                sli=series.sli,
                prompt_tokens=series.prompt_tokens,
                since=datetime.fromtimestamp(incident.started, UTC),
                summary=summary,
                description=description,
                notified=incident.delivery,
                also=[part.words for part in alerter.parts(incident)],
            )
        )
    return found


def objective_statuses(ledger: SloLedger, alerter: Alerter) -> Work[list[ObjectiveStatus]]:
    """Return every SLI of every model's objectives, prompts of all lengths together; made in small pieces."""
    found = []
    versions: dict[str, list[str]] = {}
    for model, version in ledger.serving:
        if version:
            versions.setdefault(model, []).append(version)
    for series in list(ledger):
        if series.kind is Kind.MODEL and not series.prompt_tokens:
            burns = yield from burners(series, ledger, versions.get(series.model, []))
            found.append(_objective(series, ledger, alerter, burns))
            yield
    return found


def _objective(series: Series, ledger: SloLedger, alerter: Alerter, burns: list[Burner]) -> ObjectiveStatus:
    windows, allowed = series.windows, series.target.budget
    counts = {format_duration(window): windows.count(window) for window in _BURNS}
    budget, alert, readings = error_budget(windows, allowed), _alert(series, alerter), alerter.readings(series)
    waits = waiting(readings)
    pages = [pair for pair in PAIRS if pair.severity is Severity.PAGE]
    fastest = max(
        (read(pair, series.target, windows) for pair in pages), key=lambda each: burn(each.long, allowed) or 0.0
    )
    return ObjectiveStatus(
        model=series.model,
        objective=series.objective,
        sli=series.sli,
        prompt_tokens=series.prompt_tokens,
        target=series.target.ratio,
        burn={window: _rounded(burn(each, allowed)) for window, each in counts.items()},
        coverage={format_duration(window): round(ledger.coverage(window), 4) for window in _BURNS},
        budget=budget_status(series, ledger),
        state=objective_state(alert, waits, budget, allowed, windows.count(6 * HOUR)),
        outlook=rate_words(fastest, budget) if budget.total else "",
        good={window: each.good for window, each in counts.items()},
        bad={window: each.bad for window, each in counts.items()},
        pages_above={format_duration(pair.long): round(pair.factor(windows.slo), 4) for pair in pages},
        burners=burns,
        alert=alert,
        waiting=waits,
        bad_in_a_row=windows.bad_in_a_row,
        last_seconds=_seconds_since_last(windows),
    )


def _alert(series: Series, alerter: Alerter) -> str:
    firing = [pair.severity for pair, alert in alerter.of(series) if alert.state is AlertState.FIRING]
    return str(min(firing, key=list(Severity).index)) if firing else ""


def waiting(alerts: Iterable[tuple[AlertPair, Alert]]) -> str:
    """Return what the page that is the nearest waits for, "" where one fires or none burns above its factor."""
    pages = [(pair, alert) for pair, alert in alerts if pair.severity is Severity.PAGE]
    if any(alert.state is AlertState.FIRING for _, alert in pages):
        return ""
    words = (waiting_words(alert.reading) for _, alert in pages if alert.reading is not None)
    return next(filter(None, words), "")


def _seconds_since_last(windows: Windows) -> float | None:
    return round(max(0.0, windows.now - windows.last), 1) if isfinite(windows.last) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
