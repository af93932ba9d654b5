"""Moments of a gateway, made from numbers."""

from collections.abc import Mapping
from typing import Any

from gateway.cli.demo.figures import BackendReading, Reading
from gateway.cli.demo.moment import ClassMoment, Moment
from gateway.cli.demo.tour.setting import OBJECTIVE

IDLE: dict[str, Any] = {
    "stable": "v1",
    "candidate": "v2",
    "phase": "idle",
    "step": 1,
    "steps": [25, 50, 95],
    "weight": 0.0,
    "started": None,
    "since": "2026-01-01T00:00:00Z",
    "reason": "not started",
    "decision": "waits for `start`",
    "seconds_to_promotion": None,
    "history": [],
}


def at(
    seconds: float,
    *,
    met: int = 0,
    missed: int = 0,
    attempts: Mapping[str, int] | None = None,
    retries: int = 0,
    burn: float = 0.0,
    ejection: str = "in_service",
    waiting: int = 0,
    shed: Mapping[str, int] | None = None,
    queued: Mapping[float, float] | None = None,
    rollout: Mapping[str, Any] | None = None,
) -> Moment:
    """A moment with as many requests answered as were judged; `burn` and `ejection` are those of the engine gpu/a."""
    refused = shed or {}
    return Moment(
        reading=Reading(
            at=seconds,
            outcomes={"ok": met + missed},
            ttft={"gpu": {0.02: met / 2, 0.04: float(met), 2.0: float(met + missed)}},
            itl={},
            in_flight=0,
            backends=tuple(
                BackendReading(f"gpu/{name}", "gpu", "ready", 0, count)
                for name, count in (attempts or {"a": met + missed}).items()
            ),
        ),
        met={OBJECTIVE: met, "offline": 7},
        missed={OBJECTIVE: missed, "offline": 1000},
        retries=retries,
        burn={"gpu/a": burn},
        ejection={"gpu/a": ejection},
        classes={
            "batch": ClassMoment(waiting, refused.get("batch", 0), {}),
            "interactive": ClassMoment(0, refused.get("interactive", 0), queued or {}),
        },
        rollout=IDLE if rollout is None else {**IDLE, **rollout},
    )
