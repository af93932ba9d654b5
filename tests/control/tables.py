"""Routes in force, as controllers meet them."""

import json
from pathlib import Path
from typing import Any

from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.load import load_routes
from gateway.config.table import RouteTable
from gateway.lateness import Lateness
from gateway.proxy.current import CurrentTable
from gateway.wire.outbox import Outbox
from gateway.wire.slices import finish


def written(path: Path, document: dict[str, Any]) -> RouteTable:
    """Return the table of routes written to a file."""
    path.write_text(json.dumps(document))
    return load_routes(path)


def models(*urls: str, name: str = "m", **more: Any) -> dict[str, Any]:
    """Return routes with one model behind these backends."""
    return {"models": {name: {"backends": list(urls), **more}}}


def versions(v1: str, v2: str, **canary: Any) -> dict[str, Any]:
    """Return routes with one model of two versions, with a backend each."""
    both = {name: {"pools": [name]} for name in ("v1", "v2")}
    rollout = {"canary": {"stable": "v1", "candidate": "v2", **canary}}
    pools = {"v1": {"backends": [v1]}, "v2": {"backends": [v2]}}
    return {"pools": pools, "models": {"m": {"versions": both, **rollout}}}


def registered(routes: RouteTable, clock: Clock = lambda: 0.0) -> Registry:
    """Return a registry that has followed these routes."""
    registry = Registry(Outbox(), clock, Lateness())
    registry.reconcile(routes)
    return registry


def in_force(routes: RouteTable, registry: Registry | None = None, clock: Clock = lambda: 0.0) -> CurrentTable:
    """Return what holds these routes."""
    return CurrentTable(routes, registry or registered(routes, clock), clock, 0)


def put_in_force(current: CurrentTable, registry: Registry, routes: RouteTable) -> None:
    """Put other routes in force at once, which the registry has followed, and move what waits."""
    before = current.adopt(finish(current.prepare(registry.prepare(routes))))
    finish(current.renewing(before))
