"""The frozen result of loading route files: what the data plane reads, without any framework in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.config.addresses import authority
from gateway.config.origins import Origin
from gateway.policy.admission.classes import CLASSES, STANDARD, ServiceClass
from gateway.policy.admission.quota import QuotaLimits
from gateway.policy.canary.plan import Plan
from gateway.policy.capacity.allocation import Aim
from gateway.policy.capacity.signals import SignalMap
from gateway.policy.capacity.want import Rules
from gateway.policy.routing.ejection import USUAL, Thresholds
from gateway.policy.routing.rules import Rule
from gateway.policy.routing.waking import ScaleFromZero
from gateway.policy.slo.objective import DEFAULT, Objective

IMPLICIT_VERSION = "default"
"""The only version of a model that names its backends itself."""
DEFAULT_OBJECTIVE = "default"
"""The key of the classes without an objective of their own, and the objective of models that name none."""
STICKY_BY = ("session", "user")
"""What keeps a client on one version of a model: the first of these that a request has."""


FIRST_TOKEN, STALL, LONGEST = 30.0, 20.0, 300.0
"""Seconds that an engine may be silent to a stream: to all of them at once, and to one while it works on others."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one request may wait for what, in seconds.

    `connect` bounds one connection attempt, `first_token` the wait for the first content event of an attempt,
    `first_byte` that for an answer in one piece (None: as the answers before it teach), `stall` the gap between two
    content events, `total` the whole request. Without a value (None), `first_token` and `stall` are FIRST_TOKEN and
    STALL of an engine that does not work for anyone either, and LONGEST of one that does.
    """

    connect: float = 2.0
    first_token: float | None = None
    stall: float | None = None
    total: float = 600.0
    first_byte: float | None = None


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One engine's address. Its identity over reloads is `id`: pool and URL.

    One that was found has the `key` by which its origin knows it: another engine may have the same address later. Such
    a one gets requests for the models that it lists alone, and while it is `leaving` no new ones. A new one answers
    `pre_warm` synthetic requests first.
    """

    pool: str
    url: str
    host: str
    port: int
    tls: bool = False
    base_path: str = ""
    max_concurrency: int | None = None
    priority_scheduling: bool = False
    api_key: str | None = field(default=None, repr=False)
    key: str = ""
    leaving: bool = False
    pre_warm: int = 0

    @property
    def id(self) -> str:
        """`pool/host:port`, then the path when the URL has one: a metric label, a header value, a name in logs."""
        return f"{self.pool}/{authority(self.host, self.port)}{self.base_path}"


@dataclass(frozen=True, slots=True)
class Discovery:
    """Backends of a pool that an origin names: those whose labels are as in `where`, in pairs sorted by name.

    `max_concurrency_label` is a label that says a backend's `max_concurrency`.
    """

    origin: Origin
    where: tuple[tuple[str, str], ...] = ()
    max_concurrency_label: str | None = None
    max_concurrency: int | None = None
    api_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={value}" for name, value in self.where)
        return f"{self.origin} where {labels}" if labels else str(self.origin)


@dataclass(frozen=True, slots=True)
class CapacitySpec:
    """How many replicas a pool may want, by which `rules`; `predictive` says that a forecast counts as well.

    A replica is called a `unit`, and runs `backends_per_replica` backends of the pool. `signals` are the metrics of its
    engines that are not those of their kind. With a `budget` (its name) the pool shares one with others, and counts
    `weight` times in its division.
    """

    rules: Rules
    predictive: bool = False
    unit: str = "replicas"
    backends_per_replica: int = 1
    signals: SignalMap = field(default_factory=SignalMap)
    budget: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """What pools may want together: so many `replicas`, or what costs so much per hour, whichever is not None.

    If they want more, it is divided by an `aim`.
    """

    name: str
    replicas: int | None = None
    cost_per_hour: float | None = None
    aim: Aim = Aim.SUM

    def price(self, capacity: CapacitySpec) -> float:
        """Return what one replica of a pool takes of the budget."""
        return 1.0 if self.replicas is not None else capacity.rules.cost_per_hour or 0.0

    @property
    def total(self) -> float:
        """What there is to divide, in replicas or cost."""
        return float(self.replicas) if self.replicas is not None else self.cost_per_hour or 0.0

    def __str__(self) -> str:
        return f"{self.replicas} replicas" if self.replicas is not None else f"{self.cost_per_hour:g} per hour"


WARM_UP = Rules().warm_up
"""Seconds until a new backend serves, where its pool does not say."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Backends of one kind that stand in for each other: those that routes name, and those that are found.

    One that is started serves after `warm_up` seconds. Without a `capacity` the pool wants no number of them.
    `scale_from_zero` says how requests wait while none is ready, None that they do not.
    """

    name: str
    backends: tuple[BackendSpec, ...]
    accelerator: str = "gpu"
    cost_per_hour: float | None = None
    priority_scheduling: bool = False
    outlier_detection: Thresholds = USUAL
    discovered: tuple[Discovery, ...] = ()
    warm_up: float = WARM_UP
    capacity: CapacitySpec | None = None
    scale_from_zero: ScaleFromZero | None = None
    pre_warm: int = 0


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """One version of a model: where it runs (pools, in order of preference) and what its engines call it."""

    name: str
    pools: tuple[str, ...]
    served_model: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as clients name it. `split` holds (version, weight) with weights > 0; weights need not add up to 100.

    `objective` is what requests are held to whose class has none of its own in `objective_by_class`.
    With a `canary` the split is what holds before it starts: all for stable. `sticky_by` says what keeps a client on
    one version; `version_header` whether clients may force one. `echo_served_model`
    says that answers keep the name that engines give the model.
    """

    name: str
    versions: Mapping[str, VersionSpec]
    split: tuple[tuple[str, float], ...]
    aliases: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    objective: Objective = DEFAULT
    rules: tuple[Rule, ...] = ()
    canary: Plan | None = None
    sticky_by: tuple[str, ...] = STICKY_BY
    version_header: bool = False
    echo_served_model: bool = False
    objective_by_class: Mapping[str, Objective] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Every objective that some of its requests are held to, each once, `objective` first."""
        return tuple({each.name: each for each in (self.objective, *self.objective_by_class.values())}.values())


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """The client that holds one of these keys (SHA-256, in hex). `models` are those it may use, None for all.

    `debug` says that its answers tell where they come from.
    """

    name: str
    key_digests: tuple[str, ...] = field(repr=False)
    service_class: str = STANDARD
    models: frozenset[str] | None = None
    limits: QuotaLimits = field(default_factory=QuotaLimits)
    debug: bool = False


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything a request needs to find its way. Reloading swaps the reference to one of these.

    `names` maps every model name and every alias to its model. Without `tenants` everyone may send requests.
    """

    pools: Mapping[str, PoolSpec]
    models: Mapping[str, ModelSpec]
    names: Mapping[str, ModelSpec]
    sources: tuple[str, ...] = ()
    classes: Mapping[str, ServiceClass] = field(default_factory=lambda: CLASSES)
    tenants: Mapping[str, TenantSpec] = field(default_factory=lambda: MappingProxyType({}))
    budgets: Mapping[str, BudgetSpec] = field(default_factory=lambda: MappingProxyType({}))
