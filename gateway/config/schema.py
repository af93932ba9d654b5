"""What may stand in route files, as pydantic models; their descriptions and examples are the reference people read."""

from typing import Annotated, Any, get_args, get_origin

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from gateway.config.capacity_schema import BudgetEntry
from gateway.config.durations import format_duration
from gateway.config.kinds import (
    VARIABLE,
    Entry,
    KeyDigests,
    ModelName,
    Percent,
    PoolName,
    PromptTokens,
    ServedModel,
    Threshold,
    Timeout,
    Weight,
    Window,
)
from gateway.config.pool_schema import Backends, PoolEntry
from gateway.config.problems import KeyPath
from gateway.config.steering_schema import CanaryEntry, RuleEntry, StickyBy
from gateway.config.table import DEFAULT_OBJECTIVE, FIRST_TOKEN, LONGEST, STALL, Timeouts
from gateway.policy.admission.classes import CLASSES, STANDARD
from gateway.policy.slo.objective import DEFAULT, Sli

STANDARD_WAIT = CLASSES[STANDARD].max_queue_wait


class VersionEntry(Entry):
    """One version of a model."""

    pools: Annotated[list[PoolName], Field(min_length=1)] = Field(
        description="Names of the pools that serve it, the preferred one first.", examples=[["gpu", "cpu"]]
    )
    served_model: ServedModel | None = Field(
        default=None,
        description="The name its engines know it by (vLLM: `--served-model-name`). Default: the model's name.",
        examples=["meta-llama/Llama-3.1-8B-Instruct"],
    )


class TimeoutsEntry(Entry):
    """How long a request may wait, as durations such as `250ms`, `2s`, `10m`."""

    connect: Timeout | None = Field(
        default=None,
        description=f"For one connection attempt. Default: {format_duration(Timeouts().connect)}.",
        examples=["2s"],
    )
    first_token: Timeout | None = Field(
        default=None,
        description="For the first token of one attempt. Default: "
        f"{format_duration(FIRST_TOKEN)}, or {format_duration(LONGEST)} while its backend is seen to work.",
        examples=["30s"],
    )
    first_byte: Timeout | None = Field(
        default=None,
        description="For the start of an answer that is not streamed, at one backend. Default: learnt from earlier "
        "answers, and applied only to a backend that answers no requests.",
        examples=["2m"],
    )
    stall: Timeout | None = Field(
        default=None,
        description="Between two tokens. Default: "
        f"{format_duration(STALL)}, or {format_duration(LONGEST)} while its backend is seen to work.",
        examples=["20s"],
    )
    total: Timeout | None = Field(
        default=None,
        description=f"For the whole request. Default: {format_duration(Timeouts().total)}.",
        examples=["10m"],
    )


class AvailabilityEntry(Entry):
    """The share of requests that must be answered completely."""

    target: Percent = Field(description="Percentage of requests that must be good.", examples=[99.9])


class PaceEntry(AvailabilityEntry):
    """A pace that most of the output must keep."""

    target: Percent = Field(description="Percentage of events that must be good.", examples=[99])
    under: Threshold = Field(description="The longest time that is good.", examples=["50ms"])


class LatencyEntry(PaceEntry):
    """A latency that most requests must keep, which may depend on how long the prompt is."""

    under: Threshold = Field(description="The longest time that is good.", examples=["500ms"])
    by_prompt_tokens: dict[PromptTokens, Threshold] = Field(
        default_factory=dict,
        description="The longest time that counts as good, for prompts of at least so many tokens.",
        examples=[{4096: "2s"}],
    )


class ThroughputEntry(AvailabilityEntry):
    """How much is done each second while requests wait in the queue."""

    target: Percent = Field(description="Percentage of that time in which it must be reached.", examples=[95])
    tokens_per_second: float | None = Field(
        default=None, gt=0, le=1e9, description="Output tokens of answers.", examples=[500]
    )
    requests_per_second: float | None = Field(default=None, gt=0, le=1e9, description="Answers.", examples=[20])


class StagesEntry(Entry):
    """Targets of what a CD system reports: the share of stages that must succeed in time."""

    registry_pull: PaceEntry | None = Field(default=None, description="Getting the model from its registry.")
    image_pull: PaceEntry | None = Field(default=None, description="Pulling the engine's image.")
    provisioning: PaceEntry | None = Field(default=None, description="Getting machines and starting engines.")
    validation: PaceEntry | None = Field(default=None, description="Testing what was deployed.")


