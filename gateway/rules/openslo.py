"""The promises as OpenSLO v1 documents: a Service a model, an SLO a promise, a policy and condition an alert pair."""

from collections.abc import Iterable, Iterator

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import PAIRS, AlertPair
from gateway.rules.promise import Document, Promise, slug

_WINDOW = "5m"


def openslo(promises: Iterable[Promise]) -> Iterator[Document]:
    """Return every document, each name once."""
    services = set()
    for promise in promises:
        if promise.model not in services:
            services.add(promise.model)
            yield _document(
                "Service", slug(promise.model), promise.model, {"description": f"The model {promise.model}"}
            )
        for pair in PAIRS:
            yield _condition(promise, pair)
            yield _policy(promise, pair)
        yield _slo(promise)


def _slo(promise: Promise) -> Document:
    counted = {
        name: {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}
        for name, query in (
            ("bad", promise.source.bad("increase", _WINDOW)),
            ("total", promise.source.total("increase", _WINDOW)),
        )
    }
    spec = {
        "description": promise.objective,
        "service": slug(promise.model),
        "indicator": {
            "metadata": {"name": promise.slug, "displayName": f"{promise.sli} of {promise.model}"},
            "spec": {"ratioMetric": {"counter": False, **counted}},
        },
        "timeWindow": [{"duration": format_duration(promise.window), "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"displayName": promise.objective, "target": promise.target.ratio}],
        "alertPolicies": [_name(promise, pair) for pair in PAIRS],
    }
    return _document("SLO", promise.slug, f"{promise.sli} of {promise.model}", spec)


def _condition(promise: Promise, pair: AlertPair) -> Document:
    condition = {
        "kind": "burnrate",
        "op": "gt",
        "threshold": float(f"{pair.factor(promise.window):.6g}"),
        "lookbackWindow": format_duration(pair.long),
        "alertAfter": "0m",
    }
    spec = {"description": _words(promise, pair), "severity": str(pair.severity), "condition": condition}
    return _document("AlertCondition", _name(promise, pair), _words(promise, pair), spec)


def _policy(promise: Promise, pair: AlertPair) -> Document:
    spec = {
        "description": _words(promise, pair),
        "alertWhenBreaching": True,
        "alertWhenResolved": True,
        "conditions": [{"conditionRef": _name(promise, pair)}],
        "notificationTargets": [],
    }
    return _document("AlertPolicy", _name(promise, pair), _words(promise, pair), spec)


def _words(promise: Promise, pair: AlertPair) -> str:
    return f"{pair.severity}: {promise.sli} of {promise.model} burns over {format_duration(pair.long)}"


def _name(promise: Promise, pair: AlertPair) -> str:
    return slug(f"{pair.severity}-{format_duration(pair.long)}-{promise.id}")


def _document(kind: str, name: str, display_name: str, spec: Document) -> Document:
    metadata = {"name": name, "displayName": display_name}
    return {"apiVersion": "openslo/v1", "kind": kind, "metadata": metadata, "spec": spec}
