"""Builds the frozen table from entries that are valid and agree with each other."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from hashlib import sha256
from types import MappingProxyType

from gateway.config.capacity_schema import BudgetEntry, CapacityEntry
from gateway.config.origins import DnsOrigin, FileOrigin, InferencePoolOrigin, KubernetesOrigin, Origin
from gateway.config.pool_schema import BackendEntry, PoolEntry, ScaleFromZeroEntry
from gateway.config.schema import (
    AvailabilityEntry,
    ClassEntry,
    LatencyEntry,
    ModelEntry,
    ObjectiveEntry,
    PaceEntry,
    RoutesFile,
    TenantEntry,
    ThroughputEntry,
)
from gateway.config.steering_schema import CanaryEntry, RuleEntry
from gateway.config.table import (
    DEFAULT_OBJECTIVE,
    IMPLICIT_VERSION,
    BackendSpec,
    BudgetSpec,
    CapacitySpec,
    Discovery,
    ModelSpec,
    PoolSpec,
    RouteTable,
    TenantSpec,
    Timeouts,
    VersionSpec,
)
from gateway.policy.admission.classes import CLASSES, STANDARD, ServiceClass
from gateway.policy.admission.quota import QuotaLimits
from gateway.policy.canary.plan import OnStall, Plan
from gateway.policy.capacity.allocation import Aim
from gateway.policy.capacity.signals import Gauge, SignalMap
from gateway.policy.capacity.want import Rules
from gateway.policy.routing.ejection import Thresholds
from gateway.policy.routing.rules import ANY, Rule, When
from gateway.policy.routing.waking import ScaleFromZero, Way
from gateway.policy.slo.objective import DEFAULT, SUPPORTING_STAGES, Objective, Sli, Target, Throughput


def build_table(routes: RoutesFile, sources: Iterable[str]) -> RouteTable:
    """Return the table of all route files together, with pools and models sorted by name."""
    objectives = {name: _objective(name, entry) for name, entry in routes.objectives.items()}
    pool_specs = {name: _pool(name, entry) for name, entry in routes.pools.items()}
    pool_specs |= {
        name: PoolSpec(name, _backends(name, entry.backends), discovered=_discovered(entry.backends))
        for name, entry in routes.models.items()
        if entry.backends
    }
    model_specs = {name: _model(name, entry, objectives, pool_specs) for name, entry in sorted(routes.models.items())}
    names = model_specs | {alias: model for model in model_specs.values() for alias in model.aliases}
    return RouteTable(
        pools=MappingProxyType(dict(sorted(pool_specs.items()))),
        models=MappingProxyType(model_specs),
        names=MappingProxyType(names),
        sources=tuple(sources),
        classes=MappingProxyType(dict(CLASSES) | {name: _class(name, entry) for name, entry in routes.classes.items()}),
        tenants=MappingProxyType({name: _tenant(name, entry, names) for name, entry in sorted(routes.tenants.items())}),
        budgets=MappingProxyType({name: _budget(name, entry) for name, entry in sorted(routes.budgets.items())}),
    )


def _budget(name: str, entry: BudgetEntry) -> BudgetSpec:
    return BudgetSpec(name, entry.replicas, entry.cost_per_hour, Aim(entry.aim))


def _class(name: str, entry: ClassEntry) -> ServiceClass:
    return ServiceClass(name, entry.priority, entry.max_queue_wait, entry.sheddable, entry.min_share)


def _tenant(name: str, entry: TenantEntry, models: Mapping[str, ModelSpec]) -> TenantSpec:
    allowed = None if entry.models is None else frozenset(models[each].name for each in entry.models)
    limits = QuotaLimits(**entry.limits.model_dump())
    digests, service_class = tuple(entry.key_sha256), entry.service_class or STANDARD
    return TenantSpec(name, digests, service_class, allowed, limits, debug=entry.debug)


def _pool(name: str, entry: PoolEntry) -> PoolSpec:
    backends = _backends(name, entry.backends, priority_scheduling=entry.priority_scheduling, pre_warm=entry.pre_warm)
    thresholds = Thresholds(**entry.outlier_detection.model_dump())
    return PoolSpec(
        name,
        backends,
        entry.accelerator,
        entry.cost_per_hour,
        entry.priority_scheduling,
        thresholds,
        _discovered(entry.backends),
        entry.warm_up,
        None if entry.capacity is None else _capacity(entry, entry.capacity),
        None if entry.scale_from_zero is None else _scale_from_zero(entry.scale_from_zero, entry.warm_up),
        entry.pre_warm,
    )


def _capacity(pool: PoolEntry, entry: CapacityEntry) -> CapacitySpec:
    price = None if pool.cost_per_hour is None else pool.cost_per_hour * entry.backends_per_replica
    rules = Rules(
        min=entry.min,
        max=entry.max,
        step_out=entry.step,
        step_in=entry.step,
        cool_down=entry.cool_down,
        warm_up=pool.warm_up,
        cost_per_hour=price,
        cost_cap=entry.max_cost_per_hour,
        approval_above=entry.approve_above,
        dead_band=entry.hpa_tolerance,
    )
    signals = SignalMap(**{name: _gauges(metric) for name, metric in entry.signals.model_dump().items()})
    return CapacitySpec(
        rules,
        entry.mode == "predictive",
        entry.unit,
        entry.backends_per_replica,
        signals,
        entry.budget or "",
        entry.weight,
    )


def _scale_from_zero(entry: ScaleFromZeroEntry, warm_up: float) -> ScaleFromZero:
    is_named = entry.wake in {Way.CAPACITY.value, Way.ENGINES.value}
    way, webhook = (Way(entry.wake), "") if is_named else (Way.WEBHOOK, entry.wake)
    return ScaleFromZero(entry.max_held, entry.hold, way, webhook, 0.0 if way is Way.ENGINES else warm_up)


def _gauges(text: str | None) -> tuple[Gauge, ...]:
    """Return the gauge that `name` or `name{label="value"}` stands for."""
    if text is None:
        return ()
    name, _, label = text.removesuffix("}").partition("{")
    key, _, value = label.partition("=")
    return (Gauge(name, {key: value.strip('"')} if key else {}),)


def _backends(
    pool: str, entries: Iterable[BackendEntry], *, priority_scheduling: bool = False, pre_warm: int = 0
) -> tuple[BackendSpec, ...]:
    return tuple(
        BackendSpec(
            pool=pool,
            url=entry.url.url,
            host=entry.url.host,
            port=entry.url.port,
            tls=entry.url.scheme == "https",
            base_path=entry.url.base_path,
            max_concurrency=entry.max_concurrency,
            priority_scheduling=priority_scheduling,
            api_key=entry.api_key or entry.api_key_file,
            pre_warm=pre_warm,
        )
        for entry in entries
        if entry.url is not None
    )


def _discovered(entries: Iterable[BackendEntry]) -> tuple[Discovery, ...]:
    return tuple(
        Discovery(
            origin,
            tuple(sorted(entry.where.items())),
            entry.max_concurrency_label,
            entry.max_concurrency,
            entry.api_key or entry.api_key_file,
        )
        for entry in entries
        if (origin := _origin(entry)) is not None
    )


def _origin(entry: BackendEntry) -> Origin | None:
    """Return where the engines of an entry are found, None where it names one itself."""
    if entry.dns is not None:
        return DnsOrigin(entry.dns, entry.port)
    if entry.file is not None:
        return FileOrigin(entry.file)
    if entry.kubernetes is not None:
        service = entry.kubernetes
        return KubernetesOrigin(service.service, service.namespace or "", service.port or "")
    if entry.inference_pool is not None:
        return InferencePoolOrigin(entry.inference_pool, entry.namespace or "")
    return None


def _objective(name: str, entry: ObjectiveEntry) -> Objective:
    targets = {Sli.AVAILABILITY: DEFAULT.targets[Sli.AVAILABILITY]}
    for sli in Sli:
        declared = getattr(entry, sli)
        if declared is not None:
            targets[sli] = _target(declared)
    deployment = _target(entry.deployment) if entry.deployment is not None else None
    declared = ((stage, getattr(entry.deployment_stages, stage)) for stage in SUPPORTING_STAGES)
    stages = tuple((stage, _target(each)) for stage, each in declared if each is not None)
    window = entry.window or DEFAULT.window
    return Objective(
        name,
        MappingProxyType(targets),
        window,
        deployment,
        hold=entry.hold,
        stages=stages,
        throughput=None if entry.throughput is None else _throughput(entry.throughput),
    )


def _throughput(entry: ThroughputEntry) -> Throughput:
    return Throughput(_target(entry), entry.tokens_per_second or 0.0, entry.requests_per_second or 0.0)


def _target(entry: AvailabilityEntry) -> Target:
    ratio = float(Decimal(repr(entry.target)) / 100)
    under = entry.under if isinstance(entry, PaceEntry) else 0.0
    steps = entry.by_prompt_tokens.items() if isinstance(entry, LatencyEntry) else ()
    return Target(ratio, under, tuple(sorted((int(tokens), seconds) for tokens, seconds in steps)))


def _model(
    name: str, entry: ModelEntry, objectives: Mapping[str, Objective], pools: Mapping[str, PoolSpec]
) -> ModelSpec:
    versions = _versions(name, entry)
    split = entry.split if entry.split is not None else dict.fromkeys(versions, 1.0)
    plan = _plan(name, entry, entry.canary, pools) if entry.canary is not None else None
    if plan is not None:
        split = {plan.stable: 1.0}
    by_class = dict(entry.objective or {})
    return ModelSpec(
        name=name,
        versions=MappingProxyType(versions),
        split=tuple((version, weight) for version, weight in split.items() if weight > 0),
        aliases=tuple(entry.aliases),
        objective=objectives.get(by_class.pop(DEFAULT_OBJECTIVE, DEFAULT_OBJECTIVE), DEFAULT),
        objective_by_class=MappingProxyType({each: objectives[objective] for each, objective in by_class.items()}),
        timeouts=Timeouts(**entry.timeouts.model_dump(exclude_none=True)),
        rules=tuple(_rule(each) for each in entry.rules),
        canary=plan,
        sticky_by=tuple(entry.sticky_by),
        version_header=entry.version_header,
        echo_served_model=entry.echo_served_model,
    )


def _plan(name: str, entry: ModelEntry, canary: CanaryEntry, pools: Mapping[str, PoolSpec]) -> Plan:
    candidate = _versions(name, entry)[canary.candidate]
    urls = [backend.url for pool in candidate.pools for backend in pools[pool].backends]
    urls += [str(found) for pool in candidate.pools for found in pools[pool].discovered]
    definition = json.dumps([canary.stable, canary.candidate, candidate.pools, candidate.served_model, urls])
    return Plan(
        stable=canary.stable,
        candidate=canary.candidate,
        steps=tuple(canary.steps),
        hold=canary.hold,
        last_hold=canary.last_hold,
        min_requests=canary.min_requests,
        max_hold=canary.max_hold,
        on_stall=OnStall(canary.on_stall),
        mirror=canary.mirror,
        manual=canary.start == "manual",
        margin=canary.margin,
        warm_up=canary.warm_up,
        warm_up_time=canary.warm_up_time,
        freeze_below=canary.freeze_below / 100,
        pause_below=canary.pause_below / 100,
        fingerprint=sha256(definition.encode()).hexdigest()[:16],
    )


def _rule(entry: RuleEntry) -> Rule:
    when = entry.when
    return Rule(
        tuple(dict.fromkeys(entry.use)),
        When(
            endpoints=frozenset(when.endpoint or ()),
            prompt_tokens=when.prompt_tokens or ANY,
            max_tokens=when.max_tokens or ANY,
            classes=frozenset(when.service_class or ()),
            tenants=frozenset(when.tenant or ()),
            tools=when.tools,
            images=when.images,
        ),
        entry.spill_at_burn,
    )


def _versions(name: str, entry: ModelEntry) -> dict[str, VersionSpec]:
    if entry.versions is None:
        return {IMPLICIT_VERSION: VersionSpec(IMPLICIT_VERSION, (name,), entry.served_model or name)}
    return {
        version: VersionSpec(version, tuple(spec.pools), spec.served_model or name)
        for version, spec in entry.versions.items()
    }
