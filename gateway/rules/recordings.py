"""Recording rules: events and bad events over every window, and what alerts are computed from.

Each count is a sum of increases over its whole window, never a mean of ratios: a quiet hour weighs less than a busy
one. Names and labels of error ratios are Sloth's, so that dashboards made for it work.
"""

from collections.abc import Iterator

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import PAIRS, AlertPair, Severity
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.windows import MINUTE
from gateway.rules.slo import Document, Slo, pairs_of

EVERY = 30.0
"""Seconds between evaluations of whatever a page needs."""
EVERY_LONG = 300.0
"""Seconds between evaluations of windows of a day and longer, and of what only tickets need."""
WEEK = 7 * DAY
_JOIN = "on(sloth_id, sloth_slo, sloth_service) group_left"


def standin(pair: AlertPair) -> float:
    """Return the window, in seconds, that confirms where the short one holds too few events."""
    return pair.long / 4


def bad(slo: Slo, window: float) -> str:
    """Return the recorded number of bad events in a window."""
    return slo.recorded(f"slo:sli_bad:increase{format_duration(window)}")


def total(slo: Slo, window: float) -> str:
    """Return the recorded number of events in a window."""
    return slo.recorded(f"slo:sli_events:increase{format_duration(window)}")


def ratio(window: float) -> str:
    """Return the name of the error ratio over a window."""
    return f"slo:sli_error:ratio_rate{format_duration(window)}"


def weight(slo: Slo, pair: AlertPair) -> str:
    """Return the recorded weight of a pair's long window."""
    return slo.recorded(f"slo:sli_weight:ratio{format_duration(pair.long)}")


def wilson(slo: Slo, pair: AlertPair) -> str:
    """Return the recorded lower bound of the error ratio over a pair's long window."""
    return slo.recorded(f"slo:sli_error:wilson{format_duration(pair.long)}")


def counts(slo: Slo, severity: Severity) -> list[Document]:
    """Return the numbers of events that the pairs of a severity need, and no other severity records."""
    return [rule for window in _windows(severity) for rule in _counted(slo, window)]


def ratios(slo: Slo, severity: Severity) -> list[Document]:
    """Return Sloth's error ratios of the same windows; without traffic a ratio is absent, rather than not a number."""
    windows = {length for pair in PAIRS for length in (pair.long, pair.short)}
    return [
        _ratio(slo, window, f"{bad(slo, window)} / ({total(slo, window)} > 0)")
        for window in _windows(severity)
        if window in windows
    ]


def gaps(slo: Slo) -> list[Document]:
    """Return the time between an event and the one before it, for each pair where it is short enough to be time in use.

    An event is seen at the first evaluation after it. The time of the last one is recorded again while no other comes.
    """
    every, longest = slo.scale.range(EVERY), slo.scale.range(max(standin(pair) for pair in PAIRS))
    last = slo.recorded("slo:sli_last_event:timestamp_seconds")
    arrived = f"(sum(clamp_min({slo.source.counters} - {slo.source.counters} offset {every}, 0)) > 0)"
    rules = [
        _rule(
            slo,
            f"slo:sli_gap:seconds{format_duration(pair.long)}",
            f"((time() - {last}) <= {standin(pair) * slo.scale.factor:g})\nand on()\n{arrived}",
        )
        for pair in PAIRS
    ]
    seen = f"(vector(time()) and on() {arrived})\nor on()\nlast_over_time({last}[{longest}])"
    return [*rules, _rule(slo, "slo:sli_last_event:timestamp_seconds", seen)]


def weights(slo: Slo, severity: Severity) -> list[Document]:
    """Return how much of each long window was in use: its time in use, or its share of the usual volume."""
    rules = []
    for pair in pairs_of(severity):
        name, length = format_duration(pair.long), slo.scale.range(pair.long)
        seconds = pair.long * slo.scale.factor
        used = f"(sum_over_time({slo.recorded(f'slo:sli_gap:seconds{name}')}[{length}]) or 0 * {total(slo, pair.long)})"
        usual = slo.recorded("slo:sli_events:usual_rate")
        most = f"({total(slo, pair.long)} / {usual} > {used})\n  or\n  {used}"
        rules.append(
            _rule(slo, f"slo:sli_weight:ratio{name}", f"clamp_max(\n  {most},\n  {seconds:g}\n) / {seconds:g}")
        )
    return rules


