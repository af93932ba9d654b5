"""A dashboard for Grafana: budgets and burn, latency, admission, backends, canaries, and the gateway itself."""

import hashlib
import json
from collections.abc import Iterable, Iterator

from gateway.rules.panel import Panel
from gateway.rules.panels import rows
from gateway.rules.slo import Document, EdgeEvents, Slo, literal, one_of

_SCHEMA = 39
"""Version of the dashboard's schema: Grafana 10.4 and later read it as it is, and bring it up to their own."""
_COLUMNS, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OPTIONS: dict[str, Document] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "textMode": "value_and_name"},
}
_HIDDEN = {"Time": True, "Value": True, "__name__": True, "alertstate": True}
_ORGANIZED = [{"id": "organize", "options": {"excludeByName": _HIDDEN}}]


def dashboard(slos: Iterable[Slo], model: str = "") -> Document:
    """Return the dashboard of a gateway with these SLOs, as JSON that Grafana imports or is provisioned with.

    With a model it is about that one alone, and has the thresholds of its objectives as lines.
    """
    found = [slo for slo in slos if model in {"", slo.model}]
    panels = list(_laid_out(rows(found)))
    if model:
        for target in (target for panel in panels for target in panel.get("targets", ())):
            target["expr"] = target["expr"].replace("$model", json.dumps(literal(model), ensure_ascii=False)[1:-1])
    return {
        "title": f"Tidegate: {model}" if model else "Tidegate",
        "uid": f"tidegate-{_digest(model)}" if model else "tidegate",
        "tags": ["tidegate", "slo"],
        "description": "Made by `tidegate rules --format grafana`: regenerate it when an objective changes.",
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": _variables(found, model)},
        "panels": panels,
    }


def _digest(name: str) -> str:
    """Return what stands for any name in a uid, of which Grafana takes 40 letters, digits, hyphens and underscores."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def queries(found: Document) -> list[str]:
    """Return every query of a dashboard."""
    return [target["expr"] for panel in found["panels"] for target in panel.get("targets", ())]


def _variables(slos: list[Slo], model: str) -> list[Document]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    if model:
        # All of them are those of the model, not those of the gateway.
        pools = {name for slo in slos if isinstance(slo.source, EdgeEvents) for name in slo.source.pools}
        backends = f"tidegate_backend_state{{{one_of('pool', tuple(sorted(pools)))}}}"
        return [source, _variable("pool", "Pool", f"label_values({backends}, pool)")]
    return [
        source,
        _all(_variable("model", "Model", "label_values(tidegate_judged_requests_total, model)")),
        _all(_variable("pool", "Pool", "label_values(tidegate_backend_state, pool)")),
    ]


def _all(variable: Document) -> Document:
    """Return a variable that also matches what is not listed any more when all are chosen."""
    return {**variable, "allValue": ".*"}


def _variable(name: str, label: str, query: str) -> Document:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _laid_out(found: dict[str, tuple[Panel, ...]]) -> Iterator[Document]:
    """Panels side by side, row under row, each with an id of its own."""
    y = identity = 0
    for title, panels in found.items():
        identity += 1
        at = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {"id": identity, "type": "row", "title": title, "collapsed": False, "gridPos": at, "panels": []}
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + _HEIGHT
            identity += 1
            yield _drawn(panel, identity, {"x": x, "y": y, "w": panel.width, "h": _HEIGHT})
            x += panel.width
        y += _HEIGHT


def _drawn(panel: Panel, identity: int, at: dict[str, int]) -> Document:
    is_table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": is_table,
            "range": not is_table,
            "format": "table" if is_table else "time_series",
        }
        for index, query in enumerate(panel.queries)
    ]
    limits: Document = {"min": 0} if panel.kind == "timeseries" else {}
    if panel.lines:
        colors = ("orange", *["red"] * len(panel.lines)) if len(panel.lines) > 1 else ("red",)
        steps = [{"color": color, "value": value} for color, value in zip(colors, panel.lines, strict=False)]
        limits["thresholds"] = {"mode": "absolute", "steps": [{"color": "transparent", "value": None}, *steps]}
        limits["custom"] = {"thresholdsStyle": {"mode": "line"}}
    return {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": {"unit": panel.unit, **limits}, "overrides": []},
        "options": _OPTIONS.get(panel.kind, {}),
        "targets": targets,
        "transformations": _ORGANIZED if is_table else [],
    }
