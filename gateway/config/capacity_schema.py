"""What may stand in route files about how many replicas a pool wants."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from gateway.config.durations import format_duration
from gateway.config.kinds import Entry, MetricName, PoolName, Timeout
from gateway.config.table import BudgetSpec, CapacitySpec
from gateway.policy.capacity.signals import ENGINES
from gateway.policy.capacity.want import Rules

MOST_REPLICAS = 10_000

Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]
SomeReplicas = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
_RULES = Rules()
_USUAL = CapacitySpec(_RULES)
_AIM = BudgetSpec("").aim


class SignalsEntry(Entry):
    """The metrics of an engine that say how much it has to do; its series are added up, or averaged where shares."""

    backlog: MetricName | None = Field(
        default=None,
        description="Requests that wait in the engine.",
        examples=["jetstream_prefill_backlog_size"],
    )
    running: MetricName | None = Field(
        default=None, description="Requests that the engine works on.", examples=["my_engine_running_requests"]
    )
    slots_used: MetricName | None = Field(
        default=None,
        description="Share of its slots in use, 0 to 1.",
        examples=["jetstream_slots_used_percentage"],
    )
    kv_used: MetricName | None = Field(
        default=None, description="Share of its KV cache in use, 0 to 1.", examples=["my_engine_kv_usage"]
    )


class CapacityEntry(Entry):
    """How many replicas a pool may want, and how its wants may change."""

    min: Replicas = Field(default=_RULES.min, description="Fewest replicas. Default: 1.", examples=[1])
    max: SomeReplicas = Field(description="Most replicas.", examples=[8])
    step: SomeReplicas | None = Field(
        default=None,
        description="Most replicas that are added or removed at a time. Default: any number are added, and half of "
        "them are removed.",
        examples=[2],
    )
    cool_down: Timeout = Field(
        default=_RULES.cool_down,
        description="How long a want stays before it may fall, or change its direction. "
        f"Default: {format_duration(_RULES.cool_down)}.",
        examples=["5m"],
    )
    mode: Literal["reactive", "predictive"] = Field(
        default="reactive",
        description="Whether the want follows burn rates and queues, or a forecast of the load as well.",
        examples=["predictive"],
    )
    max_cost_per_hour: Annotated[float, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="What all replicas together may cost per hour; needs the pool's `cost_per_hour`.",
        examples=[20],
    )
    approve_above: Replicas | None = Field(
        default=None,
        description="A want of more replicas than this waits for a person: `tidegate capacity approve`.",
        examples=[6],
    )
    hpa_tolerance: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = Field(
        default=_RULES.dead_band,
        description="Share of a change that the HorizontalPodAutoscaler ignores: KEDA is told a value beyond it. "
        f"Default: {_RULES.dead_band:g}, as in Kubernetes.",
        examples=[0],
    )
    unit: PoolName = Field(
        default=_USUAL.unit, description="What one replica is called. Default: replicas.", examples=["pods"]
    )
    backends_per_replica: Annotated[int, Field(ge=1, le=64)] = Field(
        default=_USUAL.backends_per_replica,
        description="How many backends of this pool one replica runs. Default: 1.",
        examples=[8],
    )
    signals: SignalsEntry = Field(
        default_factory=SignalsEntry,
        description="The engines' metrics that say how much they have to do. Default: those of the engines that are "
        f"known: {', '.join(ENGINES)}.",
        examples=[{"backlog": "jetstream_prefill_backlog_size"}],
    )
    budget: PoolName | None = Field(
        default=None,
        description="Name of a budget in `budgets` that this pool shares with others. Default: none.",
        examples=["gpus"],
    )
    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = Field(
        default=_USUAL.weight,
        description="How many times this pool counts when the `budget` is divided. Default: 1.",
        examples=[2],
    )


class BudgetEntry(Entry):
    """What several pools may want together, in replicas or in cost; it is divided when they want more."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [each]} for each in ("replicas", "cost_per_hour")]}
    )

    replicas: SomeReplicas | None = Field(
        default=None, description="Most replicas of all these pools together.", examples=[32]
    )
    cost_per_hour: Annotated[float, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Instead of `replicas`: what all of them together may cost per hour; needs `cost_per_hour` in each "
        "pool.",
        examples=[80],
    )
    aim: Literal["sum", "fair_sum", "fair"] = Field(
        default=_AIM.value,
        description="What a division makes large: the weighted `sum` of what pools are served well, that less the "
        "distance between the best and the worst served pool (`fair_sum`), or only that distance small (`fair`). "
        f"Default: {_AIM.value}.",
        examples=["fair_sum"],
    )
