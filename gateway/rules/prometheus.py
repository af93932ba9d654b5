"""Recording rules and alerts for Prometheus, under the names and labels that Sloth gives them."""

from collections.abc import Iterable

from gateway.policy.slo.alerts import Severity
from gateway.rules.alerts import alert, states
from gateway.rules.recordings import EVERY, EVERY_LONG, bounds, counts, described, gaps, history, ratios, weights
from gateway.rules.slo import Document, Slo


def rules_file(slos: Iterable[Slo]) -> Document:
    """Return a rules file as `rule_files` of Prometheus takes it."""
    return {"groups": groups(slos)}


def operator_rule(slos: Iterable[Slo]) -> Document:
    """Return the same as a PrometheusRule of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tidegate-slo", "labels": {"app.kubernetes.io/name": "tidegate", "role": "alert-rules"}},
        "spec": {"groups": groups(slos)},
    }


def groups(slos: Iterable[Slo]) -> list[Document]:
    """Return three groups for each SLO of a model, its parts included: pages, tickets, and the SLO window as a whole.

    Rules of a group are evaluated one after the other, so that each reads what those above it have just recorded.
    """
    families: dict[str, list[Slo]] = {}
    for slo in slos:
        families.setdefault(slo.whole, []).append(slo)
    return [
        {"name": f"sloth-slo-{name}-{identity}", "interval": family[0].scale.range(every), "rules": rules}
        for identity, family in families.items()
        for name, every, rules in (
            ("page", EVERY, [rule for slo in family for rule in _alerting(slo, Severity.PAGE)]),
            ("ticket", EVERY_LONG, [rule for slo in family for rule in _alerting(slo, Severity.TICKET)]),
            ("period", EVERY_LONG, [rule for slo in family for rule in (*history(slo), *described(slo))]),
        )
    ]


def _alerting(slo: Slo, severity: Severity) -> list[Document]:
    return [
        *counts(slo, severity),
        *ratios(slo, severity),
        *(gaps(slo) if severity is Severity.PAGE else ()),
        *weights(slo, severity),
        *bounds(slo, severity),
        *states(slo, severity),
        alert(slo, severity),
    ]
