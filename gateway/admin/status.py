"""What `/admin/status` tells, as models that document themselves."""

from datetime import datetime

from pydantic import BaseModel

from gateway.admin.alerts import FiringAlert, ObjectiveStatus
from gateway.admin.canary import CanaryStatus
from gateway.admin.capacity import PoolCapacity
from gateway.admin.fleet import FleetStatus, QuotasStatus


class EngineStatus(BaseModel):
    """What an engine says of itself; null for what it does not expose."""

    running: float | None
    waiting: float | None
    kv_usage: float | None
    kv_capacity: int | None
    preemptions: float | None
    prefix_queries: float | None
    prefix_hits: float | None
    adapters: list[str] | None
    sleeping: bool | None


class BackendStatus(BaseModel):
    """One engine; `engine` is null while its metrics are unknown, or too old.

    `silent` says that its last probe timed out: requests are still sent there while no other backend is ready, or, as
    long as it is at work, while no other has a slot.
    `leaving` says that it gets no new requests because where it was found it is no longer named, or about to go.
    One that is `asleep` gets no requests until it is woken. While it is `warming` others go first.
    `limit` is in requests at once, `kv_capacity` in tokens; null where there is none. `predicted_ttft_seconds` is for a
    prompt of 512 tokens that came now; `observed_ttft_seconds` is the mean of the latest, those of the last seconds
    counting most, and null without any.
    `failed_in_a_row` are the attempts that failed since the last good answer, whatever followed from them, since this
    gateway began or the engine came back. The latest was `failed_seconds` ago; the last request that was answered well
    was sent `good_seconds` ago; null for none. `attempts_last_minute` are those that count, `share` is their part
    of all at backends that serve the same models, 0 to 1, null without any. Gateways that share state are added up.
    """

    id: str
    pool: str
    state: str
    reason: str
    silent: bool
    drained: bool
    leaving: bool
    asleep: bool
    warming: bool
    ejection: str
    ejection_reason: str
    weight: float
    attempts_last_minute: int
    share: float | None
    in_flight: int
    limit: int | None
    limit_reason: str
    predicted_ttft_seconds: float
    observed_ttft_seconds: float | None
    kv_tokens: int
    kv_capacity: int | None
    idle_connections: int
    models: list[str] | None
    failed_in_a_row: int
    failed_seconds: float | None
    good_seconds: float | None
    engine: EngineStatus | None


class PoolStatus(BaseModel):
    """A pool; `ejections_ignored` says why its ejections are ignored at the moment, "" when they hold.

    While none of its backends is ready, requests are held where it `scales_from_zero`.
    """

    name: str
    ejections_ignored: str
    scales_from_zero: bool


class OriginStatus(BaseModel):
    """Where backends are found: how many it tells of, and how many leave.

    `age_seconds` is how long ago it told, null before it did. `problem` is "" while all is well.
    """

    origin: str
    pools: list[str]
    targets: int
    leaving: int
    age_seconds: float | None
    problem: str
    errors: int


class VersionStatus(BaseModel):
    """One version of a model.

    `weight` is its share of the split, 0 to 1, and `share` what it got of the model's requests in the last minute that
    count, null without any. `instead` is the version that serves its requests while none of its own
    backends can, "" for none. `waiting` is by class, `waiting_tenants` by class and tenant, of each class the
    tenants with the most, `shed` by class and reason. `held_back` are the classes that wait
    because a higher class goes first.
    """

    name: str
    served_model: str
    pools: list[str]
    weight: float
    requests_last_minute: int
    share: float | None
    instead: str
    waiting: dict[str, int]
    waiting_tenants: dict[str, dict[str, int]]
    held_back: list[str]
    shed: dict[str, dict[str, int]]


class ModelStatus(BaseModel):
    """One model."""

    name: str
    aliases: list[str]
    versions: list[VersionStatus]


class RoutesStatus(BaseModel):
    """What is loaded, and what was wrong with the last load, line by line, when it was refused."""

    sources: list[str]
    loaded: bool
    problems: list[str]


class StateStatus(BaseModel):
    """Where state is kept. `leads` says whether this gateway leads rollouts, which one of those that share it does.

    `not_saved` says why the last attempt to save failed, `shared` that the gateway that leads has other routes; "" when
    all is well. `not_saved_since` is when that began, null when all is well: budgets and burn rates go on from this
    gateway's own counts since then. `read_seconds` is how long ago what other gateways count was read. `fleet` is null
    where nothing is saved, `quotas` where tenants' limits apply to this machine alone or no tenant has one a minute.
    """

    where: str
    leads: bool
    not_saved: str
    not_saved_since: datetime | None
    read_seconds: float | None
    shared: str
    fleet: FleetStatus | None
    quotas: QuotasStatus | None


class TenantStatus(BaseModel):
    """One tenant and what it has left this minute; null where it has no such limit."""

    name: str
    service_class: str
    in_flight: int
    requests_left: int | None
    tokens_left: int | None


class Status(BaseModel):
    """The whole gateway process."""

    version: str
    uptime_seconds: float
    draining: bool
    in_flight: int
    client_connections: int
    routes: RoutesStatus
    state: StateStatus
    models: list[ModelStatus]
    backends: list[BackendStatus]
    pools: list[PoolStatus]
    discovery: list[OriginStatus]
    tenants: list[TenantStatus]
    rollouts: list[CanaryStatus]
    alerts: list[FiringAlert]
    objectives: list[ObjectiveStatus]
    capacity: list[PoolCapacity]


class Reloaded(BaseModel):
    """A reload that succeeded."""

    models: int
    pools: int
    sources: list[str]
