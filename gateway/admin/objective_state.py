"""How an objective stands in one word, and who burns its budget."""

from enum import StrEnum

from pydantic import BaseModel

from gateway.policy.slo.alerts import MIN_BAD, Severity
from gateway.policy.slo.budget import Budget
from gateway.policy.slo.burn import Counts, burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.time_in_use import HOUR
from gateway.wire.slices import Work

LITTLE = 0.25
"""The share of a budget below which an objective is at risk although hardly anything fails."""
_MOST = 8
_AT_ONCE = 10


class ObjectiveState(StrEnum):
    """The worst that is true of an objective, the worst first."""

    EXHAUSTED = "exhausted"
    FAST_BURN = "fast burn"
    SLOW_BURN = "slow burn"
    AT_RISK = "at risk"
    TOO_FEW_DATA = "too few data"
    HEALTHY = "healthy"


class Burner(BaseModel):
    """A backend or a version, and its part of what was missed in the last hour: of a backend, attempts."""

    kind: str
    name: str
    bad: int
    total: int


def objective_state(alert: str, waiting: str, budget: Budget, allowed: float, recent: Counts) -> ObjectiveState:
    """Return the state of an objective that allows this share of events to be bad.

    `alert` is the severity that fires, `waiting` what a page waits for, and `recent` what the last 6 h hold.
    """
    if budget.left is not None and budget.left <= 0:
        return ObjectiveState.EXHAUSTED
    if alert:
        return ObjectiveState.FAST_BURN if alert == Severity.PAGE else ObjectiveState.SLOW_BURN
    burns = (burn(recent, allowed) or 0.0) > 1
    if waiting or (burns and recent.bad >= MIN_BAD) or (budget.left is not None and budget.left < LITTLE):
        return ObjectiveState.AT_RISK
    # One failure among fewer events than these is more than the budget of all that was seen.
    return ObjectiveState.TOO_FEW_DATA if burns or budget.total * allowed < 1 else ObjectiveState.HEALTHY


def burners(series: Series, ledger: SloLedger, versions: list[str]) -> Work[list[Burner]]:
    """Return the backends and versions with failures in the last hour, of each kind those with the most first.

    Of a series without failures there are none: what retries have hidden burns no budget.
    """
    if not series.windows.count(HOUR).bad:
        return []
    backends = yield from _worst(Kind.BACKEND, list(ledger.serving.get((series.model, ""), ())), series, ledger)
    of_model = [f"{series.model}/{version}" for version in versions]
    return backends + (yield from _worst(Kind.VERSION, of_model, series, ledger))


def _worst(kind: Kind, names: list[str], series: Series, ledger: SloLedger) -> Work[list[Burner]]:
    found = []
    for number, name in enumerate(names):
        for each in ledger.get(kind, name):
            if (each.objective, each.sli) == (series.objective, series.sli):
                counts = each.windows.count(HOUR)
                if counts.bad:
                    found.append(Burner(kind=kind, name=name, bad=counts.bad, total=counts.total))
        if number % _AT_ONCE == 0:
            yield
    return sorted(found, key=lambda burner: -burner.bad)[:_MOST]
