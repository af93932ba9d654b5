"""The admin listener: metrics, status, reload. Never on the data listener, and never on the hot path."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from math import floor, isfinite
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from gateway.admin.alerts import firing_alerts, objective_statuses
from gateway.admin.canary import canary_routes, canary_status
from gateway.admin.capacity import capacity_routes, pool_capacity
from gateway.admin.decisions import Decision, VersionDecision, candidate
from gateway.admin.deployments import deployment_routes
from gateway.admin.fleet import fleet_status, quotas_status
from gateway.admin.gate import gate_routes
from gateway.admin.operations import operation_routes
from gateway.admin.protection import AdminToken, Protection, error, no_such_model
from gateway.admin.scrape import scrape
from gateway.admin.slo import SloStatus, slo_status
from gateway.admin.status import (
    BackendStatus,
    EngineStatus,
    ModelStatus,
    OriginStatus,
    PoolStatus,
    Reloaded,
    RoutesStatus,
    StateStatus,
    Status,
    TenantStatus,
    VersionStatus,
)
from gateway.admin.suggest import suggest_routes
from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.problems import RoutesError
from gateway.config.table import ModelSpec
from gateway.control.alerts import Alerter
from gateway.control.audit import Audit
from gateway.control.capacity import CapacityController
from gateway.control.deployments import Deployments
from gateway.control.drained import Drained
from gateway.control.fleet_quotas import FleetQuotas
from gateway.control.gate import Gate
from gateway.control.limits import queued
from gateway.control.persistence import Flusher
from gateway.control.reload import Reloader
from gateway.control.rollouts import RolloutController
from gateway.control.sharing import Sharing
from gateway.errors import ClientError
from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.slo.ledger import SloLedger
from gateway.proxy.explain import Explained
from gateway.proxy.gateway import Gateway
from gateway.proxy.live import LiveModel, LiveTable
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.tenants import LiveTenant
from gateway.telemetry.discovery_exposition import DiscoveryRow
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.latency_profile import LatencyProfile
from gateway.wire.client import Client

_EXPLAIN_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown model."},
    400: {"description": "Unknown class."},
}
_NOT_HERE = "models are not served by this admin listener: use the gateway's other port (`tidegate serve --port`)"
_NO_PATH = "no such path on the admin listener: GET /docs lists its paths"
_TOLD = 5
"""How many of the faults of one request are told."""


@dataclass(frozen=True, slots=True)
class AdminView:
    """What the admin plane looks at."""

    registry: Registry
    reloader: Reloader
    settle: Callable[[], None]
    metrics: Exposition
    ledger: SloLedger
    latencies: LatencyProfile
    alerter: Alerter
    explain: Callable[[str, int, str], tuple[str, list[Explained]]]
    rollouts: RolloutController
    deployments: Deployments
    capacity: CapacityController
    drained: Drained
    discovered: Callable[[], Sequence[DiscoveryRow]]
    audit: Audit
    flusher: Flusher
    fleet_quotas: FleetQuotas | None
    sharing: Sharing
    gateway: Gateway
    clients: Callable[[], Sequence[Client]]
    clock: Clock
    began: float


def create_admin(view: AdminView, *, host: str, token: AdminToken) -> FastAPI:
    """Return the admin application; `host` is where it is bound."""
    import_module("anyio._backends._asyncio")  # or the first request imports it, in 30 ms of the loop's time
    app = FastAPI(title="Tidegate admin", version=version("tidegate"), redoc_url=None)
    app.middleware("http")(Protection(host, token))
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    turn = asyncio.Lock()  # a crowd of large answers is made one in each turn of the loop, among the requests' work

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that this process lives."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
        """Return Prometheus or OpenMetrics text."""
        async with turn:
            view.settle()
            return await scrape(request, view.metrics, accept)

    @app.get("/admin/status")
    async def status(tenant: str = "") -> Status:
        """Return what is routed where, and how it is; of tenants' limits all, or those of one `tenant`."""
        async with turn:
            return _status(view, tenant)

    @app.get("/admin/models/{model:path}/slo", response_model=SloStatus, responses={404: {"description": "Unknown."}})
    async def slo(model: str) -> SloStatus | Response:
        """Return how a model, or alias, meets its objectives: burn rates over every window, budgets and alerts."""
        table = view.reloader.table
        spec = table.names.get(model)
        if spec is None:
            return no_such_model(model, table.names)
        return slo_status(spec, table, view.ledger, view.alerter)

    @app.get(
        "/admin/explain",
        response_model=Decision,
        responses=_EXPLAIN_ERRORS,
    )
    async def explain(
        model: str,
        prompt_tokens: Annotated[int, Query(ge=1, le=10_000_000)],
        service_class: Annotated[str, Query(alias="class", max_length=63)] = "standard",
    ) -> Decision | Response:
        """Return where a request would go now, and why; nothing is sent."""
        try:
            name, versions = view.explain(model, prompt_tokens, service_class)
        except ClientError as unknown:
            return error(unknown.status, unknown.code, unknown.message)
        decided = [_version_decision(each) for each in versions]
        return Decision(model=name, prompt_tokens=prompt_tokens, service_class=service_class, versions=decided)

    @app.post("/admin/reload", response_model=Reloaded, responses={409: {"description": "Refused; the old ones stay."}})
    async def reload() -> Reloaded | Response:
        """Load the route files again."""
        try:
            table = await view.reloader.reload()
        except RoutesError as refused:
            problems = [str(each) for each in refused.problems]
            return error(409, "routes_refused", "routes not loaded, the old ones stay in use", problems=problems)
        return Reloaded(models=len(table.models), pools=len(table.pools), sources=list(table.sources))

    app.include_router(canary_routes(view.rollouts))
    gate = Gate(view.ledger, view.alerter, view.rollouts)
    app.include_router(gate_routes(gate, view.reloader, view.ledger))
    app.include_router(suggest_routes(view.reloader, view.ledger, view.latencies, view.clock))
    app.include_router(deployment_routes(view.deployments))
    app.include_router(capacity_routes(view.capacity))
    app.include_router(operation_routes(view.registry, view.drained, view.audit, view.flusher.wake))
    return app