def bounds(slo: Slo, severity: Severity) -> list[Document]:
    """Return the lower end of the Wilson interval of each long window's error ratio."""
    rules = []
    for pair in pairs_of(severity):
        z2 = pair.z**2
        b, n = bad(slo, pair.long), total(slo, pair.long)
        root = f"sqrt({b} * clamp_min({n} - {b}, 0) / ({n} > 0) + {z2 / 4:.6g})"
        bound = f"({b} + {z2 / 2:.6g} - {pair.z:g} * {root})\n/\n({n} + {z2:.6g})"
        rules.append(_rule(slo, f"slo:sli_error:wilson{format_duration(pair.long)}", bound))
    return rules


def history(slo: Slo) -> list[Document]:
    """Return what is known of the whole SLO window: how much of it has passed, its usual traffic, and the budget left.

    The traffic of the last week is carried on to the part of the window that is yet to come. Below one day of history
    there is neither a usual rate nor a percentage.
    """
    period, length = slo.scale.range(slo.window), slo.window * slo.scale.factor
    week, short = slo.scale.range(WEEK), slo.scale.range(5 * MINUTE)
    first, lived = slo.recorded("slo:sli_first_event:timestamp_seconds"), slo.recorded("slo:sli_history:seconds")
    events, failed = slo.recorded("slo:sli_events:rate5m"), slo.recorded("slo:sli_bad:rate5m")
    enough = f"({lived} >= {DAY * slo.scale.factor:g})"
    seen = f"avg_over_time({events}[{period}]) * {lived}"
    ahead = f"avg_over_time({events}[{week}]) * ({length:g} - {lived})"
    spent = f"avg_over_time({failed}[{period}]) * {enough}\n/ (({seen} + {ahead}) * {slo.target.budget:.10g} > 0)"
    begun = f"(vector(time()) and on() (sum({slo.source.counters}) > 0))"
    rows = {
        "slo:sli_first_event:timestamp_seconds": f"last_over_time({first}[{period}])\nor on()\n{begun}",
        "slo:sli_history:seconds": f"clamp_max(time() - {first}, {length:g})",
        "slo:sli_events:rate5m": f"{slo.source.total('rate', short)} and on() {first}",
        "slo:sli_bad:rate5m": f"{slo.source.bad('rate', short)} and on() {first}",
        "slo:sli_events:usual_rate": f"(avg_over_time({events}[{period}]) > 0)\nand\n{enough}",
        "slo:period_error_budget_remaining:ratio": f"1 - {spent}",
    }
    ratio_of_period = f"avg_over_time({failed}[{period}]) / (avg_over_time({events}[{period}]) > 0)"
    rules = [_rule(slo, name, expression) for name, expression in rows.items()]
    return [*rules, _ratio(slo, slo.window, ratio_of_period)]


def described(slo: Slo) -> list[Document]:
    """Return what Sloth records about an SLO besides its error ratios: target, budget, period, and current burn."""
    budget = slo.recorded("slo:error_budget:ratio")
    rows = {
        "slo:objective:ratio": f"vector({slo.target.ratio:.10g})",
        "slo:error_budget:ratio": f"vector({slo.target.budget:.10g})",
        "slo:time_period:days": f"vector({slo.window / DAY:g})",
        "slo:current_burn_rate:ratio": f"{slo.recorded(ratio(5 * MINUTE))}\n/ {_JOIN}\n{budget}",
        "slo:period_burn_rate:ratio": f"{slo.recorded(ratio(slo.window))}\n/ {_JOIN}\n{budget}",
    }
    about = {"sloth_mode": "tidegate", "sloth_objective": f"{slo.target.ratio * 100:.8g}"}
    info = {"record": "sloth_slo_info", "expr": "vector(1)", "labels": {**slo.labels, **about}}
    return [*(_rule(slo, name, expression) for name, expression in rows.items()), info]


def _windows(severity: Severity) -> list[float]:
    """Pages record what they need; tickets what is missing then."""
    needed = {length for pair in pairs_of(severity) for length in (pair.long, pair.short, standin(pair))}
    if severity is not Severity.PAGE:
        needed -= set(_windows(Severity.PAGE))
    return sorted(needed)


def _counted(slo: Slo, window: float) -> Iterator[Document]:
    length, name = slo.scale.range(window), format_duration(window)
    yield _rule(slo, f"slo:sli_events:increase{name}", slo.source.total("increase", length))
    yield _rule(slo, f"slo:sli_bad:increase{name}", slo.source.bad("increase", length))


def _ratio(slo: Slo, window: float, expression: str) -> Document:
    rule = _rule(slo, ratio(window), expression)
    return {**rule, "labels": {**rule["labels"], "sloth_window": format_duration(window)}}


def _rule(slo: Slo, name: str, expression: str) -> Document:
    return {"record": name, "expr": expression, "labels": slo.labels}
