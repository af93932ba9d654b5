"""The control plane: loops that watch engines, lead rollouts, raise alerts and save what outlives the process."""

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial

from gateway.clock import Clock
from gateway.config.table import RouteTable
from gateway.control.alerts import Alerter
from gateway.control.audit import Audit
from gateway.control.capacity import CapacityController
from gateway.control.capacity_load import LoadReader
from gateway.control.deployments import Deployments
from gateway.control.drained import Drained
from gateway.control.engine_clients import EngineClients
from gateway.control.engine_costs import EngineCosts
from gateway.control.fleet_quotas import FleetQuotas
from gateway.control.limits import LimitController
from gateway.control.outlier_detection import OutlierDetector
from gateway.control.persistence import Flusher, PersistedState
from gateway.control.pre_warming import PreWarmer
from gateway.control.probes import Prober
from gateway.control.reload import Reloader
from gateway.control.remembering import Remembering
from gateway.control.rollouts import RolloutController
from gateway.control.scrapes import Scraper
from gateway.control.shared_limits import SharedLimits
from gateway.control.sharing import Sharing
from gateway.control.supervisor import Supervisor
from gateway.control.sweep import Groups, sweep
from gateway.control.throughput import ThroughputController
from gateway.control.waking import Waker
from gateway.control.warming import Warmer
from gateway.control.watching import Watched, watch
from gateway.control.webhook import Webhook
from gateway.data_plane import DataPlane
from gateway.discovery.controller import Discovery
from gateway.discovery.sources import SourceFactory
from gateway.policy.capacity.signals import SignalMap
from gateway.policy.slo.series import SlotCounts
from gateway.proxy.live import LiveTable
from gateway.settings import Settings
from gateway.shared.memory import JoinedTable
from gateway.state.store import Document, MemoryStore, Saved, Store
from gateway.state.url import shared_quotas
from gateway.telemetry.lag import LoopLag
from gateway.wire.slices import Work