class ObjectiveEntry(Entry):
    """The targets of models. An SLI that is left out has no target, except for availability."""

    window: Window | None = Field(
        default=None,
        description=f"The SLO window, 7d to 90d. Default: {format_duration(DEFAULT.window)}.",
        examples=["28d"],
    )
    availability: AvailabilityEntry | None = Field(
        default=None,
        description=f"Requests answered completely. Default: {DEFAULT.targets[Sli.AVAILABILITY].ratio * 100:g}.",
        examples=[{"target": 99.9}],
    )
    ttft: LatencyEntry | None = Field(
        default=None, description="Time to first token.", examples=[{"target": 99, "under": "500ms"}]
    )
    tpot: PaceEntry | None = Field(
        default=None, description="Time per output token, of a request.", examples=[{"target": 99, "under": "50ms"}]
    )
    itl: PaceEntry | None = Field(
        default=None, description="Each gap between two tokens.", examples=[{"target": 99, "under": "100ms"}]
    )
    e2e: LatencyEntry | None = Field(
        default=None, description="Time of the whole answer.", examples=[{"target": 95, "under": "60s"}]
    )
    cold_start: PaceEntry | None = Field(
        default=None,
        description="Requests that waited for an engine to be started: time to the first token of a stream, else of "
        "the whole answer.",
        examples=[{"target": 95, "under": "3m"}],
    )
    throughput: ThroughputEntry | None = Field(
        default=None,
        description="Tokens or requests per second while requests wait.",
        examples=[{"target": 95, "tokens_per_second": 500}],
    )
    deployment: PaceEntry | None = Field(
        default=None,
        description="From a deployment's registration to the new version's first live answer.",
        examples=[{"target": 95, "under": "10m"}],
    )
    deployment_stages: StagesEntry = Field(
        default_factory=StagesEntry,
        description="Stages of deployments that a CD system reports.",
        examples=[{"image_pull": {"target": 95, "under": "5m"}}],
    )
    hold: bool = Field(
        default=True,
        description="Whether sheddable classes wait in the queue while a higher class misses its latency targets.",
        examples=[False],
    )


def _objective_mapping(value: object) -> object:
    return {DEFAULT_OBJECTIVE: value} if isinstance(value, str) else value


ObjectiveNames = Annotated[
    dict[PoolName, PoolName],
    Field(min_length=1),
    BeforeValidator(_objective_mapping, json_schema_input_type=PoolName | dict[PoolName, PoolName]),
]


class ModelEntry(Entry):
    """A model as clients name it: `backends` is the short form, `versions` the full one."""

    aliases: list[ModelName] = Field(
        default_factory=list, description="Other names that clients may use.", examples=[["gpt-4o-mini"]]
    )
    backends: Backends | None = Field(
        default=None,
        description="Short form: the engines of the only version, `default`, in a pool named after the model.",
        examples=[["http://localhost:8000"]],
    )
    served_model: ServedModel | None = Field(
        default=None,
        description="Beside `backends`: the name the engines know the model by. Default: the model's name.",
        examples=["meta-llama/Llama-3.1-8B-Instruct"],
    )
    versions: Annotated[dict[PoolName, VersionEntry], Field(min_length=1)] | None = Field(
        default=None, description="Full form: the versions by name.", examples=[{"v1": {"pools": ["gpu"]}}]
    )
    split: dict[PoolName, Weight] | None = Field(
        default=None,
        description="Weights by which requests are divided among versions. Several versions need it or a `canary`.",
        examples=[{"v1": 95, "v2": 5}],
    )
    canary: CanaryEntry | None = Field(
        default=None,
        description="A version that takes over from another step by step; instead of `split`.",
        examples=[{"stable": "v1", "candidate": "v2"}],
    )
    rules: list[RuleEntry] = Field(
        default_factory=list,
        description="Which pools requests use. If no rule matches: the cheapest pool that meets the objective.",
        examples=[[{"when": {"class": "batch"}, "use": ["cpu", "gpu"]}]],
    )
    sticky_by: list[StickyBy] = Field(
        default=["session", "user"],
        description="What keeps a client on one version, the first that a request has. "
        "Default: session (`x-session-id`), user (OpenAI's `user`). With only a few large tenants, versions cannot be "
        "compared.",
        examples=[["session", "user"]],
    )
    version_header: bool = Field(
        default=False,
        description="Whether `x-gateway-model-version` forces a version.",
        examples=[True],
    )
    echo_served_model: bool = Field(
        default=False,
        description="Whether `model` in answers is the engine's name for the model, not the one that clients send.",
        examples=[True],
    )
    timeouts: TimeoutsEntry = Field(
        default_factory=TimeoutsEntry,
        description="How long its requests may wait, and for what.",
        examples=[{"first_token": "30s"}],
    )
    objective: ObjectiveNames | None = Field(
        default=None,
        description="Its objective, or its objectives by class, with `default` for the classes that are not named. "
        "Default: see docs/routes.md.",
        examples=["fast", {"default": "interactive", "batch": "offline"}],
    )


