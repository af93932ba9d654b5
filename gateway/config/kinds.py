"""The kinds of value that stand in route files: names, durations, URLs, percentages, comparisons."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema

from gateway.config import addresses, durations, variables
from gateway.config.problems import InvalidValueError
from gateway.policy.routing.rules import Span

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$"
POOL_NAME = r"^[a-z0-9._-]{1,63}$"
PROMPT_TOKENS = r"^[1-9][0-9]{0,6}$"
KEY_DIGEST = r"^[0-9a-f]{64}$"
COMPARISON = r"^(<=|>=|<|>) ?[0-9]{1,9}$"
KUBERNETES_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
SERVICE_PORT = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,4})$"
LABEL_NAME = r"^([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9_]([A-Za-z0-9._-]{0,61}[A-Za-z0-9_])?$"
METRIC = r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"\})?$'
WAY = r"^(capacity|engines|https?://[^/?#\s]+\S*)$"
_WAYS = ("capacity", "engines")
_LONGEST_URL = 2048
NAME_RULES = {
    METRIC: 'the name of a metric, with one label if need be: `engine_requests{state="queued"}`',
    KUBERNETES_NAME: "up to 253 lower-case letters, digits, `-` and `.`",
    SERVICE_PORT: "the name of a port, or its number, from 1 to 65535",
    LABEL_NAME: "the name of a label, such as `app` or `example.com/role`",
    KEY_DIGEST: "64 lower-case hex digits: `printf %s KEY | sha256sum`",
    PROMPT_TOKENS: "a number of prompt tokens, from 1 to 9999999",
    MODEL_NAME: "up to 128 letters, digits and `. _ / : -`, starting with a letter or digit",
    POOL_NAME: "up to 63 lower-case letters, digits and `. _ -`",
}

_COMPARISON = re.compile(r"(<=|>=|<|>) ?([0-9]{1,9})")
VARIABLE = {"type": "string", "pattern": variables.PATTERN}

ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]
PoolName = Annotated[str, StringConstraints(pattern=POOL_NAME)]
KubernetesName = Annotated[str, StringConstraints(pattern=KUBERNETES_NAME)]
ServicePort = Annotated[
    str,
    StringConstraints(pattern=SERVICE_PORT),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": SERVICE_PORT}, {"type": "integer"}, VARIABLE]}),
]
LabelName = Annotated[str, StringConstraints(pattern=LABEL_NAME)]
DnsName = Annotated[
    str,
    PlainValidator(addresses.parse_name),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": addresses.NAME_PATTERN}, VARIABLE]}),
]
ServedModel = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Timeout = Annotated[
    float,
    PlainValidator(durations.parse_timeout),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": durations.PATTERN}, VARIABLE]}),
]
EjectionTime = Annotated[
    float,
    PlainValidator(durations.parse_ejection_time),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": durations.PATTERN}, VARIABLE]}),
]
Threshold = Annotated[
    float,
    PlainValidator(durations.parse_threshold),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": durations.PATTERN}, VARIABLE]}),
]
Window = Annotated[
    float,
    PlainValidator(durations.parse_slo_window),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": durations.PATTERN}, VARIABLE]}),
]
PromptTokens = Annotated[str, StringConstraints(pattern=PROMPT_TOKENS)]
Percent = Annotated[float, Field(gt=0, lt=100, allow_inf_nan=False)]
Url = Annotated[
    addresses.Address,
    PlainValidator(addresses.parse_address),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": addresses.PATTERN}, VARIABLE]}),
]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


KeyDigest = Annotated[
    str,
    StringConstraints(pattern=KEY_DIGEST),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": KEY_DIGEST}, VARIABLE]}),
]
KeyDigests = Annotated[
    list[KeyDigest],
    Field(min_length=1),
    BeforeValidator(_as_list, json_schema_input_type=KeyDigest | list[KeyDigest]),
]
MetricName = Annotated[str, StringConstraints(pattern=METRIC, max_length=256)]


def _parse_way(value: object) -> str:
    """Return the name of a way to wake an engine, or the URL of a webhook. Raises InvalidValueError."""
    if value in _WAYS:
        return str(value)
    if not isinstance(value, str) or not addresses.looks_like_url(value):
        raise InvalidValueError("is not a known value", "`capacity`, `engines`, or the URL of a webhook")
    if len(value) > _LONGEST_URL:
        raise InvalidValueError("is too long", f"at most {_LONGEST_URL} characters")
    return addresses.check_url(value, "write it as `https://host/path`, without spaces")


WakeWay = Annotated[
    str,
    PlainValidator(_parse_way),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": WAY, "maxLength": _LONGEST_URL}, VARIABLE]}),
]
Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


def parse_span(value: object) -> Span:
    """Parse a comparison such as `<256`, `<=64`, `>4096` or `>=100`. Raises InvalidValueError."""
    match = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidValueError("is not a comparison", "write `<256`, `<=64`, `>4096` or `>=100`, in quotes")
    number = int(match[2])
    match match[1]:
        case "<":
            return Span(most=number - 1)
        case "<=":
            return Span(most=number)
        case ">":
            return Span(least=number + 1)
        case _:
            return Span(least=number)


Comparison = Annotated[
    Span,
    PlainValidator(parse_span),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": COMPARISON}, VARIABLE]}),
]


class Entry(BaseModel):
    """A mapping in a route file, with no other keys than these."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
