"""Burn rates, budgets and alerts in words that a person who is woken understands."""

from typing import Final

from gateway.policy.slo.alerts import PAIRS, Reading, Severity
from gateway.policy.slo.budget import Budget
from gateway.policy.slo.burn import Counts, burn, whole_events
from gateway.policy.slo.objective import DAY, SUPPORTING_STAGES, THROUGHPUT, Sli, Target
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE

_UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"))
_LAST: Final = {HOUR: "the last hour", DAY: "the last day"}
_MISSED: Final[dict[str, str]] = {
    Sli.AVAILABILITY: "requests failed",
    Sli.TTFT: "requests missed TTFT",
    Sli.TPOT: "requests missed TPOT",
    Sli.ITL: "gaps between tokens missed ITL",
    Sli.E2E: "requests missed E2E",
    Sli.COLD_START: "cold starts took too long",
    THROUGHPUT: "slots of 10 s with requests waiting missed the throughput",
    **{stage: f"stages ({stage.replace('_', ' ')}) failed or were late" for stage in SUPPORTING_STAGES},
}
_BRIEF: Final = 10.0
"""An outage of so many seconds is shorter than what a person, or a restart, needs."""


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 4.8 s, 12 min, 9 h, 3 d."""
    for unit, name in _UNITS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.3g} s"


def number(value: float, digits: int = 3) -> str:
    """Return a number to so many digits as people write it: 0.25, 14.4, 1,000; no digit of a whole part is dropped."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


def budget_words(budget: Budget, not_counted: float = 0.0, said: Counts | None = None) -> str:
    """Return how an error budget stands; `not_counted` are seconds in which no gateway was there to count.

    Counts that were `said` already are not repeated.
    """
    name = f"{budget.window / DAY:g}-day budget"
    if not budget.total:
        words = f"no events yet: 100 % of the {name} is left"
    elif budget.spent is None:
        counted = f"{budget.bad:,} of {budget.total:,} missed so far; "
        is_said = said is not None and (said.bad, said.total) == (budget.bad, budget.total)
        words = f"{'' if is_said else counted}the {name} is judged after one day of history"
    elif budget.spent > 1:
        words = f"the {name} is overspent by {_percent(budget.spent - 1)}"
    else:
        words = f"{_percent(budget.spent)} of the {name} is spent"
    notes = [f"projected from {budget.age / DAY:.1f} days"] if budget.projected else []
    notes += [f"not counted: {duration(not_counted)}"] if not_counted >= MINUTE else []
    return f"{words} ({', '.join(notes)})" if notes else words


def rate_words(reading: Reading, budget: Budget) -> str:
    """Return what becomes of the budget at the burn rate of an alert's long window."""
    name = f"{budget.window / DAY:g}-day budget"
    rate, left = burn(reading.long, reading.budget) or 0.0, budget.left
    if not rate:
        return f"no more of the {name} is spent"
    if left is None:
        return f"at this rate a whole {name} is gone in {duration(budget.window / rate)}"
    if left <= 0:
        return f"the {name} is gone, and is spent {number(rate)} times as fast as it comes back"
    return f"at this rate the {name} is gone in {duration(left * budget.window / rate)}"


def waiting_words(reading: Reading) -> str:
    """Return what an alert still waits for though its windows burn above its factor.

    "" if they do not, if it needs nothing more, or if the fault is over.
    """
    rate, severity, long = burn(reading.long, reading.budget) or 0.0, reading.pair.severity, reading.pair.long
    if rate <= reading.factor or not (reading.confirms and reading.goes_on) or reading.exceeds:
        return ""
    burns = f"{'burned, when last asked,' if reading.is_idle else 'burns'} at {number(rate)} times its budget"
    if not reading.speaks:
        return f"{burns}, on too few events for a {severity}: {reading.long.bad:,} of {reading.long.total:,} bad"
    wanted = duration(long * reading.factor / rate)
    return f"{burns}: a {severity} after {wanted} of this, {duration(long * reading.weight)} so far"


def missed_words(sli: str, counts: Counts, window: float) -> str:
    """Return how many of the events of a window were bad: 212 of 4,100 requests missed TTFT in the last hour."""
    what = _MISSED.get(sli, "deployments were late")
    return f"{counts.bad:,} of {counts.total:,} {what} in {of_window(window)}"


def of_window(window: float) -> str:
    """Return what a window that ends now is called: the last hour, the last 6 h."""
    return _LAST.get(window, f"the last {duration(window)}")


def where_words(bad: int, backends: dict[str, Counts]) -> str:
    """Return the backend that more than half of the bad attempts were at, "" where none stands out.

    `bad` is how many requests were. Attempts that a retry made good are no request's miss, so there may be more.
    """
    if len(backends) < 2:
        return ""
    name, worst = max(backends.items(), key=lambda item: item[1].bad)
    if 2 * worst.bad <= sum(each.bad for each in backends.values()):
        return ""
    if worst.bad <= bad:
        return f"{worst.bad:,} of them on {name}"
    return f"most on {name}: {worst.bad:,} of its {worst.total:,} attempts"


def limits_of(target: Target, window: float) -> list[str]:
    """Return what alerts on a target over this SLO window cannot do, in words."""
    needs = "; ".join(f"for a {severity}: {fewest_words(severity, target, window)}" for severity in Severity)
    whole = whole_events(1 / (target.budget * window / DAY))
    few = f"below {whole:,} events a day one failure is more than the whole {window / DAY:g}-day budget"
    page = f"a total outage pages after {outage_words(target, window)}"
    return [f"minimum failures {needs}", *([few] if whole > 1 else []), page]


def fewest_words(severity: Severity, target: Target, window: float) -> str:
    """Return how many failures an alert needs at least, by its long windows: 5 within 1 h, or 5 within 6 h."""
    pairs = (pair for pair in PAIRS if pair.severity is severity)
    return ", or ".join(f"{pair.fewest(window, target.budget):,} within {duration_of(pair.long)}" for pair in pairs)


def outage_words(target: Target, window: float) -> str:
    """Return how long a total outage lasts until it pages: 48.4 s with traffic."""
    return f"{duration(PAIRS[0].share * window * target.budget)} with traffic"


def too_strict(target: Target, window: float) -> str:
    """Return why nothing that pages for this target can be kept from it in time, "" where it can."""
    outage = PAIRS[0].share * window * target.budget
    if outage >= _BRIEF:
        return ""
    percent = target_words(target.ratio)
    return f"at {percent} an outage of {duration(outage)} pages: a restart of the only backend is enough"


def target_words(ratio: float) -> str:
    """Return a target in per cent as routes write it: 99.9 %, and 99.99999 % too."""
    return f"{100 * ratio:.10g} %"


def duration_of(window: float) -> str:
    """Return the length of an alert window: 1 h, 6 h, 1 d, 3 d."""
    return f"{window / DAY:g} d" if window >= DAY else f"{window / HOUR:g} h"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"
