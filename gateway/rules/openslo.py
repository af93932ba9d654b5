"""OpenSLO v1 documents: a Service a model, a document an SLO, a policy and condition an alert pair.

A condition of OpenSLO holds one window against one number: minimum evidence, the weight of idle time and the short
window cannot be said, and tools that read it apply their own.
"""

from collections.abc import Iterable, Iterator

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import PAIRS, AlertPair
from gateway.rules.slo import Document, Slo, slug

_WINDOW = "5m"


def openslo(slos: Iterable[Slo]) -> Iterator[Document]:
    """Return every document, each name once."""
    services = set()
    for slo in slos:
        if slo.model not in services:
            services.add(slo.model)
            yield _document("Service", slug(slo.model), slo.model, {"description": f"The model {slo.model}"})
        for pair in PAIRS:
            yield _condition(slo, pair)
            yield _policy(slo, pair)
        yield _slo(slo)


def _slo(slo: Slo) -> Document:
    counted = {
        name: {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}
        for name, query in (
            ("bad", slo.source.bad("increase", _WINDOW)),
            ("total", slo.source.total("increase", _WINDOW)),
        )
    }
    spec = {
        "description": slo.target_words,
        "service": slug(slo.model),
        "indicator": {
            "metadata": {"name": slo.slug, "displayName": f"{slo.sli} of {slo.subject}"},
            "spec": {"ratioMetric": {"counter": False, **counted}},
        },
        "timeWindow": [{"duration": format_duration(slo.window), "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"displayName": slo.target_words, "target": slo.target.ratio}],
        "alertPolicies": [_name(slo, pair) for pair in PAIRS],
    }
    return _document("SLO", slo.slug, f"{slo.sli} of {slo.subject}", spec)


def _condition(slo: Slo, pair: AlertPair) -> Document:
    condition = {
        "kind": "burnrate",
        "op": "gt",
        "threshold": float(f"{pair.factor(slo.window):.6g}"),
        "lookbackWindow": format_duration(pair.long),
        "alertAfter": "0m",
    }
    spec = {"description": _words(slo, pair), "severity": str(pair.severity), "condition": condition}
    return _document("AlertCondition", _name(slo, pair), _words(slo, pair), spec)


def _policy(slo: Slo, pair: AlertPair) -> Document:
    spec = {
        "description": _words(slo, pair),
        "alertWhenBreaching": True,
        "alertWhenResolved": True,
        "conditions": [{"conditionRef": _name(slo, pair)}],
        "notificationTargets": [],
    }
    return _document("AlertPolicy", _name(slo, pair), _words(slo, pair), spec)


def _words(slo: Slo, pair: AlertPair) -> str:
    return f"{pair.severity}: {slo.sli} of {slo.subject} burns over {format_duration(pair.long)}"


def _name(slo: Slo, pair: AlertPair) -> str:
    return slug(f"{pair.severity}-{format_duration(pair.long)}-{slo.slug}")


def _document(kind: str, name: str, display_name: str, spec: Document) -> Document:
    metadata = {"name": name, "displayName": display_name}
    return {"apiVersion": "openslo/v1", "kind": kind, "metadata": metadata, "spec": spec}
