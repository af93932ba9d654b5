"""The promises as specs of Sloth (`prometheus/v1`), one document a model, for those who make their rules with it."""

from collections.abc import Iterable

from gateway.policy.slo.alerts import Severity
from gateway.rules.promise import ALERT, Document, Promise

_WINDOW = "{{.window}}"


def sloth_specs(promises: Iterable[Promise]) -> list[Document]:
    """Return one spec for each model."""
    by_model: dict[str, list[Promise]] = {}
    for promise in promises:
        by_model.setdefault(promise.model, []).append(promise)
    return [
        {
            "version": "prometheus/v1",
            "service": model,
            "labels": {"model": model},
            "slos": [_slo(promise) for promise in promised],
        }
        for model, promised in by_model.items()
    ]


def _slo(promise: Promise) -> Document:
    return {
        "name": f"{promise.under}-{promise.sli}",
        "objective": float(f"{promise.target.ratio * 100:.8g}"),
        "description": promise.objective,
        "labels": {"objective": promise.under, "sli": str(promise.sli)},
        "sli": {
            "events": {
                "error_query": promise.source.bad("rate", _WINDOW),
                "total_query": promise.source.total("rate", _WINDOW),
            }
        },
        "alerting": {
            "name": ALERT,
            "annotations": {"summary": f"{promise.sli} of {promise.model} burns its error budget"},
            "page_alert": {"labels": {"severity": str(Severity.PAGE)}},
            "ticket_alert": {"labels": {"severity": str(Severity.TICKET)}},
        },
    }
