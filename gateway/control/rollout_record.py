"""What a model's own record says about a rollout, and the record of what a reload did to it."""

from gateway.control.audit import Audit
from gateway.control.rollout_progress import RolloutProgress, changes
from gateway.policy.canary.forecast import believed
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY, DEPLOYMENT_SLIS
from gateway.policy.slo.series import Kind
from gateway.policy.slo.time_in_use import HOUR


def usual(ledger: SloLedger, model: str) -> dict[str, tuple[int, int]]:
    """Return good and bad of a model's last day, or of its last hour where that was different, by SLI."""
    found: dict[str, tuple[int, int]] = {}
    for series in ledger.get(Kind.MODEL, model):
        day, hour = (series.windows.count(window) for window in (DAY, HOUR))
        good, bad = believed((day.good, day.bad), (hour.good, hour.bad))
        known = found.get(series.sli, (0, 0))
        found[series.sli] = (known[0] + good, known[1] + bad)
    return found


def budget_left(ledger: SloLedger, model: str) -> float | None:
    """Return the smallest error budget left of a model's SLIs, None below one day of history."""
    left = []
    for series in ledger.get(Kind.MODEL, model):
        if series.sli in DEPLOYMENT_SLIS:
            continue
        budget = error_budget(series.windows, series.target.budget)
        if budget.total and budget.left is not None:
            left.append(budget.left)
    return min(left, default=None)


def reloaded(audit: Audit, known: RolloutProgress, running: RolloutProgress) -> None:
    """Leave a record of what a reload changed, and of what it did not."""
    share = f"{running.plan.candidate} has {running.rollout.share:g} % of requests"
    if known.plan.fingerprint != running.plan.fingerprint:
        was = f"{known.plan.candidate} had {known.rollout.share:g} %"
        audit.record("reload", "restart", f"rollout of {running.model}", f"another definition: {share}, {was}")
        return
    changed = changes(known.plan, running.plan)
    audit.record("reload", "change", f"rollout of {running.model}", f"{changed}; {share}, as before")
