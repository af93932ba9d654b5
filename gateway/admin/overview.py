"""The whole gateway as `/admin/status` tells it, made of what the other planes know."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from math import floor, isfinite

from gateway.admin.alerts import firing_alerts, objective_statuses
from gateway.admin.canary import canary_status
from gateway.admin.capacity import pool_capacity
from gateway.admin.fleet import fleet_status, quotas_status
from gateway.admin.status import (
    BackendStatus,
    EngineStatus,
    ModelStatus,
    OriginStatus,
    PoolStatus,
    RoutesStatus,
    StateStatus,
    Status,
    TenantStatus,
    VersionStatus,
)
from gateway.admin.view import AdminView
from gateway.backends.backend import Backend
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.limits import queued
from gateway.policy.routing.fit import Fit
from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from gateway.policy.slo.windows import MINUTE
from gateway.proxy.live import LiveModel, LiveTable
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.tenants import LiveTenant
from gateway.telemetry.discovery_exposition import DiscoveryRow
from gateway.wire.slices import Work

PROMPT = 512
"""Tokens of the prompt that a backend's TTFT is predicted for."""
_TENANTS = 8
_KNOWN = 1.0
"""Samples, each weighed by how recent it is, from which on an observed TTFT is told."""


def overview(view: AdminView, tenant: str = "") -> Work[Status]:
    """Return how everything is, in small pieces; of tenants' limits all, or those of one `tenant`."""
    objectives = yield from objective_statuses(view.ledger, view.alerter)
    backends = yield from backend_statuses(view)
    table, quotas, now = view.reloader.table, view.fleet_quotas, view.clock()
    return Status(
        version=version("tidegate"),
        uptime_seconds=round(view.clock() - view.began, 1),
        draining=view.gateway.draining,
        in_flight=sum(client.busy for client in view.clients()),
        client_connections=len(view.clients()),
        routes=routes_status(view),
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
        models=[model_status(spec, view.gateway.current.table, view.ledger) for spec in table.models.values()],
        backends=backends,
        pools=[
            PoolStatus(name=name, ejections_ignored=peers.panic_reason, scales_from_zero=peers.waking is not None)
            for name, peers in view.registry.pools.items()
        ],
        discovery=[_origin(row) for row in view.discovered()],
        tenants=[_tenant(each, now) for each in view.gateway.current.tenants if tenant in ("", each.name)],
        rollouts=[canary_status(running, view.rollouts) for running in view.rollouts],
        alerts=firing_alerts(view.alerter, view.ledger),
        objectives=objectives,
        capacity=[pool_capacity(each) for each in view.capacity],
    )


def routes_status(view: AdminView) -> RoutesStatus:
    """Return what is loaded, and what was wrong with the last load."""
    table, failure = view.reloader.table, view.reloader.failure
    return RoutesStatus(
        sources=list(table.sources),
        loaded=failure is None,
        problems=[str(problem) for problem in failure.problems] if failure else [],
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


def model_status(spec: ModelSpec, live: LiveTable, ledger: SloLedger) -> ModelStatus:
    """Return how a model's requests are split, and which of them wait."""
    model = live.model(spec.name)
    shares = {version.name: share for version, share in model.traffic.split.shares()}
    queues = {queue.version: queue for queue in queued([model])}
    got = {name: _last_minute(ledger, Kind.VERSION, f"{spec.name}/{name}") for name in spec.versions}
    versions = [
        VersionStatus(
            name=each.name,
            served_model=each.served_model,
            pools=list(each.pools),
            weight=round(shares.get(each.name, 0.0), 6),
            requests_last_minute=got[each.name],
            share=_part(got[each.name], sum(got.values())),
            instead=_instead(model, model.versions[each.name]),
            waiting=dict(queues[each.name].waiting),
            waiting_tenants=_waiting_tenants(model.versions[each.name]),
            held_back=sorted(queues[each.name].held),
            shed=_by_class(queues[each.name].shed),
        )
        for each in spec.versions.values()
    ]
    return ModelStatus(name=spec.name, aliases=list(spec.aliases), versions=versions)


def _waiting_tenants(version: LiveVersion) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for line in version.lines:
        for service_class, tenant, count in line.queue.by_tenant():
            if tenant:
                found.setdefault(service_class, Counter())[tenant] += count
    return {service_class: dict(counts.most_common(_TENANTS)) for service_class, counts in found.items()}


def _instead(model: LiveModel, version: LiveVersion) -> str:
    other = model.traffic.stand_in(version)
    return "" if other is None else other.name


def _by_class(sheds: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (name, reason), count in sheds.items():
        found.setdefault(name, {})[reason] = count
    return found


def observed(ttft: Fit) -> float | None:
    """Return the mean of the latest TTFTs in seconds, None where there are none."""
    return round(ttft.products[0] / ttft.moments[0], 4) if ttft.samples >= _KNOWN else None


def _limit_reason(backend: Backend) -> str:
    if backend.spec.max_concurrency == backend.health.slots.limit:
        return "fixed by the routes"
    return backend.limit.reason


def backend_statuses(view: AdminView) -> Work[list[BackendStatus]]:
    """Return how each engine is, in small pieces."""
    got: dict[str, int] = {}
    of_pools: Counter[str] = Counter()
    for backend in list(view.registry):
        got[backend.id] = _last_minute(view.ledger, Kind.BACKEND, backend.id)
        of_pools[backend.spec.pool] += got[backend.id]
        yield
    beside = _beside(view.reloader.table)
    found = []
    for backend in list(view.registry):
        total = sum(of_pools[pool] for pool in beside.get(backend.spec.pool, ()))
        found.append(_backend(backend, view.clock(), got.get(backend.id, 0), total))
        yield
    return found


def _beside(table: RouteTable) -> dict[str, set[str]]:
    """Return by pool those that serve a model which it serves, itself among them."""
    found: dict[str, set[str]] = {}
    for model in table.models.values():
        pools = {pool for version in model.versions.values() for pool in version.pools}
        for pool in pools:
            found.setdefault(pool, set()).update(pools)
    return found


def _last_minute(ledger: SloLedger, kind: Kind, name: str) -> int:
    """Return how many requests of a version, or attempts at a backend, counted in the last minute."""
    series = (each for each in ledger.get(kind, name) if each.sli == Sli.AVAILABILITY)
    return sum(each.windows.count(MINUTE).total for each in series)


def _part(count: int, total: int) -> float | None:
    """Return the share of a total, None of nothing."""
    return round(count / total, 4) if total else None


def _backend(backend: Backend, now: float, attempts: int, of_all: int) -> BackendStatus:
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
        attempts_last_minute=attempts,
        share=_part(attempts, of_all),
        in_flight=backend.in_flight,
        limit=health.slots.limit if health.slots.limit < UNLIMITED else None,
        limit_reason=_limit_reason(backend),
        predicted_ttft_seconds=round(health.latency.predicted(PROMPT, health.slots.in_flight), 4),
        observed_ttft_seconds=observed(health.latency.ttft),
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
