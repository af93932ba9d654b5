"""The real controller of rollouts, on a clock of its own."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from gateway.cli.demo.load import MODEL
from gateway.cli.demo.setting import routes_of
from gateway.config.load import load_routes
from gateway.control.audit import Audit
from gateway.control.rollouts import RolloutController
from gateway.lateness import Lateness
from gateway.policy.slo.ledger import SloLedger
from gateway.state.store import Document
from gateway.telemetry.slo_recorder import follow


def newcomers() -> dict[str, Any]:
    pools = {"a": {"backends": ["http://a:1"]}, "b": {"backends": ["http://b:1"]}}
    versions = {"v1": {"pools": ["a"]}, "v2": {"pools": ["b"]}}
    return {"pools": pools, "models": {MODEL: {"versions": versions, "canary": {"stable": "v1", "candidate": "v2"}}}}


def demos() -> dict[str, Any]:
    return routes_of({name: [f"http://{name}:1"] for name in ("gpu", "cpu", "next")})


def rolled(
    path: Path,
    routes_file: dict[str, Any],
    now: list[float],
    kept: Iterable[Document] = (),
    *,
    leads: Callable[[], bool] = lambda: True,
    alone: Callable[[], bool] = lambda: False,
) -> tuple[RolloutController, Audit]:
    """Return what leads the rollouts of a routes file whose versions are ready, and its records; it goes on from what
    was kept.
    """
    path.write_text(json.dumps(routes_file))
    table = load_routes(path)
    ledger = SloLedger(now[0])
    follow(ledger, table, now[0])
    ready = SimpleNamespace(is_ready=True, is_lost=False, may_serve=True, backends=(), name="v2")
    live = SimpleNamespace(
        versions={"v1": ready, "v2": ready}, divided=lambda weights, *_, **__: list(weights), traffic=None
    )
    current = cast(Any, SimpleNamespace(table=SimpleNamespace(model=lambda _: live)))
    audit = Audit(lambda: now[0])
    rollouts = RolloutController(
        ledger,
        current,
        audit,
        clock=lambda: now[0],
        leads=leads,
        alone=alone,
        request_save=lambda: None,
        lateness=Lateness(),
    )
    rollouts.restore(kept)
    rollouts.follow(table)
    return rollouts, audit
