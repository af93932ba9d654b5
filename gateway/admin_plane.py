"""The admin plane: shows the other two to people and programs, and takes their commands, on a listener of its own."""

import asyncio
from functools import partial
from typing import Any

from gateway.admin.api import create_admin
from gateway.admin.connection import AdminConnection, AdminLimits
from gateway.admin.events import RecentEvents
from gateway.admin.feed import Feed
from gateway.admin.history import History
from gateway.admin.snapshot import snapshot
from gateway.admin.view import AdminView
from gateway.clock import wall
from gateway.control.capacity import PoolWant
from gateway.control.capacity_history import shown
from gateway.control.limits import queued
from gateway.control_plane import ControlPlane
from gateway.data_plane import DataPlane
from gateway.listeners import Listener, ListenerFiles, listener
from gateway.policy.capacity.forecast import LoadForecast
from gateway.settings import Settings
from gateway.telemetry.admission_exposition import AdmissionCollector
from gateway.telemetry.capacity_exposition import CapacityCollector, CapacityRow
from gateway.telemetry.discovery_exposition import DiscoveryCollector
from gateway.telemetry.exposition import Exposition, GatewayCollector, Gauges
from gateway.telemetry.fleet_exposition import FleetCollector, FleetRow
from gateway.telemetry.rollout_exposition import Delivered, RolloutCollector
from gateway.telemetry.routing_exposition import RoutingCollector
from gateway.telemetry.slo_exposition import SloCollector
from gateway.telemetry.tenant_exposition import CostsByPool, TenantCollector
from gateway.telemetry.waking_exposition import WakingCollector
from gateway.wire.slices import Work


class AdminPlane:
    """What is shown of the two other planes."""

    def __init__(self, settings: Settings, files: ListenerFiles, data: DataPlane, control: ControlPlane) -> None:
        self._settings = settings
        self._files = files
        self._data = data
        self._control = control
        self._began = data.clock()
        self._used = TenantCollector(data.usage, data.quotas, self._costs, data.clock)
        self.metrics = self._metrics()
        self._shown = self._view()
        self._events = RecentEvents()
        self.feed = Feed(self._snapshot)
        self.history = History(data.ledger, data.background, wall)

    def listener(self) -> Listener:
        """Return the admin listener, behind TLS where it has a certificate."""
        host, token = self._settings.admin_host, self._files.token
        app = create_admin(self._shown, self.feed, self.history, host=host, token=token)
        limits = AdminLimits()
        connection = partial(AdminConnection, limits=limits, clock=self._data.clock)
        more = {"backlog": limits.connections, "access_log": False, "timeout_keep_alive": int(limits.idle_seconds)}
        return listener(app, connection, self._files.doors.get("admin"), limits.admit, **more)

    def close(self) -> None:
        """End what viewers of the dashboard still read."""
        self.feed.close()
        self._events.close()

    async def _snapshot(self) -> dict[str, Any]:
        self._data.observers.flush()
        return await self._data.background.do(snapshot(self._shown, self._events))

    def _view(self) -> AdminView:
        data, control = self._data, self._control
        return AdminView(
            registry=data.registry,
            reloader=control.reloader,
            settle=data.observers.flush,
            metrics=self.metrics,
            used=self._used,
            ledger=data.ledger,
            latencies=data.latencies,
            alerter=control.alerter,
            explain=data.explain,
            rollouts=control.rollouts,
            deployments=control.deployments,
            capacity=control.capacity,
            drained=control.drained,
            discovered=control.discovery.rows,
            audit=control.audit,
            flusher=control.flusher,
            fleet_quotas=control.fleet_quotas,
            sharing=control.sharing,
            gateway=data.gateway,
            background=data.background,
            clients=data.clients,
            clock=data.clock,
            began=self._began,
        )

    def _metrics(self) -> Exposition:
        data, control = self._data, self._control
        collectors = (
            GatewayCollector(data.metrics, self._gauges),
            SloCollector(data.ledger, control.alerter.of),
            AdmissionCollector(data.pools, lambda: queued(data.current.table), data.prompt_errors),
            CapacityCollector(self._capacity, control.capacity.changes),
            DiscoveryCollector(control.discovery.rows),
            FleetCollector(self._fleet),
            RolloutCollector(control.rollouts.rows, self._delivered),
            RoutingCollector(data.pools, control.outlier_detector.ejections, data.refused_retries),
            self._used,
            WakingCollector(data.pools, control.waker.wants, control.waker.results, data.metrics.cold_starts),
        )
        return Exposition(collectors, data.background)

    def _gauges(self) -> Work[Gauges]:
        data, control = self._data, self._control
        busy = yield from data.counting_busy()
        return Gauges(
            backends=data.registry,
            now=data.clock(),
            in_flight=busy,
            connections=data.connections,
            tasks=len(asyncio.all_tasks()),
            routes_loaded=control.reloader.failure is None,
            reloads=control.reloader.loads,
            reload_failures=control.reloader.failures,
            loop_lag=control.lag.worst,
            access_log_dropped=0 if data.access_log is None else data.access_log.dropped,
            spans_dropped=0 if data.traces is None else data.traces.dropped,
            metric_exports_failed=0 if data.exporter is None else data.exporter.failed,
            state_saved_at=control.flusher.saved_at,
            state_failures=control.flusher.failures,
            handshakes=self._files.handshakes(),
            notifications={} if control.webhook is None else control.webhook.results,
        )

    def _fleet(self) -> FleetRow | None:
        seen = self._control.flusher.fleet()
        if seen is None:
            return None
        alive = None if seen.members is None else seen.members.alive
        return FleetRow(alive, seen.leads, seen.saved, seen.read, seen.took, seen.unsaved, seen.recovering)

    def _capacity(self) -> list[CapacityRow]:
        capacity = self._control.capacity
        return [_capacity_row(each, capacity.history.forecast(each.pool.name)) for each in capacity]

    def _costs(self) -> Work[CostsByPool]:
        costs = self._control.costs
        yield from costs.looking()
        return CostsByPool(costs.used, costs.idle, self._data.mirroring.costs)

    def _delivered(self) -> Delivered:
        control = self._control
        return Delivered(
            control.rollouts.results,
            self._data.mirroring.outcomes,
            control.deployments.durations,
            control.deployments.stages(),
            control.deployments.reported,
        )


def _capacity_row(found: PoolWant, forecast: LoadForecast | None) -> CapacityRow:
    want, record, pool, errors = found.want, found.record, found.pool.name, tuple(shown(forecast))
    if want is None or record is None:
        return CapacityRow(pool, forecast=errors)
    cost, awaits = want.cost_per_hour, record.awaits or 0
    return CapacityRow(pool, want.target, want.replicas_now, awaits, cost, record.since, errors)
