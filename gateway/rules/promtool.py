"""Unit tests of the alerts for `promtool test rules`: each fires when it should, and not when it should not."""

from collections.abc import Iterable

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import FASTEST, PAIRS, AlertPair, Severity
from gateway.rules.prometheus import groups
from gateway.rules.promise import Document, Promise, alert_name, pairs_of

_PER_STEP = 100_000
_STEPS_OF_LONG = 60
_STEPS = 72
_GOOD_STEPS = 360
_EVALUATED_EVERY = 720.0
"""Seconds: what every moment asked about is a multiple of; promtool evaluates all rules each time, so no less."""
_ABOVE, _BELOW = 1.2, 0.9


def unit_tests(promises: Iterable[Promise], rules_file: str) -> Document:
    """Return tests of what `rules_file` holds, whose path is relative to the tests' own."""
    promised = list(promises)
    tests = []
    for promise in promised:
        tests += [_burning(promise, pair, _ABOVE * pair.factor(promise.window), fires=True) for pair in PAIRS]
        for severity in Severity:
            slowest = min(pairs_of(severity), key=lambda pair: pair.factor(promise.window))
            tests.append(_burning(promise, slowest, _BELOW * slowest.factor(promise.window), fires=False))
        tests.append(_one_bad_event(promise))
    return {
        "rule_files": [rules_file],
        "evaluation_interval": _exact(_EVALUATED_EVERY * promised[0].scale.factor),
        "group_eval_order": [group["name"] for group in groups(promised)],
        "tests": tests,
    }


def _burning(promise: Promise, pair: AlertPair, burn: float, *, fires: bool) -> Document:
    """A steady burn for a little longer than the pair's long window.

    Before the fastest pair's lies a good time, so that no slower pair of its severity fires in its stead.
    """
    bad = round(_PER_STEP * min(1.0, burn * promise.target.budget))
    before = _GOOD_STEPS if pair is FASTEST else 0
    good_until = before * _PER_STEP
    step = pair.long * promise.scale.factor / _STEPS_OF_LONG
    return {
        "name": f"{promise.id}: a burn rate of {burn:.4g} for {format_duration(pair.long)}",
        "interval": _exact(step),
        "input_series": _series(
            promise,
            f"0+{_PER_STEP}x{before} {good_until}+{_PER_STEP - bad}x{_STEPS}",
            f"0x{before} 0+{bad}x{_STEPS}",
        ),
        "alert_rule_test": [_expected(promise, pair.severity, (before + _STEPS) * step, fires=fires)],
    }


def _one_bad_event(promise: Promise) -> Document:
    """One bad event among hours of one request a minute alarms nobody."""
    step, half = 60.0 * promise.scale.factor, 189
    return {
        "name": f"{promise.id}: one bad event at one request a minute",
        "interval": _exact(step),
        "input_series": _series(promise, f"0+1x{2 * half}", f"0x{half} 1x{half}"),
        "alert_rule_test": [_expected(promise, each, (half + 3) * step, fires=False) for each in Severity],
    }


def _series(promise: Promise, good: str, bad: str) -> list[Document]:
    labels = {"model": promise.model, "version": "v1", "objective": promise.under, "sli": str(promise.sli)}
    return [
        {"series": f"tidegate_sli_events_total{{{_written({**labels, 'verdict': verdict})}}}", "values": values}
        for verdict, values in (("good", good), ("bad", bad))
    ]


def _expected(promise: Promise, severity: Severity, at: float, *, fires: bool) -> Document:
    expected = {
        "exp_labels": {**promise.labels, "severity": str(severity), "sloth_severity": str(severity)},
        "exp_annotations": promise.annotations(severity),
    }
    return {"eval_time": _exact(at), "alertname": alert_name(severity), "exp_alerts": [expected] if fires else []}


def _written(labels: dict[str, str]) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in labels.items())


def _exact(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
