"""What may stand in route files about steering requests: rules that pick pools, and canaries."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.config.durations import format_duration
from gateway.config.kinds import Comparison, Entry, PoolName, Timeout
from gateway.config.problems import InvalidValueError
from gateway.policy.canary.plan import LEAST_MAX_HOLD, TIMES_PREDICTED, Plan
from gateway.policy.routing.rules import SPILL_AT_BURN

_PLAN = Plan("", "")

Path = Literal[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/rerank",
    "/rerank",
    "/v1/score",
    "/score",
    "/pooling",
    "/classify",
    "/tokenize",
    "/detokenize",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/messages/count_tokens",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/v1/audio/speech",
]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[Path], BeforeValidator(_listed, json_schema_input_type=Path | list[Path])]
Names = Annotated[list[PoolName], BeforeValidator(_listed, json_schema_input_type=PoolName | list[PoolName])]
StickyBy = Literal["session", "user", "tenant"]
Step = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


def _steps(value: object) -> object:
    if value == []:
        raise InvalidValueError("this list is empty", "write `auto`, or percentages such as `[1, 5, 25, 50, 95]`")
    return [] if value == "auto" else value


Steps = Annotated[
    list[Step],
    Field(max_length=50),
    BeforeValidator(_steps, json_schema_input_type=Literal["auto"] | Annotated[list[Step], Field(min_length=1)]),
]
Share = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class WhenEntry(Entry):
    """What a request must be for a rule to hold; all that is named, and anything where nothing is."""

    endpoint: Paths | None = Field(
        default=None, description="Its path, or a list of paths.", examples=["/v1/embeddings"]
    )
    prompt_tokens: Comparison | None = Field(
        default=None, description="Number of its prompt tokens, estimated from the size of its body.", examples=["<256"]
    )
    max_tokens: Comparison | None = Field(
        default=None,
        description="Number of output tokens it asks for. Without `max_tokens`, output is treated as unbounded.",
        examples=["<=64"],
    )
    service_class: Names | None = Field(
        default=None, alias="class", description="Its class, or a list of classes.", examples=["batch"]
    )
    tenant: Names | None = Field(
        default=None, description="Its tenant, or a list of tenants.", examples=["nightly-reports"]
    )
    tools: bool | None = Field(default=None, description="Whether it offers tools.", examples=[True])
    images: bool | None = Field(default=None, description="Whether it contains images.", examples=[False])


class RuleEntry(Entry):
    """Which pools requests of a kind use. The first rule that holds counts; pools that a version lacks are skipped."""

    when: WhenEntry = Field(
        default_factory=WhenEntry,
        description="Which requests the rule is for. Default: all.",
        examples=[{"class": "batch"}],
    )
    use: Annotated[list[PoolName], Field(min_length=1)] = Field(
        description="Pools, the preferred one first.", examples=[["cpu", "gpu"]]
    )
    spill_at_burn: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = Field(
        default=SPILL_AT_BURN,
        description=f"Burn rate at which requests move to the next pool. Default: {SPILL_AT_BURN:g}.",
        examples=[6],
    )


class CanaryEntry(Entry):
    """A new version that takes over step by step, and is rolled back when it is worse."""

    stable: PoolName = Field(description="The version that serves now.", examples=["v1"])
    candidate: PoolName = Field(description="The version that is to take over.", examples=["v2"])
    steps: Steps = Field(
        default_factory=list,
        description="Percentages of requests that the candidate gets, step by step. The last step is always 95, so "
        "that stable keeps enough to compare with. Default: auto (1, 5, 25, 50, 95, without first steps that are too "
        "small for the traffic).",
        examples=[[1, 5, 25, 50, 95]],
    )
    hold: Timeout = Field(
        default=_PLAN.hold, description=f"Shortest step. Default: {format_duration(_PLAN.hold)}.", examples=["10m"]
    )
    last_hold: Timeout = Field(
        default=_PLAN.last_hold,
        description=f"Shortest last step, before promotion. Default: {format_duration(_PLAN.last_hold)}.",
        examples=["1h"],
    )
    min_requests: Annotated[int, Field(ge=1, le=100_000_000)] = Field(
        default=_PLAN.min_requests,
        description=f"Requests that the candidate must answer in each step. Default: {_PLAN.min_requests}.",
        examples=[20],
    )
    max_hold: Timeout | None = Field(
        default=None,
        description=f"Longest step. Default: {TIMES_PREDICTED:g} times as long as predicted, at least "
        f"{format_duration(LEAST_MAX_HOLD)}.",
        examples=["2h"],
    )
    on_stall: Literal["pause", "promote", "rollback"] = Field(
        default="pause",
        description="What happens when a step cannot end by `max_hold`. Default: pause.",
        examples=["pause"],
    )
    start: Literal["auto", "manual"] = Field(
        default="auto",
        description="Whether a new candidate starts once it is ready, or waits for a person. Default: auto.",
        examples=["manual"],
    )
    mirror: Share = Field(
        default=_PLAN.mirror,
        description="Percentage of requests copied to a candidate in a first step. The answers are discarded. "
        "Default: 0.",
        examples=[10],
    )
    margin: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = Field(
        default=_PLAN.margin,
        description=f"Extra burn rate that the next step may, at worst, cost the model. Default: {_PLAN.margin:g}.",
        examples=[2],
    )
    warm_up: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=_PLAN.warm_up,
        description=f"How many of each backend's first answers do not count for latency. Default: {_PLAN.warm_up}.",
        examples=[20],
    )
    warm_up_time: Timeout = Field(
        default=_PLAN.warm_up_time,
        description="Time after a backend's first answer in which its latency does not count. Default: "
        f"{format_duration(_PLAN.warm_up_time)}.",
        examples=["1m"],
    )
    freeze_below: Share = Field(
        default=_PLAN.freeze_below * 100,
        description="Percentage of the error budget below which no rollout starts. Default: 10.",
        examples=[10],
    )
    pause_below: Share = Field(
        default=_PLAN.pause_below * 100,
        description="Percentage of the error budget below which a running rollout pauses. Default: 5.",
        examples=[5],
    )
