"""The composition root: builds every part once, hands it down, and runs the two listeners in one event loop."""

import asyncio
import logging
import resource
import sys
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, cast

from gateway import clock
from gateway.admin.api import AdminView, create_admin
from gateway.admin.connection import AdminConnection, AdminLimits
from gateway.admin.protection import is_loopback
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.table import RouteTable
from gateway.control.admitting import Admitter, queued
from gateway.control.alerting import alerter
from gateway.control.audit import Audit
from gateway.control.deploying import Deployments
from gateway.control.drain import closed, drain, in_thread
from gateway.control.drained import Drained
from gateway.control.evidence import EvidenceQueue
from gateway.control.flush import Flusher, Keeps
from gateway.control.judging import Judge
from gateway.control.probing import Prober
from gateway.control.reload import Reloader
from gateway.control.remembering import Remembering
from gateway.control.rolling import Roller
from gateway.control.scraping import Scraper
from gateway.control.sharing import Sharing
from gateway.control.supervise import Supervisor
from gateway.control.sweep import Checked, sweep
from gateway.control.warming import Warmer
from gateway.control.watching import Watched, watch
from gateway.control.webhook import Webhook
from gateway.hosting import (
    BACKLOG,
    Addresses,
    Listener,
    ListenerFiles,
    Settings,
    bind_listeners,
    bounded,
    collect_seldom,
    handle_signals,
    listener,
    no_asgi,
    raise_descriptor_limit,
    url,
)
from gateway.lateness import Lateness
from gateway.observers import Observer, Observers
from gateway.policy.routing.choose import choose
from gateway.policy.routing.peers import Peers
from gateway.proxy.explain import Explained, explain
from gateway.proxy.gateway import Gateway
from gateway.proxy.live import LiveTable
from gateway.proxy.mirroring import Mirroring
from gateway.proxy.order import Chooser, Tools
from gateway.proxy.renewal import outlived, renew_waiting
from gateway.proxy.tenants import Tenants
from gateway.proxy.tracing import Tracing
from gateway.state.store import Document, MemoryStore
from gateway.state.url import opened
from gateway.telemetry import exposition
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.admission_exposition import AdmissionCollector
from gateway.telemetry.alarms import UnauthorizedAlarm
from gateway.telemetry.collector_url import traces_to
from gateway.telemetry.exposition import GatewayCollector, Gauges
from gateway.telemetry.lag import LoopLag
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.rollout_exposition import Delivered, RolloutCollector
from gateway.telemetry.routing_exposition import RoutingCollector
from gateway.telemetry.slo import SloBook
from gateway.telemetry.slo_exposition import SloCollector
from gateway.wire.client import Client
from gateway.wire.outbox import Outbox
from gateway.wire.slices import Slices

_log = logging.getLogger(__name__)


