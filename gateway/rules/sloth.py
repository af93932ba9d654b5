"""Specs of Sloth (`prometheus/v1`), one document a model, for those who make their rules with it.

Sloth writes its own plain multi-window alerts: minimum evidence and the weight of idle time cannot be said in a spec.
"""

from collections.abc import Iterable

from gateway.policy.slo.alerts import Severity
from gateway.rules.slo import ALERT, Document, Slo

_WINDOW = "{{.window}}"


def sloth_specs(slos: Iterable[Slo]) -> list[Document]:
    """Return one spec for each model."""
    by_model: dict[str, list[Slo]] = {}
    for slo in slos:
        by_model.setdefault(slo.model, []).append(slo)
    return [
        {
            "version": "prometheus/v1",
            "service": model,
            "labels": {"model": model},
            "slos": [_slo(slo) for slo in found],
        }
        for model, found in by_model.items()
    ]


def _slo(slo: Slo) -> Document:
    return {
        "name": slo.slug,
        "objective": float(f"{slo.target.ratio * 100:.8g}"),
        "description": slo.target_words,
        "labels": slo.counted,
        "sli": {
            "events": {
                "error_query": slo.source.bad("rate", _WINDOW),
                "total_query": slo.source.total("rate", _WINDOW),
            }
        },
        "alerting": {
            "name": ALERT,
            "annotations": {"summary": f"{slo.sli} of {slo.subject} burns its error budget"}
            | ({"runbook_url": slo.runbook_url} if slo.runbook else {}),
            "page_alert": {"labels": {"severity": str(Severity.PAGE)}},
            "ticket_alert": {"labels": {"severity": str(Severity.TICKET)}},
        },
    }
