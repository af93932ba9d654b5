"""Recording rules and alerts for Prometheus, under the names and labels that Sloth gives them.

Every ratio is one of sums over its whole window, never a mean of ratios: a quiet hour weighs less than a busy one.
"""

from collections.abc import Iterable

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import AlertPair, Severity
from gateway.policy.slo.burn import MIN_BAD, minimum_events
from gateway.policy.slo.objective import DAY
from gateway.rules.promise import Document, Promise, alert_name, pairs_of

_JOIN = "on(sloth_id, sloth_slo, sloth_service) group_left"


def rules_file(promises: Iterable[Promise]) -> Document:
    """Return a rules file as `rule_files` of Prometheus takes it."""
    return {"groups": groups(promises)}


def operator_rule(promises: Iterable[Promise]) -> Document:
    """Return the same as a PrometheusRule of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tidegate-slo", "labels": {"app.kubernetes.io/name": "tidegate", "role": "alert-rules"}},
        "spec": {"groups": groups(promises)},
    }


def groups(promises: Iterable[Promise]) -> list[Document]:
    """Return three groups for each promise: error ratios, what is reckoned from them, and alerts."""
    found = []
    for promise in promises:
        found += [
            {"name": f"sloth-slo-sli-recordings-{promise.id}", "rules": _ratios(promise)},
            {"name": f"sloth-slo-meta-recordings-{promise.id}", "rules": _reckoned(promise)},
            {"name": f"sloth-slo-alerts-{promise.id}", "rules": [_alert(promise, each) for each in Severity]},
        ]
    return found


def recorded(window: float) -> str:
    """Return the name of the error ratio over a window."""
    return f"slo:sli_error:ratio_rate{format_duration(window)}"


def _ratios(promise: Promise) -> list[Document]:
    """Without traffic a ratio is absent, rather than not a number."""
    return [
        {
            "record": recorded(window),
            "expr": f"{promise.source.bad('rate', length)}\n/\n({promise.source.total('rate', length)} > 0)",
            "labels": {**promise.labels, "sloth_window": format_duration(window)},
        }
        for window in promise.windows
        for length in [promise.scale.range(window)]
    ]


def _reckoned(promise: Promise) -> list[Document]:
    select = promise.selector
    budget = f"slo:error_budget:ratio{{{select}}}"
    rows = {
        "slo:objective:ratio": f"vector({promise.target.ratio:.10g})",
        "slo:error_budget:ratio": f"vector({promise.target.budget:.10g})",
        "slo:time_period:days": f"vector({promise.window / DAY:g})",
        "slo:current_burn_rate:ratio": f"{recorded(300.0)}{{{select}}}\n/ {_JOIN}\n{budget}",
        "slo:period_burn_rate:ratio": f"{recorded(promise.window)}{{{select}}}\n/ {_JOIN}\n{budget}",
        "slo:period_error_budget_remaining:ratio": f"1 - slo:period_burn_rate:ratio{{{select}}}",
        "sloth_slo_info": "vector(1)",
    }
    about = {"sloth_mode": "tidegate", "sloth_objective": f"{promise.target.ratio * 100:.8g}"}
    return [
        {
            "record": name,
            "expr": expression,
            "labels": {**promise.labels, **(about if name == "sloth_slo_info" else {})},
        }
        for name, expression in rows.items()
    ]


def _alert(promise: Promise, severity: Severity) -> Document:
    return {
        "alert": alert_name(severity),
        "expr": "\nor\n".join(f"(\n{_burns(promise, pair)}\n)" for pair in pairs_of(severity)),
        "labels": {**promise.labels, "severity": str(severity), "sloth_severity": str(severity)},
        "annotations": promise.annotations(severity),
    }


def _burns(promise: Promise, pair: AlertPair) -> str:
    """Both windows burn faster than the factor, and neither on the strength of one event or of a handful."""
    limit = f"({pair.factor(promise.window):.10g} * {promise.target.budget:.10g})"
    rates = [
        f"max({recorded(window)}{{{promise.selector}}} > {limit}) without (sloth_window)"
        for window in (pair.short, pair.long)
    ]
    least = minimum_events(pair.factor(promise.window), promise.target.budget)
    guards = [
        guard
        for window in (pair.short, pair.long)
        for length in [promise.scale.range(window)]
        for guard in (
            f"{promise.source.total('increase', length)} >= {least}",
            # An increase is extrapolated, so that two events may read a little less and one a little more.
            f"{promise.source.bad('increase', length)} >= {MIN_BAD - 0.5}",
        )
    ]
    return "\nand\n".join(rates) + "".join(f"\nand on()\n({guard})" for guard in guards)
