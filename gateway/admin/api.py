"""The admin listener: metrics, status, reload. Never on the data listener, and never on the hot path."""

import asyncio
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from gateway.admin.canary import canary_routes
from gateway.admin.capacity import capacity_routes
from gateway.admin.costs import cost_routes
from gateway.admin.decisions import Decision, VersionDecision, candidate
from gateway.admin.deployments import deployment_routes
from gateway.admin.feed import Feed, feed_routes
from gateway.admin.gate import gate_routes
from gateway.admin.history import History, history_routes
from gateway.admin.operations import operation_routes
from gateway.admin.overview import overview
from gateway.admin.pages import page_routes
from gateway.admin.protection import AdminToken, Protection, error, no_such_model
from gateway.admin.scrape import scrape
from gateway.admin.sent import not_valid
from gateway.admin.slo import SloStatus, slo_status
from gateway.admin.status import (
    Reloaded,
    Status,
)
from gateway.admin.suggest import suggest_routes
from gateway.admin.view import AdminView
from gateway.clock import wall
from gateway.config.problems import RoutesError
from gateway.control.gate import Gate
from gateway.errors import ClientError, ModelNotFound
from gateway.proxy.explain import Explained
from gateway.telemetry.families import rendered

_EXPLAIN_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown model."},
    400: {"description": "Unknown class."},
}
_NOT_HERE = "models are not served by this admin listener: use the gateway's other port (`tidegate serve --port`)"
_NO_PATH = "no such path on the admin listener: GET /docs lists its paths"


def create_admin(view: AdminView, feed: Feed, history: History, *, host: str, token: AdminToken) -> FastAPI:
    """Return the admin application; `host` is where it is bound."""
    import_module("anyio._backends._asyncio")  # or the first request imports it, in 30 ms of the loop's time
    app = FastAPI(
        title="Tidegate admin", version=version("tidegate"), docs_url=None, redoc_url=None, routes=[*page_routes()]
    )
    app.middleware("http")(Protection(host, token))
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, not_valid)
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
            return await view.background.do(overview(view, tenant))

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
            return _unknown(unknown, model, view.reloader.table.names)
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

    app.include_router(feed_routes(feed))
    app.include_router(history_routes(history))
    app.include_router(canary_routes(view.rollouts))
    gate = Gate(view.ledger, view.alerter, view.rollouts)
    app.include_router(gate_routes(gate, view.reloader, view.ledger))
    app.include_router(suggest_routes(view.reloader, view.ledger, view.latencies, view.clock))
    app.include_router(deployment_routes(view.deployments))
    app.include_router(capacity_routes(view.capacity))
    app.include_router(cost_routes(partial(_used, view), view.background, partial(_started, view)))
    app.include_router(operation_routes(view.registry, view.drained, view.audit, view.flusher.wake))
    return app


async def _used(view: AdminView) -> bytes:
    """Return what tenants used and what engines cost, as metrics."""
    view.settle()
    return b"".join(await view.background.do(rendered((view.used,), open_metrics=False)))


def _started(view: AdminView) -> float:
    return wall() - (view.clock() - view.began)


async def _http_error(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, StarletteHTTPException):
        return error(500, "internal_error", "the admin listener failed on this request")
    code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "invalid_request")
    message = str(exc.detail)
    if exc.status_code == 404:
        message = _NOT_HERE if request.url.path.startswith("/v1/") else _NO_PATH
    return error(exc.status_code, code, message)


def _unknown(unknown: ClientError, model: str, names: Iterable[str]) -> JSONResponse:
    """Return the error for a model or a class that is not there."""
    if isinstance(unknown, ModelNotFound):
        return no_such_model(model, names)
    return error(unknown.status, unknown.code, unknown.message)


def _version_decision(explained: Explained) -> VersionDecision:
    return VersionDecision(
        version=explained.version,
        share=round(explained.share, 6),
        candidates=[candidate(each) for each in explained.considered],
        winner=explained.winner or None,
        why=explained.why,
    )
