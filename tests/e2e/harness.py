"""A real gateway between real sockets."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.app import App
from gateway.backends.backend import Backend
from gateway.clock import Clock, monotonic
from gateway.config.load import load_routes
from gateway.control.drain import DrainTimes
from gateway.discovery.kubernetes.cluster import ClusterSettings
from gateway.exchange import AttemptEnd, Exchange
from gateway.listeners import Addresses
from gateway.observers import Observer
from gateway.settings import Settings, Tls
from gateway.wire.client import Client
from gateway.wire.edge import Edge
from gateway.wire.guard import Limits
from gateway.wire.long_event import MAX_EVENT
from tests.e2e.raw_client import Answer, close_all, connect
from tests.waiting import DEADLINE, eventually

SEED = int(os.environ.get("TIDEGATE_SEED", "1"))
"""Of what a gateway draws: every run draws the same, so that chance refuses no commit; another number tries others."""


@dataclass
class Recorder(Observer):
    """Keeps what it is told."""

    exchanges: list[Exchange] = field(default_factory=list)
    attempts: list[tuple[str, AttemptEnd]] = field(default_factory=list)
    retries: list[AttemptEnd] = field(default_factory=list)

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        self.attempts.append((backend.id, end))

    def on_retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        self.retries.append(end)

    def on_settled(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


@dataclass
class Running:
    """A gateway that serves."""

    app: App
    data: str
    admin: str
    records: Recorder
    task: asyncio.Task[None]

    @property
    def port(self) -> int:
        return int(self.data.rsplit(":", 1)[1])

    @property
    def connections(self) -> list[Client]:
        """The clients that are connected."""
        return self.app.data.clients()

    def backend(self, index: int = 0) -> Backend:
        return list(self.app.data.registry)[index]

    @property
    def in_flight(self) -> int:
        return sum(backend.in_flight for backend in self.app.data.registry)

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        lines = [line for model in self.app.data.current.table for line in model.memory.lines.values()]
        return sum(len(line.queue) for line in lines)

    @property
    def held(self) -> int:
        """What requests hold, all told: slots, tokens, places, quotas; 0 when nothing is in progress."""
        healths = [backend.health for backend in self.app.data.registry]
        slots = sum(health.slots.in_flight + health.slots.kv + health.latency.prefilling for health in healths)
        return slots + self.waiting + sum(tenant.quota.in_flight for tenant in self.app.data.current.tenants)

    async def quiet(self, seconds: float = DEADLINE) -> None:
        """Wait until nothing is in progress anywhere: what every test of a fault ends with."""
        await eventually(lambda: self.held == 0 and not self.app.data.busy(), seconds)

    async def settled(self, count: int = 1) -> Exchange:
        """Wait until exactly `count` requests have settled and nothing is left; return the last."""
        await eventually(lambda: len(self.records.exchanges) >= count)
        await self.quiet()
        assert len(self.records.exchanges) == count, [e.reason for e in self.records.exchanges]
        for each in self.records.exchanges:
            assert abs(each.queued + each.backend_seconds + each.overhead - each.e2e) < 1e-6, "the parts must add up"
        return self.records.exchanges[-1]

    async def ready(self, *backends: int) -> None:
        """Wait until backends (all by default) have been probed as ready."""
        wanted = list(self.app.data.registry)
        chosen = [wanted[i] for i in backends] if backends else wanted
        await eventually(lambda: all(backend.readiness.state == "ready" for backend in chosen))


def routes(*urls: str, model: str = "m", **timeouts: str) -> str:
    """Return routes with one model on these backends; a test of a timeout says how short that one is."""
    limits = {"connect": "20s", "first_token": "60s", "stall": "60s", "total": "2m"} | timeouts
    spec = {"models": {model: {"backends": list(urls), "timeouts": limits}}}
    return json.dumps(spec)


@asynccontextmanager
async def gateway(
    folder: Path,
    text: str,
    *,
    limits: Limits | None = None,
    drain: DrainTimes | None = None,
    wait_ready: bool = True,
    token: str | None = None,
    token_file: Path | None = None,
    state: str = "memory://",
    otlp_endpoint: str | None = None,
    trace_ratio: float = 0.01,
    alert_webhook: str | None = None,
    max_event: int = MAX_EVENT,
    edge: Edge | None = None,
    tls: Tls | None = None,
    admin_tls: Tls | None = None,
    path: Path | None = None,
    now: Clock = monotonic,
    observers: Sequence[Observer] = (),
    dns_server: tuple[str, int] | None = None,
    kubernetes: ClusterSettings | None = None,
) -> AsyncIterator[Running]:
    """Run a gateway on free ports until the block ends, with routes of this text, or those at `path`.

    What it measures it measures by the clock `now`.
    """
    if path is None:
        path = folder / "routes.yaml"
        path.write_text(text)
    settings = Settings(
        routes=path,
        port=0,
        admin_port=0,
        admin_token=token,
        admin_token_file=token_file,
        access_log=False,
        state=state,
        otlp_endpoint=otlp_endpoint,
        trace_ratio=trace_ratio,
        alert_webhook=alert_webhook,
        max_event=max_event,
        limits=limits or Limits(),
        edge=edge or Edge(),
        tls=tls or Tls(),
        admin_tls=admin_tls or Tls(),
        drain=drain or DrainTimes(0.0, 5.0),
        dns_server=dns_server,
        kubernetes=kubernetes or ClusterSettings(),
    )
    records = Recorder()
    app = App(settings, load_routes(path), *observers, records, now=now)
    addresses: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(app.run(addresses.set_result))
    either: set[asyncio.Future[Any]] = {task, addresses}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    where = addresses.result()
    app.data.rng.seed(SEED)
    running = Running(app, where.data, where.admin, records, task)
    try:
        if wait_ready:
            await running.ready()
        yield running
    finally:
        close_all(running.port)
        app.stop()
        app.stop()
        async with asyncio.timeout(DEADLINE):
            await task


def post(body: Any, *, path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    """Return the bytes of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        headers.encode(),
        len(data),
        data,
    )


def chat(stream: bool = True, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **more}


async def ask(port: int, body: Any, *, path: str = "/v1/chat/completions", headers: str = "") -> Answer:
    """Send one request on a connection of its own and read its answer."""
    client = await connect(port)
    try:
        await client.send(post(body, path=path, headers=headers))
        return await client.answer()
    finally:
        client.close()