class App:
    """One gateway process.

    A request passes, in this order: the guard (`wire.guard`, before anything is believed), the body (`wire.body`, one
    pass), the route (`proxy.gateway`), attempts (`proxy.flight`), the relay (`proxy.relay`), and settlement, where the
    observers stand: metrics and the book of SLIs first, since a line that cannot be written must still be counted, then
    the access log.

    Raises FilesError for files that a listener cannot use, OSError for addresses that cannot be bound, and StateError
    for a store that was asked for and cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        table: RouteTable,
        *observers: Observer,
        choose: Chooser = choose,
        now: Clock = clock.monotonic,
    ) -> None:
        self._settings = settings
        self._files = ListenerFiles(settings)
        self._sockets = bind_listeners(settings)  # before the state, which may be a running gateway's own
        self._clock, self._rng = now, Random()
        self.connections: Callable[[], list[Client]] = list
        self._outbox = Outbox()
        self.registry = Registry(self._outbox, self._clock, Lateness())
        self.reloader = Reloader(settings.routes, table, self._apply, listeners=settings.listeners)
        self._metrics = Metrics()
        started = clock.wall() - self._clock()

        def epoch() -> float:
            return self._clock() + started

        self.book = SloBook(epoch)
        self.judge = Judge(self.book, self.registry, clock=now, epoch=epoch, rng=self._rng, settle=self._settle)
        store = opened(settings.state)
        saved = store.load(epoch())
        self.audit = Audit(epoch)
        self.audit.restore(saved.records)
        self.drained = Drained(self.registry, self.audit)
        self.drained.restore(saved.documents)
        self._follow(table)
        self.book.restore(saved.slots)
        self.judge.restore(saved.ejections)
        self._webhook = Webhook(settings.alert_webhook) if settings.alert_webhook else None
        self.sharing = Sharing(store.where, lambda: self.reloader.table, lambda: self.flusher.token > 0, epoch)
        remembering = Remembering(started, saved.responses)
        self.flusher = Flusher(
            store,
            self.book.unsaved,
            self.judge.unsaved_ejections,
            epoch,
            keeps=Keeps(self._documents, self.audit.unsaved, remembering.unsaved, self._take_over, self.sharing.led),
        )
        self.flusher.lead()
        self.alerter = alerter(self.book, epoch, self._webhook, self.flusher.wake, saved.documents)
        self.roller = Roller(
            self.book,
            lambda: self.gateway.table,
            self.audit,
            clock=epoch,
            leads=lambda: self.flusher.token > 0,
            saved=self.flusher.wake,
            lasting=not isinstance(store, MemoryStore),
            lateness=self.registry.lateness,
        )
        self._traces = traces_to(settings.otlp_endpoint)
        self.deployments = Deployments(
            self.book,
            lambda: self.gateway.table,
            self.roller,
            self.audit,
            clock=epoch,
            over=self._traces.over if self._traces is not None else lambda _: None,
        )
        self._lag = LoopLag(self._clock)
        self._access_log = AccessLog(sys.stdout.buffer) if settings.access_log else None
        logs, traced = (
            () if self._access_log is None else (self._access_log,),
            () if self._traces is None else (self._traces.requests,),
        )
        evidence = EvidenceQueue()
        evidence.feed(self.roller, self.deployments)
        watching = (evidence, *logs, UnauthorizedAlarm(self._clock), *observers)
        self._observers = Observers(*watching, batched=(self._metrics, self.book, *traced))
        tracing = Tracing(settings.trace_ratio, self._rng) if traced else None
        tools = Tools(self._clock, self._rng, self._observers, choose, tracing, max_event=settings.max_event)
        self.mirroring = Mirroring(tools, evidence.on_settled)
        self._created, self._began = int(clock.wall()), self._clock()
        self._slices = Slices(self._clock)
        self.gateway = Gateway(
            LiveTable(table, self.registry, self._created),
            Tenants(table, self._clock),
            tools,
            self.mirroring,
            self._slices,
            stored=remembering.stored,
            edge=settings.edge,
        )
        self.roller.restore(saved.documents)
        self.roller.follow(table)
        self.deployments.restore(saved.documents)
        self.admitter = Admitter(
            self.registry,
            lambda: self.gateway.table,
            self.book,
            classes=lambda: self.gateway.tenants.classes,
            clock=self._clock,
        )
        self.admitter.follow()
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()

    async def run(self, started: Callable[[Addresses], None]) -> None:
        """Serve until told to stop; `started` is called once both listeners accept."""
        settings = self._settings
        raise_descriptor_limit()
        data_socket, admin_socket = self._sockets
        data, admin = self._data_listener(), self._admin_listener()
        self.connections = lambda: cast(list[Client], list(data.server_state.connections))
        loops = self._start_loops(admin)
        handle_signals(self.stop, self._reload)
        serving = asyncio.create_task(data.serve(sockets=[data_socket]))
        administering = asyncio.create_task(admin.serve(sockets=[admin_socket]))
        await data.accepting.wait()
        await admin.accepting.wait()
        if not self.gateway.tenants.closed and not is_loopback(settings.host):
            _log.warning(
                "no tenants in the routes: anyone who reaches this listener may send requests",
                extra={"host": settings.host},
            )
        collect_seldom()
        started(Addresses(url(data_socket, tls=bool(settings.tls)), url(admin_socket, tls=bool(settings.admin_tls))))
        await self._stopping.wait()

        async def close_listener() -> None:
            data.should_exit = True
            await serving

        await drain(settings.drain, self.connections, close_listener, self._hurry)
        data.force_exit = admin.should_exit = admin.force_exit = True
        await closed(administering, "the admin listener", self._hurry)
        await closed(loops.close(), "background loops", self._hurry)
        self.judge.judge()
        self.mirroring.close()
        await closed(self.flusher.close(), "the state", self._hurry)
        self.registry.close()
        if self._access_log is not None:
            await closed(in_thread(self._access_log.close), "the access log", self._hurry)
        if self._traces is not None:
            await closed(in_thread(self._traces.close), "the OTLP collector", self._hurry)

    @property
    def busy_connections(self) -> int:
        """How many clients wait for an answer or get one."""
        return sum(client.busy for client in self.connections())

    def stop(self) -> None:
        """Begin to drain; a second call ends at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self.gateway.draining = True
        self._stopping.set()

    def _apply(self, table: RouteTable) -> None:
        self._follow(table)
        before = self.gateway.table
        self.gateway.table = LiveTable(table, self.registry, self._created, before=before)
        self.gateway.tenants = Tenants(table, self._clock, before=self.gateway.tenants)
        self.admitter.follow()
        self.roller.follow(table)
        outlived(before, self.gateway.table)
        renew_waiting(before, self.gateway.table, self._clock())

    def _settle(self) -> None:
        self._observers.flush()

    def _documents(self) -> list[Document]:
        keepers = (self.roller, self.deployments, self.drained, self.alerter, self.sharing)
        return [document for keeper in keepers for document in keeper.documents()]

    def _take_over(self, documents: Iterable[Document]) -> None:
        self.roller.taken_over(documents, self.reloader.table)

    def _follow(self, table: RouteTable) -> None:
        self.registry.reconcile(table)
        self.book.follow(table)
        self._metrics.follow(table)

    def _start_loops(self, admin: Listener) -> Supervisor:
        supervisor = Supervisor()
        supervisor.start("probe", Prober(self.registry, self._clock, self._rng, hops=self.gateway.hops.name).run)
        supervisor.start("scrape", Scraper(self.registry, self._clock, self._rng).run)
        supervisor.start("sweep", lambda: sweep(lambda: self._checked(admin), self._clock, self.registry.lateness))
        supervisor.start("judge", self.judge.run)
        supervisor.start("admit", self.admitter.run)
        supervisor.start("alerts", self.alerter.run)
        supervisor.start("rollouts", self.roller.run)
        warmer = Warmer(self.roller, lambda: self.gateway.table, lambda: self.flusher.token > 0)
        supervisor.start("warm candidates", warmer.run)
        supervisor.start("deployments", self.deployments.run)
        if self._webhook is not None:
            supervisor.start("alert webhook", self._webhook.run)
        supervisor.start("save state", self.flusher.run)
        supervisor.start("loop lag", self._lag.run)
        supervisor.start("watch files", lambda: watch(self._watched()))
        return supervisor

    def _checked(self, admin: Listener) -> Iterable[Checked]:
        of_admin = cast(set[Checked], admin.server_state.connections)
        return (*self.connections(), *of_admin, *self.mirroring.flights)

    async def _reload(self) -> None:
        if not self._stopping.is_set():
            for source in self._watched():
                await source.again()

    def _watched(self) -> tuple[Watched, ...]:
        return self.reloader, *self._files.watched

    def _view(self) -> AdminView:
        log, reloader = self._access_log, self.reloader
        gauges = Gauges(
            backends=lambda: self.registry,
            clock=self._clock,
            in_flight=lambda: self.busy_connections,
            connections=lambda: len(self.connections()),
            tasks=lambda: len(asyncio.all_tasks()),
            routes_loaded=lambda: reloader.failure is None,
            reloads=lambda: reloader.loads,
            reload_failures=lambda: reloader.failures,
            loop_lag=lambda: self._lag.worst,
            access_log_dropped=lambda: 0 if log is None else log.dropped,
            state_saved_at=lambda: self.flusher.saved_at,
            state_failures=lambda: self.flusher.failures,
            handshakes=self._files.handshakes,
            notifications=lambda: {} if self._webhook is None else self._webhook.results,
        )
        return AdminView(
            registry=self.registry,
            reloader=reloader,
            settle=self._settle,
            metrics=exposition.registry(
                GatewayCollector(self._metrics, gauges),
                SloCollector(self.book, lambda: self.alerter),
                AdmissionCollector(
                    self._pools,
                    lambda: queued(self.gateway.table),
                    lambda: {model.name: model.memory.prompts.error for model in self.gateway.table},
                ),
                RolloutCollector(self.roller.rows, self._delivered),
                RoutingCollector(
                    self._pools,
                    lambda: self.judge.ejections,
                    lambda: {model.name: model.memory.retries.refused for model in self.gateway.table},
                ),
            ),
            book=self.book,
            alerter=self.alerter,
            explain=self._explain,
            roller=self.roller,
            deployments=self.deployments,
            drained=self.drained,
            audit=self.audit,
            flusher=self.flusher,
            sharing=self.sharing,
            table=lambda: self.gateway.table,
            tenants=lambda: self.gateway.tenants,
            draining=lambda: self.gateway.draining,
            in_flight=gauges.in_flight,
            connections=gauges.connections,
            clock=self._clock,
            uptime=lambda: self._clock() - self._began,
        )

    def _delivered(self) -> Delivered:
        return Delivered(
            self.roller.results, self.mirroring.outcomes, self.deployments.durations, self.deployments.stages()
        )

    def _pools(self) -> Iterable[Peers]:
        return self.registry.pools.values()

    def _explain(self, name: str, tokens: int, service_class: str) -> tuple[str, list[Explained]]:
        model = self.gateway.table.model(name)
        asked = self.gateway.tenants.class_named(service_class)
        return model.name, explain(model, tokens, asked, now=self._clock(), rng=self._rng)

    def _data_listener(self) -> Listener:
        limits = partial(bounded, self._settings.limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0], self.registry)

        def client(*, server_state: Any, **_: Any) -> Client:
            held, clock = server_state.connections, self._clock
            return Client(self.gateway, held, limits(), self._outbox, self._slices, clock=clock)

        def admits(held: set[object]) -> bool:
            return len(held) < limits().connections

        return listener(no_asgi, client, self._files.doors.get("data"), admits, backlog=BACKLOG)

    def _admin_listener(self) -> Listener:
        settings = self._settings
        app = create_admin(self._view(), host=settings.admin_host, token=self._files.token)
        limits = AdminLimits()
        connection = partial(AdminConnection, limits=limits, clock=self._clock)
        more = {"backlog": limits.connections, "access_log": False, "timeout_keep_alive": int(limits.idle_seconds)}
        return listener(app, connection, self._files.doors.get("admin"), limits.admit, **more)
