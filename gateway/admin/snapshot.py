"""What the dashboard shows: parts of what `/admin/status` tells, made in small pieces, for each second anew.

Of very many backends and objectives those are told that are the worst off; `left_out` counts the others.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from gateway.admin.alerts import ObjectiveStatus, firing_alerts, objective_statuses
from gateway.admin.canary import canary_report, canary_status
from gateway.admin.capacity import pool_capacity
from gateway.admin.deployments import deployment_status
from gateway.admin.events import RecentEvents
from gateway.admin.objective_state import ObjectiveState
from gateway.admin.overview import backend_statuses, model_status, routes_status
from gateway.admin.status import BackendStatus
from gateway.admin.view import AdminView
from gateway.policy.routing.ejection import State
from gateway.wire.slices import Work

_MOST_BACKENDS, _MOST_OBJECTIVES, _MOST_MODELS = 100, 60, 60
_MOST_DEPLOYMENTS = 10
_BACKEND = {
    "id",
    "pool",
    "state",
    "reason",
    "silent",
    "drained",
    "leaving",
    "asleep",
    "warming",
    "ejection",
    "ejection_reason",
    "weight",
    "attempts_last_minute",
    "share",
    "in_flight",
    "limit",
    "predicted_ttft_seconds",
    "observed_ttft_seconds",
    "kv_tokens",
    "kv_capacity",
    "idle_connections",
    "failed_in_a_row",
    "failed_seconds",
    "good_seconds",
}
_NOT_OF_OBJECTIVES = {"prompt_tokens", "coverage", "bad_in_a_row", "last_seconds"}
_NOT_OF_CAPACITY = {"inputs", "value", "intent", "valid_until"}
_NOT_OF_ROLLOUTS = {"history"}
_ORDER = list(ObjectiveState)


def snapshot(view: AdminView, events: RecentEvents) -> Work[dict[str, Any]]:
    """Return what there is to show now, in JSON's types."""
    backends = yield from backend_statuses(view)
    found = yield from objective_statuses(view.ledger, view.alerter)
    specs, models = list(view.reloader.table.models.values()), []
    for spec in specs[:_MOST_MODELS]:
        models.append(model_status(spec, view.gateway.current.table, view.ledger).model_dump())
        yield
    shown: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "version": version("tidegate"),
        "uptime_seconds": round(view.clock() - view.began, 1),
        "draining": view.gateway.draining,
        "in_flight": sum(client.busy for client in view.clients()),
        "client_connections": len(view.clients()),
        "routes": routes_status(view).model_dump(mode="json"),
        "not_saved": view.flusher.failing or "",
        "models": models,
        "alerts": [each.model_dump(mode="json") for each in firing_alerts(view.alerter, view.ledger)],
    }
    yield
    shown["objectives"] = []
    for objective in sorted(found, key=_state)[:_MOST_OBJECTIVES]:
        shown["objectives"].append(objective.model_dump(mode="json", exclude=_NOT_OF_OBJECTIVES))
        yield
    shown["backends"] = []
    for each in sorted(backends, key=_is_well)[:_MOST_BACKENDS]:
        shown["backends"].append(each.model_dump(include=_BACKEND))
        yield
    shown["left_out"] = {
        "objectives": max(0, len(found) - _MOST_OBJECTIVES),
        "backends": max(0, len(backends) - _MOST_BACKENDS),
        "models": max(0, len(specs) - _MOST_MODELS),
    }
    shown |= _controllers(view)
    yield
    shown["events"] = [each.model_dump(mode="json") for each in events.events(view.audit)]
    return shown


def _controllers(view: AdminView) -> Mapping[str, Any]:
    rollouts = []
    for running in view.rollouts:
        report = canary_report(running)
        status = canary_status(running, view.rollouts).model_dump(mode="json", exclude=_NOT_OF_ROLLOUTS)
        evidence = {"slis": [each.model_dump() for each in report.slis], "roll_back_at": report.roll_back_at}
        rollouts.append(status | evidence)
    wants = [pool_capacity(each).model_dump(mode="json", exclude=_NOT_OF_CAPACITY) for each in view.capacity]
    newest = list(view.deployments)[: -_MOST_DEPLOYMENTS - 1 : -1]
    deployments = [deployment_status(each).model_dump(mode="json") for each in newest]
    return {"rollouts": rollouts, "capacity": wants, "deployments": deployments}


def _state(objective: ObjectiveStatus) -> int:
    return _ORDER.index(objective.state)


def _is_well(backend: BackendStatus) -> bool:
    return backend.state == "ready" and backend.ejection == State.IN_SERVICE
