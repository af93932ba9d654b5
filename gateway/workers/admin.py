"""The admin listener of a machine: what its workers say, put together, and commands for those whom they concern."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.costs import METRICS, cost_routes
from gateway.admin.events import RecentEvents
from gateway.admin.feed import Feed
from gateway.admin.pages import page_routes
from gateway.admin.protection import AdminToken, Protection, error
from gateway.admin.sent import not_valid
from gateway.clock import monotonic
from gateway.config.problems import RoutesError
from gateway.control.reload import Reloader
from gateway.telemetry.families import Family, counter, gauge, negotiate, single
from gateway.wire.slices import Slices
from gateway.workers.asking import Asking
from gateway.workers.merging import Expositions, Families, rendered
from gateway.workers.process import Stage, WorkerProcess
from gateway.workers.roster import Roster
from gateway.workers.status import merged

_OWN = ("tidegate_routes_loaded", "tidegate_reloads_total", "tidegate_reload_failures_total")
"""Metrics of what the supervisor does itself."""
_DRAIN = re.compile(r"/admin/backends/(.+)/(drain|undrain)")
_PROGRESS = re.compile(r"/admin/backends/(.+)")
_SUGGEST = re.compile(r"(/admin/models/.+/slo/)suggest")
_PASSED_ON = ("content-type", "x-gateway-actor", "traceparent")
_NOT_PASSED_BACK = frozenset(("content-length", "transfer-encoding", "connection", "date", "server"))
_SNAPSHOT = 2.0
"""Seconds in which a worker tells its part of a snapshot, or the others are shown without it."""
FRESH = 5.0
"""Seconds after which workers tell what they have counted, though nobody asks: one that is killed tells no more."""


@dataclass(slots=True)
class MachineView:
    """What the admin listener shows: `upgrade` says what became of the last one, "" before the first."""

    roster: Roster
    reloader: Reloader
    began: float
    start_upgrade: Callable[[], bool]
    expositions: Expositions = field(default_factory=Expositions)
    asking: Asking = field(default_factory=Asking)
    events: RecentEvents | None = None
    is_stopping: bool = False
    upgrade: str = ""
    upgrades: int = 0


class MachineAdmin:
    """Answers at the admin listener of the supervisor."""

    def __init__(self, view: MachineView) -> None:
        self._view = view
        self._turn = asyncio.Lock()
        self.feed = Feed(self._snapshot)

    def app(self, host: str, token: AdminToken) -> Starlette:
        """Return the application; `host` is where it is bound."""
        protection = Protection(host, token)
        return Starlette(
            routes=[
                *page_routes(),
                Route("/health", self._health),
                Route("/admin/stream", self._stream),
                Route("/admin/snapshot", self._one_snapshot),
                Route("/metrics", self._metrics),
                Route("/admin/status", self._status),
                Route("/admin/costs", self._costs()),
                Route("/admin/reload", self._reload, methods=["POST"]),
                Route("/admin/upgrade", self._upgrade, methods=["POST"]),
                Route("/{path:path}", self._pass_on, methods=["GET", "POST", "PATCH"]),
            ],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=protection)],
        )

    async def keep_counts(self) -> None:
        """Have workers tell their counts now and then, until cancelled.

        Nothing is made of them while a worker lives. Those that retire may be of a version that does not tell them so.
        """
        while True:
            await asyncio.sleep(FRESH)
            self._view.roster.tell({"do": "count"})
            if any(each.stage is Stage.RETIRING for each in self._view.roster.workers):
                await self._look()

    async def _look(self) -> None:
        """See the metrics of all workers; older answers never come after newer ones."""
        async with self._turn:
            for worker, answer in await self._view.asking.ask_all(self._ranked(), "/metrics"):
                if worker in self._view.roster.workers and answer.is_success:
                    self._view.expositions.saw(worker.pid, answer.content)

    def _ranked(self) -> list[WorkerProcess]:
        """Return the workers, the leader first."""
        leader = self._view.roster.leader
        return sorted(self._view.roster.workers, key=lambda each: each is not leader)

    @staticmethod
    async def _health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        await self._look()
        open_metrics, content_type = negotiate(request.headers.get("accept", ""))
        found: Families = self._view.expositions.merged([each.pid for each in self._ranked()])
        for name in _OWN:
            found.pop(name, None)
        blocks = [*rendered(found, open_metrics=open_metrics)]
        for family in self._own():
            blocks += family.blocks(open_metrics=open_metrics)
        blocks += [b"# EOF\n"] if open_metrics else []
        return Response(b"".join(blocks), headers={"content-type": content_type})

    def _costs(self) -> FastAPI:
        """Return what answers about costs: those of all workers, which the metrics of all have."""
        view = self._view

        async def told() -> bytes:
            await self._look()
            costs = view.expositions.merged([each.pid for each in self._ranked()], METRICS)
            return b"".join(rendered(costs, open_metrics=False))

        app = FastAPI(openapi_url=None)
        app.add_exception_handler(RequestValidationError, not_valid)
        app.include_router(cost_routes(told, Slices(monotonic), lambda: view.began))
        return app

    def _own(self) -> Iterator[Family]:
        view = self._view
        yield single(gauge("routes_loaded", "1 when the last load was good."), float(view.reloader.failure is None))
        yield single(counter("reloads", "Good loads of the routes after the first."), view.reloader.loads)
        yield single(counter("reload_failures", "Loads refused."), view.reloader.failures)
        workers = gauge("workers", "Worker processes by how far they are.", ("stage",))
        for stage in Stage:
            workers.add((stage,), sum(each.stage is stage for each in view.roster.workers))
        yield workers
        yield single(counter("worker_restarts", "Workers that ended and were started again."), view.roster.restarts)
        yield single(counter("upgrades", "Generations of workers that took over from another."), view.upgrades)

    async def _status(self, request: Request) -> Response:
        view = self._view
        await self._look()
        query = f"?{request.url.query}" if request.url.query else ""
        answers = await view.asking.ask_all(self._ranked(), f"/admin/status{query}")
        if not answers:
            return _nobody()
        status = merged([answer.json() for _, answer in answers]) | self._told_here()
        status |= {
            "generation": view.roster.generation,
            "upgrade": view.upgrade,
            "workers": [self._worker(each) for each in self._ranked()],
        }
        return JSONResponse(status)

    async def _snapshot(self) -> dict[str, Any] | None:
        """Return what the dashboard shows, None while no worker answers."""
        answers = await self._view.asking.ask_all(self._ranked(), "/admin/snapshot", _SNAPSHOT)
        if not answers:
            return None
        found = []
        for worker, answer in answers:
            found.append(answer.json())
            for each in found[-1]["events"]:
                each["worker"] = worker.pid
        if self._view.events is not None:
            found[0]["events"] += [each.model_dump(mode="json") for each in self._view.events.events()]
        return merged(found) | self._told_here()

    async def _one_snapshot(self, _: Request) -> Response:
        found = await self._snapshot()
        return _nobody() if found is None else JSONResponse(found)

    async def _stream(self, _: Request) -> Response:
        return self.feed.response()

    def _told_here(self) -> dict[str, Any]:
        """Return what the supervisor knows itself of what workers tell."""
        view, failure = self._view, self._view.reloader.failure
        return {
            "uptime_seconds": round(time.time() - view.began, 1),
            "draining": view.is_stopping,
            "routes": {
                "sources": list(view.reloader.table.sources),
                "loaded": failure is None,
                "problems": [str(each) for each in failure.problems] if failure else [],
            },
        }

    def _worker(self, worker: WorkerProcess) -> dict[str, Any]:
        return {
            "pid": worker.pid,
            "generation": worker.generation,
            "stage": worker.stage,
            "since": datetime.fromtimestamp(worker.since, UTC).isoformat(),
            "requests": self._view.expositions.requests(worker.pid),
            "leads": worker.leads,
            "routes": worker.routes,
            "problem": worker.problem,
        }

    async def _reload(self, _: Request) -> Response:
        try:
            table = await self._view.reloader.reload()
        except RoutesError as refused:
            problems = [str(each) for each in refused.problems]
            return error(409, "routes_refused", "routes not loaded, the old ones stay in use", problems=problems)
        if behind := [each for each in self._view.roster.workers if each.problem]:
            problems = [f"worker {each.pid}: {each.problem}" for each in behind]
            return error(500, "routes_not_applied", "some workers go on with the old routes", problems=problems)
        sources = list(table.sources)
        return JSONResponse({"models": len(table.models), "pools": len(table.pools), "sources": sources})

    async def _upgrade(self, _: Request) -> Response:
        if not self._view.start_upgrade():
            return error(409, "upgrade_in_progress", "an upgrade is in progress already, or the gateway is stopping")
        return JSONResponse({"generation": self._view.roster.generation}, 202)

    async def _pass_on(self, request: Request) -> Response:
        """Let the leading worker answer; all have to know what is drained."""
        leader = self._view.roster.leader
        if leader is None:
            return _nobody()
        method, body = request.method, await request.body()
        raw = bytes(request.scope["raw_path"]).decode("latin-1")
        target = f"{raw}?{request.url.query}" if request.url.query else raw
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        if method == "GET" and (suggest := _SUGGEST.fullmatch(raw)) is not None:
            method, body = "POST", await self._observed(leader, f"{suggest[1]}observed")
            headers["content-type"] = "application/json"
        answer = await self._view.asking.ask(leader, method, target, body, headers)
        if answer is None:
            return _nobody()
        if request.method == "GET" and answer.is_success and _PROGRESS.fullmatch(unquote(raw)):
            return await self._progress(target)
        found = _DRAIN.fullmatch(unquote(raw))
        if found is not None and answer.is_success and request.method == "POST":
            await self._drain(leader, found[1], drained=found[2] == "drain")
        kept = {name: value for name, value in answer.headers.items() if name not in _NOT_PASSED_BACK}
        return Response(answer.content, answer.status_code, kept)

    async def _observed(self, leader: WorkerProcess, target: str) -> bytes:
        """Return, for the leader, what the other workers have seen: each counts the latencies of its own requests."""
        others = [each for each in self._view.roster.workers if each is not leader]
        answers = await self._view.asking.ask_all(others, target)
        observed = [answer.json() for _, answer in answers]
        return json.dumps({"observed": observed, "workers": len(others) + 1}).encode()

    async def _progress(self, target: str) -> Response:
        """Tell how far a backend is drained, by all workers: one alone may still have requests there."""
        answers = await self._view.asking.ask_all(self._ranked(), target)
        found = [answer.json() for _, answer in answers if answer.is_success]
        if not found:
            return _nobody()
        missing = len(found) < len(self._view.roster.workers)
        whole = {
            "backend": found[0]["backend"],
            "draining": found[0]["draining"],  # the leader's: the others may not have heard yet
            "drained": not missing and all(each["drained"] for each in found),
            "in_flight": sum(each["in_flight"] for each in found),
        }
        return JSONResponse(whole)

    async def _drain(self, leader: WorkerProcess, backend: str, *, drained: bool) -> None:
        for each in self._view.roster.workers:
            if each is not leader:
                each.send({"do": "drain", "backend": backend, "drained": drained})


def _nobody() -> Response:
    return error(503, "no_worker", "no worker of the gateway answers (yet): try again in a moment, and see its log")
