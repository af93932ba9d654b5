"""What may stand in route files about pools and their engines."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from gateway.config import variables
from gateway.config.capacity_schema import CapacityEntry
from gateway.config.durations import format_duration
from gateway.config.kinds import (
    DnsName,
    EjectionTime,
    Entry,
    KubernetesName,
    LabelName,
    ServicePort,
    Timeout,
    Url,
    WakeWay,
)
from gateway.config.table import WARM_UP
from gateway.policy.routing.ejection import USUAL
from gateway.policy.routing.waking import FROM_ZERO, Way

ORIGINS = ("url", "dns", "file", "kubernetes", "inference_pool")
"""The keys of which an entry of `backends` has exactly one: where its engines are found."""
Port = Annotated[int, Field(ge=1, le=65535)]


class ServiceEntry(Entry):
    """A Kubernetes Service whose endpoints are engines."""

    service: KubernetesName = Field(description="Name of the Service.", examples=["vllm"])
    namespace: KubernetesName | None = Field(
        default=None,
        description="Its namespace. Default: the gateway's own.",
        examples=["serving"],
    )
    port: ServicePort | None = Field(
        default=None,
        description="Name or number of the port. Default: the only one.",
        examples=["http"],
    )


class BackendEntry(Entry):
    """One engine: a URL, or a mapping with more about it; or where any number of engines is found."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [each]} for each in ORIGINS]})

    url: Url | None = Field(
        default=None,
        description="Base URL of the engine, without `/v1`.",
        examples=["http://vllm-0:8000"],
    )
    dns: DnsName | None = Field(
        default=None,
        description="Instead of `url`: a name of DNS whose every address is an engine.",
        examples=["vllm.serving.svc"],
    )
    port: Port | None = Field(
        default=None,
        description="Port of the engines that `dns` finds. Default: SRV records have it.",
        examples=[8000],
    )
    file: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="Instead of `url`: file of targets, in the format of Prometheus' `file_sd_configs`, relative to "
        "the route file.",
        examples=["targets.json"],
    )
    kubernetes: ServiceEntry | None = Field(
        default=None,
        description="Instead of `url`: a Kubernetes Service whose endpoints are engines.",
        examples=[{"service": "vllm", "namespace": "serving", "port": "http"}],
    )
    inference_pool: KubernetesName | None = Field(
        default=None,
        description="Instead of `url`: name of a Kubernetes InferencePool.",
        examples=["vllm-llama"],
    )
    namespace: KubernetesName | None = Field(
        default=None,
        description="Namespace of the `inference_pool`. Default: the gateway's own.",
        examples=["serving"],
    )
    where: dict[LabelName, str] = Field(
        default_factory=dict,
        description="Labels that a found engine must have to belong to this pool.",
        examples=[{"accelerator": "gpu"}],
    )
    max_concurrency_label: LabelName | None = Field(
        default=None,
        description="Label or annotation of a found engine that says its `max_concurrency`.",
        examples=["tidegate.io/max-concurrency"],
    )
    max_concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Most requests at once. Default: the gateway finds the limit itself.",
        examples=[64],
    )
    api_key: Annotated[str, WithJsonSchema({"type": "string", "pattern": variables.REFERENCE_PATTERN})] | None = Field(
        default=None,
        repr=False,
        description="Key sent to this engine. It must come from the environment.",
        examples=["${VLLM_API_KEY}"],
    )
    api_key_file: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="File that holds the key sent to this engine, relative to the route file.",
        examples=["/run/secrets/vllm-api-key"],
    )


def _backend_mapping(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


Backends = Annotated[
    list[Annotated[BackendEntry, BeforeValidator(_backend_mapping, json_schema_input_type=Url | BackendEntry)]],
    Field(min_length=1),
]


class OutlierDetectionEntry(Entry):
    """When an engine that stands out from its pool is taken out of service (ejected), and for how long."""

    consecutive_failures: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=USUAL.consecutive_failures,
        description=f"Failures in a row that eject at once. Default: {USUAL.consecutive_failures}.",
        examples=[10],
    )
    min_requests: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=USUAL.min_requests,
        description="Requests in the last minute below which a burn rate ejects no backend. "
        f"Default: {USUAL.min_requests}.",
        examples=[50],
    )
    base_ejection_time: EjectionTime = Field(
        default=USUAL.base_ejection_time,
        description="How long the first ejection lasts; each recent one adds as much. "
        f"Default: {format_duration(USUAL.base_ejection_time)}.",
        examples=["30s"],
    )
    max_ejection_time: EjectionTime = Field(
        default=USUAL.max_ejection_time,
        description=f"The longest ejection. Default: {format_duration(USUAL.max_ejection_time)}.",
        examples=["5m"],
    )
    max_ejection_percent: Annotated[int, Field(ge=0, le=50)] = Field(
        default=USUAL.max_ejection_percent,
        description="Percentage of the pool that may be out at a time, rounded down; 0 ejects none. "
        f"Default: {USUAL.max_ejection_percent}.",
        examples=[25],
    )


class ScaleFromZeroEntry(Entry):
    """How requests wait for the first engine of a pool that has none."""

    max_held: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=FROM_ZERO.max_held,
        description=f"Most requests that wait, in each worker process; others get 503. Default: {FROM_ZERO.max_held}.",
        examples=[200],
    )
    hold: Timeout = Field(
        default=FROM_ZERO.hold,
        description=f"Longest wait of a request. Default: {format_duration(FROM_ZERO.hold)}.",
        examples=["5m"],
    )
    wake: WakeWay = Field(
        default=Way.CAPACITY.value,
        description="How an engine is woken: `capacity` (something outside acts on the want of one), `engines` (vLLM's "
        "`/wake_up`), or the URL of a webhook. Default: capacity.",
        examples=["engines", "${WAKE_WEBHOOK}"],
    )


class PoolEntry(Entry):
    """Engines of one kind that stand in for each other."""

    accelerator: Literal["gpu", "cpu"] = Field(default="gpu", description="What the engines run on.", examples=["cpu"])
    cost_per_hour: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="What one backend costs per hour. Use the same currency for all pools.",
        examples=[2.5],
    )
    priority_scheduling: bool = Field(
        default=False,
        description="The engines run with `--scheduling-policy priority` and are told each request's priority.",
        examples=[True],
    )
    backends: Backends = Field(description="The engines.", examples=[["http://vllm-0:8000"]])
    outlier_detection: OutlierDetectionEntry = Field(
        default_factory=OutlierDetectionEntry,
        description="When one of them is taken out of service, and for how long.",
        examples=[{"consecutive_failures": 10, "max_ejection_percent": 25}],
    )
    warm_up: Timeout = Field(
        default=WARM_UP,
        description=f"How long a new backend takes until it serves. Default: {format_duration(WARM_UP)}.",
        examples=["3m"],
    )
    capacity: CapacityEntry | None = Field(
        default=None,
        description="How many replicas it may want. Default: it wants none in particular.",
        examples=[{"min": 1, "max": 8}],
    )
    pre_warm: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0,
        description="Synthetic requests that a new engine answers before it gets its share. Default: 0.",
        examples=[3],
    )
    scale_from_zero: ScaleFromZeroEntry | None = Field(
        default=None,
        description="Hold requests while no engine is ready, and have one woken. Default: they get 503.",
        examples=[{"max_held": 200, "hold": "5m", "wake": "engines"}],
    )
