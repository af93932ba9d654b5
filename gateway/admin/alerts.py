"""What `/admin/status` and `/admin/models/{m}/slo` tell of alerts that fire, and of budgets."""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite

from pydantic import BaseModel

from gateway.config.durations import format_duration
from gateway.control.alerts import Alerter
from gateway.control.incidents import texts
from gateway.policy.slo.alerts import Alert, AlertPair, AlertState, Severity
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.burn import burn
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.windows import HOUR, MINUTE
from gateway.policy.slo.words import budget_words, waiting_words
from gateway.telemetry.slo import Kind, SloBook, Tracked

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
    """One promise of a model: burn rates by window, null without events, its budget, and the alert that fires.

    `coverage` is the share of each window in which this gateway counted, 0 to 1; `waiting` says what a page waits for
    while its windows burn above its factor, "" else.
    """

    model: str
    objective: str
    sli: str
    prompt_tokens: str
    target: float
    burn: dict[str, float | None]
    coverage: dict[str, float]
    budget: BudgetStatus
    alert: str
    waiting: str


def budget_status(tracked: Tracked, book: SloBook) -> BudgetStatus:
    """Return how the budget of one series stands."""
    budget, down = error_budget(tracked.windows, tracked.target.budget), book.uncounted(tracked.windows)
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


def firing_alerts(alerter: Alerter, book: SloBook, model: str | None = None) -> list[FiringAlert]:
    """Return what fires, with its texts as they would be now; of one model, or of all."""
    found = []
    for tracked, firing, incident in alerter.incidents:
        if model not in {None, tracked.model}:
            continue
        summary, description = texts(tracked, firing, book)
        found.append(
            FiringAlert(
                severity=incident.severity,
                model=tracked.model,
                version=tracked.version,
                objective=tracked.objective,
                sli=tracked.sli,
                prompt_tokens=tracked.prompt_tokens,
                since=datetime.fromtimestamp(incident.started, UTC),
                summary=summary,
                description=description,
                notified=incident.delivery,
                also=[part.words for part in alerter.parts(incident)],
            )
        )
    return found


def objective_statuses(book: SloBook, alerter: Alerter) -> list[ObjectiveStatus]:
    """Return every promise of every model, prompts of all lengths together."""
    return [
        ObjectiveStatus(
            model=tracked.model,
            objective=tracked.objective,
            sli=tracked.sli,
            prompt_tokens=tracked.prompt_tokens,
            target=tracked.target.ratio,
            burn={
                format_duration(window): _rounded(burn(tracked.windows.count(window), tracked.target.budget))
                for window in _BURNS
            },
            coverage={format_duration(window): round(book.coverage(window), 4) for window in _BURNS},
            budget=budget_status(tracked, book),
            alert=_alert(tracked, alerter),
            waiting=waiting(alerter.of(tracked)),
        )
        for tracked in book
        if tracked.kind is Kind.MODEL and not tracked.prompt_tokens
    ]


def _alert(tracked: Tracked, alerter: Alerter) -> str:
    firing = [pair.severity for pair, alert in alerter.of(tracked) if alert.state is AlertState.FIRING]
    return str(min(firing, key=list(Severity).index)) if firing else ""


def waiting(alerts: Iterable[tuple[AlertPair, Alert]]) -> str:
    """Return what the page that is the nearest waits for, "" where one fires or none burns above its factor."""
    pages = [(pair, alert) for pair, alert in alerts if pair.severity is Severity.PAGE]
    if any(alert.state is AlertState.FIRING for _, alert in pages):
        return ""
    words = (waiting_words(alert.reading) for _, alert in pages if alert.reading is not None)
    return next(filter(None, words), "")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
