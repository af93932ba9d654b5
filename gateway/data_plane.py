"""The data plane: takes requests, sends them on, and counts what became of them."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from random import Random
from resource import RLIMIT_NOFILE, getrlimit
from select import PIPE_BUF
from typing import Any, cast

from gateway import clock as clocks
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.table import RouteTable
from gateway.control.evidence import EvidenceQueue
from gateway.lateness import Lateness
from gateway.listeners import BACKLOG, Listener, bounded, listener, no_asgi
from gateway.observers import Observer, Observers
from gateway.policy.admission.quota import Quota
from gateway.policy.routing.choose import choose
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.slo.ledger import SloLedger
from gateway.proxy.current import CurrentTable
from gateway.proxy.explain import Explained, explain
from gateway.proxy.gateway import Gateway
from gateway.proxy.live import LiveTable
from gateway.proxy.mirroring import Mirroring
from gateway.proxy.routed_request import Chooser, ProxyContext
from gateway.proxy.stored import StoredResponses
from gateway.proxy.tracing import Tracing
from gateway.settings import Settings
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.alarms import UnauthorizedAlarm
from gateway.telemetry.collector_url import metrics_url
from gateway.telemetry.latency_profile import LatencyProfile
from gateway.telemetry.metric_exporter import MetricExporter
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp_settings import metric_settings, otlp_settings, resource
from gateway.telemetry.server_address import own_address
from gateway.telemetry.slo_recorder import SloRecorder, follow, following
from gateway.telemetry.tenant_usage import TenantUsage
from gateway.telemetry.throughput_recorder import ThroughputRecorder
from gateway.telemetry.traces import Traces
from gateway.wire.client import Client
from gateway.wire.outbox import Outbox
from gateway.wire.slices import Slices, Work, finish
from gateway.wire.tls import Door

_TOGETHER = 256
"""Clients that are looked at in one piece."""


class DataPlane:
    """The parts that a request meets.

    It passes, in this order: the guard (`wire.guard`, before anything is believed), the body (`wire.body`, one pass),
    the route (`proxy.gateway`), attempts (`proxy.attempt`), the relay (`proxy.relay`), and settlement, where the
    observers stand: metrics and the counts of SLIs first, since a line that cannot be written must still be counted.
    """

    def __init__(
        self,
        settings: Settings,
        routes: RouteTable,
        *,
        clock: Clock,
        epoch: Clock,
        rng: Random,
        observers: Sequence[Observer] = (),
        chooser: Chooser = choose,
    ) -> None:
        """Take the clock of requests, and one of seconds since the epoch that never jumps."""
        self.clock, self.rng, self._epoch = clock, rng, epoch
        self._limits = settings.limits
        self._outbox, self._slices = Outbox(), Slices(clock)
        self.background = Slices(clock)  # apart: what requests have to do never holds up deadlines
        self._listener: Listener | None = None
        self.registry = Registry(self._outbox, clock, Lateness())
        self.metrics, self.ledger, self.usage = Metrics(), SloLedger(epoch()), TenantUsage()
        self.latencies, self.throughputs = LatencyProfile(), ThroughputRecorder(epoch() - clock())
        self.registry.reconcile(routes)
        follow(self.ledger, routes, epoch())
        self.metrics.follow(routes)
        self.usage.follow(routes.tenants)
        self.current = CurrentTable(routes, self.registry, clock, int(clocks.wall()))
        self.evidence = EvidenceQueue()
        self.access_log = self._opened_log(settings) if settings.access_log else None
        endpoint = settings.otlp_endpoint
        self.traces: Traces | None = None
        self.exporter: MetricExporter | None = None
        if endpoint is not None:
            process, server = resource(os.environ), own_address(settings.host, settings.port)
            self.traces = Traces(endpoint, otlp_settings(os.environ), process, server)
        logged = () if self.access_log is None else (self.access_log,)
        traced = () if self.traces is None else (self.traces.requests,)
        self.observers = Observers(
            self.evidence,
            *logged,
            UnauthorizedAlarm(clock),
            *observers,
            batched=(self.metrics, SloRecorder(self.ledger), self.usage, self.latencies, self.throughputs, *traced),
        )
        if endpoint is not None:
            self.exporter = self._exporter(endpoint, process, server)
        tracing = Tracing(settings.trace_ratio, rng) if traced else None
        context = ProxyContext(clock, rng, self.observers, chooser, tracing, max_event=settings.max_event)
        self.mirroring = Mirroring(context, self.evidence.on_settled)
        self.stored = StoredResponses()
        self.gateway = Gateway(
            self.current, context, self.mirroring, self._slices, stored=self.stored, edge=settings.edge
        )

    def __repr__(self) -> str:
        return f"<DataPlane of {len(self.clients())} clients and {self.registry!r}>"

    def _exporter(self, endpoint: str, process: bytes, server: bytes) -> MetricExporter | None:
        """Return what sends metrics to a collector; None where none are wanted there."""
        wanted = metric_settings(os.environ)
        if wanted is None:
            return None
        return MetricExporter(
            metrics_url(endpoint),
            wanted,
            self.metrics,
            lambda: self.current.routes.models,
            self.background,
            resource=process,
            server=server,
            settle=self.observers.flush,
        )

    @staticmethod
    def _opened_log(settings: Settings) -> AccessLog:
        if settings.shares_output:
            return AccessLog(sys.stdout.buffer, at_once=PIPE_BUF)
        return AccessLog(sys.stdout.buffer)

    def listener(self, door: Door | None) -> Listener:
        """Return the listener of clients, behind TLS where there is a door."""
        limits = partial(bounded, self._limits, getrlimit(RLIMIT_NOFILE)[0], self.registry)

        def client(*, server_state: Any, **_: Any) -> Client:
            held = server_state.connections
            return Client(self.gateway, held, limits(), self._outbox, self._slices, clock=self.clock)

        def admits(held: set[object]) -> bool:
            return len(held) < limits().connections

        self._listener = listener(no_asgi, client, door, admits, backlog=BACKLOG)
        return self._listener

    def clients(self) -> list[Client]:
        """Return the clients that are connected."""
        return [] if self._listener is None else cast(list[Client], list(self._listener.server_state.connections))

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return 0 if self._listener is None else len(self._listener.server_state.connections)

    def busy(self) -> int:
        """Return how many clients wait for an answer or get one."""
        return finish(self.counting_busy())

    def counting_busy(self) -> Work[int]:
        """Return that number, counted in small pieces."""
        clients, found = self.clients(), 0
        while clients:
            found += sum(client.busy for client in clients[-_TOGETHER:])
            del clients[-_TOGETHER:]
            yield
        return found

    def pools(self) -> Iterable[PoolState]:
        """Return the pools as routing compares their backends."""
        return self.registry.pools.values()

    def prompt_errors(self) -> Iterable[tuple[str, float | None]]:
        """Yield by model how far estimates of prompts are off."""
        return ((model.name, model.memory.prompts.error) for model in self.current.table)

    def quotas(self) -> Iterator[tuple[str, Quota]]:
        """Yield the quotas of the tenants that are counted by name."""
        return ((each.name, each.quota) for each in self.current.tenants if self.usage.is_named(each.name))

    def refused_retries(self) -> Iterable[tuple[str, int]]:
        """Yield by model how many retries its budget refused."""
        return ((model.name, model.memory.retries.refused) for model in self.current.table)

    def explain(self, name: str, tokens: int, service_class: str) -> tuple[str, list[Explained]]:
        """Return where a request would go now, and why; raises ModelNotFound, and ClientError for the class."""
        model = self.current.table.model(name)
        asked = self.current.tenants.class_named(service_class)
        return model.name, explain(model, tokens, asked, now=self.clock(), rng=self.rng)

    def swapping(self, routes: RouteTable) -> Work[LiveTable]:
        """Put other routes in force, and return the table before; `current.renewing` has to follow.

        All of it is made in small pieces, beside what is in force, and then adopted in one: no request meets a part.
        """
        reconciled = self.registry.prepare(routes)
        counts = following(self.ledger, routes, self._epoch())
        yield from counts.prepare()
        bounds = yield from self.metrics.prepare(routes)
        successor = yield from self.current.prepare(reconciled)
        self.registry.adopt(reconciled)
        self.ledger.adopt(counts)
        self.metrics.adopt(bounds)
        self.usage.follow(routes.tenants)
        return self.current.adopt(successor)
