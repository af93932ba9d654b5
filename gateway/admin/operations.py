"""What people do to backends, and the record of who did what."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import BaseModel

from gateway.admin.canary import Asked
from gateway.admin.protection import error
from gateway.backends.registry import Registry
from gateway.config.problems import suggest
from gateway.control.audit import Audit
from gateway.control.drained import Drained

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such backend."}}


class DrainStatus(BaseModel):
    """A backend that was drained or undrained, and what it still has to finish."""

    backend: str
    drained: bool
    in_flight: int


class DrainProgress(BaseModel):
    """How far a backend is drained: `drained` says that it may go, since nothing is in flight there any more.

    `draining` says that it gets no new requests, because a person wants that or because it is about to go. `in_flight`
    counts requests of this gateway alone, of all its workers.
    """

    backend: str
    draining: bool
    drained: bool
    in_flight: int


class AuditRecord(BaseModel):
    """Who did what to which subject, and why."""

    at: datetime
    actor: str
    action: str
    subject: str
    reason: str


def operation_routes(registry: Registry, drained: Drained, audit: Audit, request_save: Callable[[], None]) -> APIRouter:
    """Return the paths of backends and of the audit."""
    router = APIRouter(prefix="/admin")

    @router.post("/backends/{backend:path}/{action}", response_model=DrainStatus, responses=_UNKNOWN)
    async def act(
        backend: str,
        action: Literal["drain", "undrain"],
        asked: Annotated[Asked | None, Body()] = None,
        x_gateway_actor: Annotated[str, Header()] = "admin API",
    ) -> DrainStatus | Response:
        """Send a backend no new requests, over restarts, or send it some again; what it streams goes on."""
        reason = (asked.reason if asked else "") or "no reason given"
        try:
            drained.set(backend, drained=action == "drain", actor=x_gateway_actor, reason=reason)
        except KeyError:
            return _unknown(backend, registry)
        request_save()
        found = registry[backend]
        return DrainStatus(backend=backend, drained=found.drained, in_flight=found.in_flight)

    @router.get("/backends/{backend:path}", response_model=DrainProgress, responses=_UNKNOWN)
    async def progress(backend: str) -> DrainProgress | Response:
        """Return whether a backend may go: it gets no new requests, and none is in flight.

        One that the routes or its origin name no more is known until its last request has ended.
        """
        found = next((each for each in registry.watched() if each.id == backend), None)
        if found is None:
            return _unknown(backend, registry)
        is_named = any(each is found for each in registry)
        draining, in_flight = found.drained or found.leaving or not is_named, found.in_flight
        return DrainProgress(
            backend=backend, draining=draining, drained=draining and not in_flight, in_flight=in_flight
        )

    @router.get("/audit")
    async def records(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[AuditRecord]:
        """Return who did what, the latest first."""
        latest = list(audit)[-limit:]
        return [
            AuditRecord(
                at=datetime.fromtimestamp(each.at, UTC),
                actor=each.actor,
                action=each.action,
                subject=each.subject,
                reason=each.reason,
            )
            for each in reversed(latest)
        ]

    return router


def _unknown(backend: str, registry: Registry) -> Response:
    hint = suggest(backend[:128], [each.id for each in registry], "known backends")
    return error(404, "backend_not_found", f"there is no backend `{backend[:128]}`; {hint}")
