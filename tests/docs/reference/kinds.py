"""Types of JSON Schema in words."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.config import durations
from gateway.config.kinds import VARIABLE

Schema = Mapping[str, Any]
DURATION = "duration"


def kind(schema: Schema, refer: Callable[[str], str]) -> str:
    """Return the type of a value; `refer` says what to call an object of a name. A variable may stand for any value."""
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return refer(name)
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(each, refer) for each in several if each != VARIABLE))
    if allowed := schema.get("enum") or [each for each in [schema.get("const")] if each is not None]:
        return ", ".join(f"`{each}`" for each in allowed)
    return _of_type(schema, refer)


def _of_type(schema: Schema, refer: Callable[[str], str]) -> str:
    if schema.get("pattern") == durations.PATTERN:
        return DURATION
    if schema.get("format") == "date-time":
        return "time"
    match schema.get("type"):
        case "array":
            words = f"list of {kind(schema['items'], refer)}" if schema.get("items") else "list"
        case "object":
            inner = next(iter(schema.get("patternProperties", {}).values()), None) or schema.get("additionalProperties")
            words = f"mapping of names to {kind(inner, refer)}" if isinstance(inner, Mapping) else "mapping"
        case "boolean":
            words = "`true` or `false`"
        case str(name):
            words = name + _limits(schema)
        case _:
            words = "any"
    return words


def _limits(schema: Schema) -> str:
    names = {"exclusiveMinimum": "above", "exclusiveMaximum": "below", "minimum": "at least", "maximum": "at most"}
    found = ((word, schema[name]) for name, word in names.items() if name in schema)
    return "".join(f", {word} {limit:g}" for word, limit in found if limit < 1e6)