class ClassEntry(Entry):
    """A service class: how long its requests may wait, and who goes first."""

    priority: Annotated[int, Field(ge=0, le=1_000)] = Field(
        description="The lowest is served first. Engines can be told it as `priority`.", examples=[10]
    )
    max_queue_wait: Timeout = Field(
        default=STANDARD_WAIT, description="Longest wait for a slot. Default: 10s.", examples=["2s"]
    )
    sheddable: bool = Field(default=False, description="Whether its requests are refused first.", examples=[True])
    min_share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.0,
        description="Share of the tokens served that it gets while its requests wait, 0 to 1.",
        examples=[0.05],
    )


class LimitsEntry(Entry):
    """What a tenant may use."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Requests per minute.", examples=[600]
    )
    tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000_000)] | None = Field(
        default=None, description="Tokens per minute, prompt and output.", examples=[1_000_000]
    )
    concurrent: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Requests at once, on each machine.", examples=[50]
    )


class TenantEntry(Entry):
    """A client with a key of its own."""

    key_sha256: KeyDigests = Field(
        description="SHA-256 of its API key in hex, or a list of several while keys are rotated.",
        examples=["${ACME_KEY_SHA256}"],
    )
    service_class: PoolName | None = Field(
        default=None,
        alias="class",
        description="Its class, and the highest that its requests may ask for. Default: standard.",
        examples=["interactive"],
    )
    models: list[ModelName] | None = Field(
        default=None, description="Models it may use. Default: all.", examples=[["llama-3.1-8b"]]
    )
    limits: LimitsEntry = Field(
        default_factory=LimitsEntry,
        description="How much it may use. Default: no limits.",
        examples=[{"requests_per_minute": 600}],
    )
    debug: bool = Field(
        default=False,
        description="Whether its answers say where they come from, in `x-gateway-*` headers.",
        examples=[True],
    )


class RoutesFile(Entry):
    """One route file; the files of a folder are merged by name."""

    pools: dict[PoolName, PoolEntry] = Field(
        default_factory=dict,
        description="Pools of engines by name.",
        examples=[{"gpu": {"backends": ["http://vllm-0:8000"]}}],
    )
    budgets: dict[PoolName, BudgetEntry] = Field(
        default_factory=dict,
        description="Budgets of replicas, or of their cost, that pools share, by name.",
        examples=[{"gpus": {"replicas": 32}}],
    )
    objectives: dict[PoolName, ObjectiveEntry] = Field(
        default_factory=dict,
        description="Objectives by name.",
        examples=[{"fast": {"ttft": {"target": 99, "under": "500ms"}}}],
    )
    classes: dict[PoolName, ClassEntry] = Field(
        default_factory=dict,
        description="Service classes by name, besides or instead of the built-in `interactive`, `standard`, `batch`.",
        examples=[{"batch": {"priority": 20, "max_queue_wait": "10m", "sheddable": True}}],
    )
    tenants: dict[PoolName, TenantEntry] = Field(
        default_factory=dict,
        description="Who may send requests. Without tenants no key is needed.",
        examples=[{"acme": {"key_sha256": "${ACME_KEY_SHA256}"}}],
    )
    models: dict[ModelName, ModelEntry] = Field(
        default_factory=dict,
        description="Models by the name that clients send.",
        examples=[{"my-model": {"backends": ["http://localhost:8000"]}}],
    )


SECTIONS = tuple(RoutesFile.model_fields)
"""What a route file may hold; what it means once it is merged is said in `config.build` and `config.table`."""


def fields_at(path: KeyPath) -> dict[str, FieldInfo]:
    """Return the keys of the schema for the mapping at `path`; none where names are free or values are no mappings."""
    kind: Any = RoutesFile
    for part in path:
        if isinstance(kind, type) and issubclass(kind, Entry):
            field = _by_key(kind).get(str(part))
            kind = field.annotation if field else None
        else:
            kind = get_args(kind)[-1] if get_origin(kind) in (dict, list) else None
        while get_origin(kind) not in (None, dict, list):
            kind = get_args(kind)[0]
    return _by_key(kind) if isinstance(kind, type) and issubclass(kind, Entry) else {}


def _by_key(kind: type[Entry]) -> dict[str, FieldInfo]:
    """Return the fields of an entry by the keys that files write."""
    return {field.alias or name: field for name, field in kind.model_fields.items()}


class _SchemaGenerator(GenerateJsonSchema):
    """The schema of the text rather than of the models: a number may be a variable, and null is nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic calls it with the schema
        return False

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        return {**super().dict_schema(schema), "additionalProperties": False}

    def int_schema(self, schema: Any) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), VARIABLE]}

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), VARIABLE]}

    def literal_schema(self, schema: Any) -> JsonSchemaValue:
        return {"anyOf": [super().literal_schema(schema), VARIABLE]}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one route file."""
    schema = RoutesFile.model_json_schema(schema_generator=_SchemaGenerator)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "Tidegate routes"}