async def _http_error(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, StarletteHTTPException):
        return error(500, "internal_error", "the admin listener failed on this request")
    code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "invalid_request")
    message = str(exc.detail)
    if exc.status_code == 404:
        message = _NOT_HERE if request.url.path.startswith("/v1/") else _NO_PATH
    return error(exc.status_code, code, message)


async def _not_valid(_: Request, exc: Exception) -> JSONResponse:
    """Say what is wrong, without what was sent: that may hold what no JSON can, as infinity or half a character."""
    found = exc.errors() if isinstance(exc, RequestValidationError) else []
    words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:_TOLD])
    return error(422, "invalid_request", words.encode(errors="replace").decode() or "it cannot be read")


def _status(view: AdminView, tenant: str) -> Status:
    table, failure = view.reloader.table, view.reloader.failure
    quotas, now = view.fleet_quotas, view.clock()
    return Status(
        version=version("tidegate"),
        uptime_seconds=round(view.clock() - view.began, 1),
        draining=view.gateway.draining,
        in_flight=sum(client.busy for client in view.clients()),
        client_connections=len(view.clients()),
        routes=RoutesStatus(
            sources=list(table.sources),
            loaded=failure is None,
            problems=[str(problem) for problem in failure.problems] if failure else [],
        ),
        state=StateStatus(
            where=view.flusher.where,
            leads=view.flusher.leads,
            not_saved=view.flusher.failing or "",
            not_saved_since=view.flusher.failing_since and datetime.fromtimestamp(view.flusher.failing_since, UTC),
            read_seconds=view.flusher.read_seconds,
            shared=view.sharing.problem,
            fleet=fleet_status(view.flusher.fleet()),
            quotas=quotas_status(quotas.view(now, tenant) if quotas is not None and quotas.is_needed else None),
        ),
        models=[_model(spec, view.gateway.current.table) for spec in table.models.values()],
        backends=[_backend(backend, view.clock()) for backend in view.registry],
        pools=[
            PoolStatus(name=name, ejections_ignored=peers.panic_reason) for name, peers in view.registry.pools.items()
        ],
        discovery=[_origin(row) for row in view.discovered()],
        tenants=[_tenant(each, now) for each in view.gateway.current.tenants if tenant in ("", each.name)],
        rollouts=[canary_status(running, view.rollouts) for running in view.rollouts],
        alerts=firing_alerts(view.alerter, view.ledger),
        objectives=objective_statuses(view.ledger, view.alerter),
        capacity=[pool_capacity(each) for each in view.capacity],
    )


