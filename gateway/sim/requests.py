"""The request bodies that the simulated server understands: the fields it acts on, everything else let through."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.sim.faults import StreamFaults


class Steering(StreamFaults):
    """The `sim` field of a request: what the answer to this one request must be like."""

    output_tokens: int | None = Field(default=None, ge=1)
    reasoning_tokens: int | None = Field(default=None, ge=0)
    tool_call: bool | None = None


class Body(BaseModel):
    """What every body has in common."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    sim: Steering = Steering()


class StreamOptions(BaseModel):
    """When usage is told in a stream."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Sampling(Body):
    """The sampling parameters that chat and text completions share."""

    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, always as a tuple and without empty ones."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in given if stop)


class FunctionSpec(BaseModel):
    """A function as a client describes it."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolSpec(BaseModel):
    """An entry of `tools`."""

    type: Literal["function"] = "function"
    function: FunctionSpec


class NamedFunction(BaseModel):
    """The name in a named tool choice."""

    name: str


class NamedTool(BaseModel):
    """A tool choice that names its function."""

    type: Literal["function"] = "function"
    function: NamedFunction


class JsonSchema(BaseModel):
    """The schema of a structured answer."""

    model_config = ConfigDict(protected_namespaces=())

    name: str = ""
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(BaseModel):
    """How the content must be formed."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None


class CompletionBody(Sampling):
    """POST /v1/completions. Without `max_tokens` the answer has 16 tokens at most."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = 16
    echo: bool = False


class ResponsesBody(Body):
    """POST /v1/responses."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    metadata: dict[str, Any] | None = None
    seed: int | None = None
    ignore_eos: bool = False


class MessagesBody(Body):
    """POST /v1/messages, in Anthropic's form."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = False
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    ignore_eos: bool = False


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    input: str | list[int] | list[str] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, le=8192)

    @property
    def packed(self) -> bool:
        """Whether vectors are wanted as base64 of little-endian 32-bit floats."""
        return self.encoding_format == "base64"


class PoolingBody(Body):
    """POST /pooling and /classify."""

    input: str | list[str]


class RerankBody(Body):
    """POST /rerank, /v1/rerank, /v2/rerank."""

    query: str
    documents: list[str]
    top_n: int = 0


class ScoreBody(Body):
    """POST /score and /v1/score, under the old and the new field names."""

    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None


class TokenizeBody(Body):
    """POST /tokenize: a prompt or a conversation."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None


class DetokenizeBody(Body):
    """POST /detokenize."""

    tokens: list[int]
