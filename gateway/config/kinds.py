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
NAME_RULES = {
    KEY_DIGEST: "64 lower-case hex digits: `printf %s KEY | sha256sum`",
    PROMPT_TOKENS: "a number of prompt tokens, from 1 to 9999999",
    MODEL_NAME: "up to 128 letters, digits and `. _ / : -`, starting with a letter or digit",
    POOL_NAME: "up to 63 lower-case letters, digits and `. _ -`",
}

_COMPARISON = re.compile(r"(<=|>=|<|>) ?([0-9]{1,9})")
VARIABLE = {"type": "string", "pattern": variables.PATTERN}

ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]
PoolName = Annotated[str, StringConstraints(pattern=POOL_NAME)]
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