def _version_decision(explained: Explained) -> VersionDecision:
    return VersionDecision(
        version=explained.version,
        share=round(explained.share, 6),
        candidates=[candidate(each) for each in explained.considered],
        winner=explained.winner or None,
        why=explained.why,
    )


def _origin(row: DiscoveryRow) -> OriginStatus:
    return OriginStatus(
        origin=row.origin,
        pools=list(row.pools),
        targets=row.targets,
        leaving=row.leaving,
        age_seconds=None if row.age is None else round(row.age, 1),
        problem=row.problem,
        errors=row.errors,
    )


def _tenant(tenant: LiveTenant, now: float) -> TenantStatus:
    requests, tokens = (None if each is None else floor(each) for each in tenant.quota.left(now))
    return TenantStatus(
        name=tenant.name,
        service_class=tenant.service_class.name,
        in_flight=tenant.quota.own,
        requests_left=requests,
        tokens_left=tokens,
    )


def _model(spec: ModelSpec, live: LiveTable) -> ModelStatus:
    model = live.model(spec.name)
    shares = {version.name: share for version, share in model.traffic.split.shares()}
    queues = {queue.version: queue for queue in queued([model])}
    versions = [
        VersionStatus(
            name=each.name,
            served_model=each.served_model,
            pools=list(each.pools),
            weight=round(shares.get(each.name, 0.0), 6),
            instead=_instead(model, model.versions[each.name]),
            waiting=dict(queues[each.name].waiting),
            held_back=sorted(queues[each.name].held),
            shed=_by_class(queues[each.name].shed),
        )
        for each in spec.versions.values()
    ]
    return ModelStatus(name=spec.name, aliases=list(spec.aliases), versions=versions)


def _instead(model: LiveModel, version: LiveVersion) -> str:
    other = model.traffic.stand_in(version)
    return "" if other is None else other.name


def _by_class(sheds: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (name, reason), count in sheds.items():
        found.setdefault(name, {})[reason] = count
    return found


def _limit_reason(backend: Backend) -> str:
    if backend.spec.max_concurrency == backend.health.slots.limit:
        return "fixed by the routes"
    return backend.limit.reason


def _backend(backend: Backend, now: float) -> BackendStatus:
    engine, health = backend.engine.fresh(now), backend.health
    return BackendStatus(
        id=backend.id,
        pool=backend.spec.pool,
        state=backend.readiness.state,
        reason=backend.readiness.reason,
        silent=backend.readiness.silent,
        drained=backend.drained,
        leaving=backend.leaving,
        asleep=backend.availability.asleep,
        warming=backend.availability.warming,
        ejection=backend.health.outlier.ejection.state,
        ejection_reason=backend.health.outlier.ejection.reason,
        weight=round(backend.health.outlier.weight, 4),
        in_flight=backend.in_flight,
        limit=health.slots.limit if health.slots.limit < UNLIMITED else None,
        limit_reason=_limit_reason(backend),
        kv_tokens=health.slots.own_kv,
        kv_capacity=health.slots.kv_capacity if health.slots.kv_capacity < UNLIMITED else None,
        idle_connections=backend.pool.idle,
        models=sorted(backend.models) if backend.models is not None else None,
        failed_in_a_row=health.symptoms.failed_in_a_row,
        failed_seconds=_since(health.symptoms.failed_at, now),
        good_seconds=_since(health.symptoms.good_since, now),
        engine=EngineStatus(**asdict(engine)) if engine is not None else None,
    )


def _since(moment: float, now: float) -> float | None:
    return round(max(0.0, now - moment), 1) if isfinite(moment) else None
