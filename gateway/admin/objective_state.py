"""How an objective stands in one word, and who burns its budget."""

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel

from gateway.policy.slo.alerts import MIN_BAD, Severity
from gateway.policy.slo.budget import Budget
from gateway.policy.slo.burn import Counts, burn
from gateway.policy.slo.contributions import OTHERS
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.time_in_use import HOUR
from gateway.wire.slices import Work

LITTLE = 0.25
"""The share of a budget below which an objective is at risk although hardly anything fails."""
_MOST = 8
_UNKNOWN = "(unknown)"
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
    """A part of what was missed in the last hour: `bad` of its `total` events, which are attempts of a backend.

    `kind` is backend, version, tenant, or prompt for a class of prompt lengths. The name `(others)` sums those that
    follow the worst, `(unknown)` what another gateway counted, or this one before it began; its `total` is 0.
    """

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
    """Return whose the failures of the last hour were: backends, versions, tenants and lengths of prompts.

    Of a series without failures there are none: what retries have hidden burns no budget. Those of each kind but
    backends add up to all failures.
    """
    bad = series.windows.count(HOUR).bad
    if not bad:
        return []
    backends = yield from _failed(Kind.BACKEND, list(ledger.serving.get((series.model, ""), ())), series, ledger)
    found = yield from _failed(Kind.VERSION, [f"{series.model}/{version}" for version in versions], series, ledger)
    parts = yield from ledger.contributions.of(series.model, series.objective, series.sli)
    found += [Burner(kind=each.kind, name=each.name, bad=each.bad, total=each.total) for each in parts]
    return worst_first(backends) + whole(found, bad)


def whole(found: Iterable[Burner], bad: int) -> list[Burner]:
    """Return burners kind by kind, each with what is missing of all that is `bad`; none of a kind without burners."""
    kinds: dict[str, list[Burner]] = {}
    for each in found:
        if each.name != _UNKNOWN:
            kinds.setdefault(each.kind, []).append(each)
    told = []
    for kind, those in kinds.items():
        told += worst_first(those)
        unknown = bad - sum(each.bad for each in those)
        if unknown > 0:
            told.append(Burner(kind=kind, name=_UNKNOWN, bad=unknown, total=0))
    return told


def worst_first(found: list[Burner]) -> list[Burner]:
    """Return burners of one kind, the worst first, and those that follow them as one."""
    order = sorted(found, key=lambda each: (each.name == OTHERS, -each.bad, each.name))
    told, others = order[:_MOST], order[_MOST:]
    if others:
        bad, total = sum(each.bad for each in others), sum(each.total for each in others)
        told.append(Burner(kind=others[0].kind, name=OTHERS, bad=bad, total=total))
    return told


def _failed(kind: Kind, names: list[str], series: Series, ledger: SloLedger) -> Work[list[Burner]]:
    found = []
    for number, name in enumerate(names):
        for each in ledger.get(kind, name):
            if (each.objective, each.sli) == (series.objective, series.sli):
                counts = each.windows.count(HOUR)
                if counts.bad:
                    found.append(Burner(kind=kind, name=name, bad=counts.bad, total=counts.total))
        if number % _AT_ONCE == 0:
            yield
    return found