class ControlPlane:
    """The controllers. They read what the data plane has counted, and change what it reads next."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        data: DataPlane,
        epoch: Clock,
        table: JoinedTable | None = None,
        *,
        alone: bool = True,
    ) -> None:
        """Take a clock of seconds since the epoch that never jumps, and the table that workers share, if any.

        A process that is not `alone` is one of several workers.
        """
        self._data = data
        self._epoch = epoch
        registry, ledger, current, clock = data.registry, data.ledger, data.current, data.clock
        self.lag = LoopLag(clock)
        self.webhook = Webhook(settings.alert_webhook) if settings.alert_webhook else None
        self.reloader = Reloader(
            settings.routes, current.routes, self._put_in_force, listeners=settings.listeners, slices=data.background
        )
        self.discovery = Discovery(
            current.routes,
            registry,
            SourceFactory(clock, settings.dns_server, settings.kubernetes),
            self._put_found_in_force,
            clock,
        )
        self.outlier_detector = OutlierDetector(
            ledger,
            registry,
            clock=clock,
            epoch=epoch,
            rng=data.rng,
            settle=data.observers.flush,
            shares_network=not store.remote,
        )
        self.audit = Audit(epoch)
        self.drained = Drained(registry, self.audit)
        self.sharing = Sharing(store.where, current, self.leads, epoch)
        self._remembering = Remembering(data.stored, epoch() - clock())
        self.throughput = ThroughputController(
            current, ledger, data.throughputs, clock=clock, alive=self._counting, leads=self.leads
        )
        self.flusher = Flusher(
            store,
            self._unsaved,
            self.outlier_detector.unsaved_ejections,
            epoch,
            persisted=PersistedState(
                self._documents,
                self.audit.unsaved,
                self._remembering.unsaved,
                self._take_over,
                self._undo,
                self.sharing.led,
                self._follow,
                self.throughput.merging,
                ledger.restore,
                self.outlier_detector.unsaved_findings,
                self.outlier_detector.found,
            ),
            slices=data.background,
        )
        self.outlier_detector.request_save = self.flusher.wake
        self.alerter = Alerter(ledger, epoch, None if self.webhook is None else self.webhook.notify, self.flusher.wake)
        if self.webhook is not None:
            self.webhook.delivered = self.alerter.delivered
        self.rollouts = RolloutController(
            ledger,
            current,
            self.audit,
            clock=epoch,
            leads=self.leads,
            alone=lambda: self.flusher.alone,
            request_save=self.flusher.wake,
            lasting=not isinstance(store, MemoryStore),
            lateness=registry.lateness,
        )
        over = None if data.traces is None else data.traces.over
        self.deployments = Deployments(ledger, current, self.rollouts, self.audit, clock=epoch, over=over)
        self.shared_limits = None if table is None else SharedLimits(table, registry, current, clock)
        self._is_remote = store.remote
        self.costs = EngineCosts(registry, clock, self._divided)
        exchange = shared_quotas(settings.state)
        self.fleet_quotas = (
            None if exchange is None else FleetQuotas(exchange, current, clock, None if table is None else table.table)
        )
        self.limits = LimitController(
            registry, current, ledger, clock=clock, shared=self.shared_limits, fleet=self.fleet_quotas
        )
        reader = LoadReader(registry, current, ledger, clock, origins=self.discovery.rows, alive=self._alive)
        self.capacity = CapacityController(
            current,
            reader,
            self.audit,
            clock=clock,
            epoch=epoch,
            leads=self.leads,
            request_save=self.flusher.wake,
            waking=lambda: self.waker.wanting | self.waker.wanted,
        )
        data.evidence.feed(self.rollouts, self.deployments)
        self._clients = EngineClients(clock, data.rng)
        self.waker = Waker(registry, self._clients, clock, epoch, alone=alone)

    def _counting(self) -> int:
        """Return how many processes share the store, 0 where that is not known."""
        fleet = self.flusher.fleet()
        return 1 if fleet is None else 0 if fleet.members is None else fleet.members.alive

    def _unsaved(self) -> Iterator[SlotCounts]:
        yield from self._data.ledger.unsaved()
        yield from self.throughput.unsaved()

    def leads(self) -> bool:
        """Return whether this gateway leads rollouts, of those that share a state file."""
        return self.flusher.leads

    def _signals(self, pool: str) -> SignalMap | None:
        """Return which metrics say how much the engines of a pool have to do, None where it wants no replicas."""
        spec = self._data.current.routes.pools.get(pool)
        return None if spec is None or spec.capacity is None else spec.capacity.signals

    def _alive(self) -> int:
        """Return how many processes share the store, this one among them."""
        fleet = self.flusher.fleet()
        return 1 if fleet is None or fleet.members is None else max(1, fleet.members.alive)

    def _divided(self) -> tuple[float, float]:
        """Return this machine's part of what engines cost, and this process's part of that where they are idle."""
        workers = 1 if self.shared_limits is None else self.shared_limits.processes()
        machine = min(1.0, workers / self._alive()) if self._is_remote else 1.0
        return machine, 1 / workers

    def restore(self, saved: Saved) -> None:
        """Go on from what was kept over a restart, and take the lead where no other gateway has it; blocks."""
        self.reloader.mark()
        self.audit.restore(saved.records)
        self.drained.restore(saved.documents)
        self._data.ledger.restore(saved.slots)
        self.outlier_detector.restore(saved.ejections)
        self._remembering.restore(saved.responses)
        self.flusher.loaded(saved)
        self.flusher.lead()
        self.alerter.restore(saved.documents)
        self.rollouts.restore(saved.documents)
        self.rollouts.follow(self._data.current.routes)
        self.deployments.restore(saved.documents)
        self.capacity.restore(saved.documents)
        self.limits.follow()

    def start(self, checked: Groups, watched: Iterable[Watched]) -> Supervisor:
        """Start every loop: `checked` is what has deadlines, `watched` are files."""
        data, clock = self._data, self._data.clock
        supervisor = Supervisor()
        if self.shared_limits is not None:
            asyncio.get_running_loop().add_reader(self.shared_limits.wake_fd, self.shared_limits.woken)
        supervisor.start("probe", Prober(data.registry, clock, self._clients, hops=data.gateway.hops.name).run)
        supervisor.start("scrape", Scraper(data.registry, clock, self._clients, signals=self._signals).run)
        supervisor.start("wake engines", self.waker.run)
        supervisor.start("warm new engines", PreWarmer(data.registry, data.current, clock).run)
        supervisor.start("discovery", self.discovery.run)
        supervisor.start("sweep", partial(sweep, checked, clock, data.registry.lateness, data.background))
        supervisor.start("outlier detector", partial(self.outlier_detector.run, data.background))
        supervisor.start("admit", partial(self.limits.run, data.background))
        supervisor.start("engine costs", partial(self.costs.run, data.background))
        supervisor.start("alerts", partial(self.alerter.run, data.background))
        supervisor.start("rollouts", self.rollouts.run)
        supervisor.start("warm candidates", Warmer(self.rollouts, data.current, self.leads).run)
        supervisor.start("deployments", self.deployments.run)
        supervisor.start("throughput", self.throughput.run)
        supervisor.start("capacity", partial(self.capacity.run, data.background))
        if self.webhook is not None:
            supervisor.start("alert webhook", self.webhook.run)
        supervisor.start("save state", self.flusher.run)
        if self.fleet_quotas is not None:
            supervisor.start("fleet quotas", self.fleet_quotas.run)
        supervisor.start("loop lag", self.lag.run)
        if data.exporter is not None:
            supervisor.start("export metrics", data.exporter.run)
        supervisor.start("watch files", partial(watch, tuple(watched)))
        return supervisor

    def _apply(self, routes: RouteTable) -> Work[None]:
        """Put other routes in force, in small pieces of which one is the switch."""
        before = yield from self._data.swapping(routes)
        self.limits.follow()
        self.rollouts.follow(routes)
        yield from self._following(before)

    def _apply_found(self, routes: RouteTable) -> Work[None]:
        """Put the same routes in force with other backends."""
        before = yield from self._data.swapping(routes)
        self.limits.follow()
        self.rollouts.stay()
        self._data.metrics.forget_gone({backend.id for backend in self._data.registry})
        yield from self._following(before)

    def _following(self, before: LiveTable) -> Work[None]:
        yield from self._data.current.renewing(before)
        yield from self._data.metrics.rebucketing()
        yield from self._data.ledger.forgetting(self._epoch())

    async def _put_in_force(self, routes: RouteTable) -> None:
        await self.discovery.reloaded(routes, lambda found: self._data.background.do(self._apply(found)))

    async def _put_found_in_force(self, routes: RouteTable) -> None:
        await self._data.background.do(self._apply_found(routes))

    def _documents(self) -> list[Document]:
        keepers = (self.rollouts, self.deployments, self.drained, self.alerter, self.sharing, self.capacity)
        return [document for keeper in keepers for document in keeper.documents()]

    def _take_over(self, documents: Iterable[Document]) -> None:
        self.rollouts.taken_over(documents, self._data.current.routes)

    def _undo(self, documents: Iterable[Document]) -> None:
        self.rollouts.undone(documents, self._data.current.routes)
        self.capacity.undone()

    def _follow(self, documents: Iterable[Document]) -> None:
        """Do what the gateway that leads has decided meanwhile."""
        found = list(documents)
        self.drained.restore(found)
        self.rollouts.led(found, self._data.current.routes)
        self.capacity.follow(found)
        self.capacity.saved()
