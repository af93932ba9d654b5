"""The page of every key in route files, from their JSON Schema."""

import json
from collections.abc import Iterator, Mapping

from gateway.config.durations import format_duration
from gateway.config.schema import json_schema
from tests.docs.reference.kinds import DURATION, Schema, kind
from tests.docs.reference.markdown import WRITTEN, join, table, text

ABOUT = """
Every key that may stand in a route file, with its type and default. [Route files](routes.md) explains them with
examples, and [`routes/schema.json`](../routes/schema.json) has the same for editors. An unknown key is an error.

Values may be written as `${NAME}` or `${NAME:-default}`, which stand for variables of the environment. A duration is a
number and a unit: `250ms`, `2s`, `10m`, `1h`, `28d`.
"""


def page() -> str:
    """Return the page."""
    schema = json_schema()
    objects = schema["$defs"]
    parts = ["# Keys of route files", WRITTEN, ABOUT, "## The file", keys(schema)]
    for name in reached(schema, objects):
        parts += [f"## {title(name)}", text(objects[name].get("description")), keys(objects[name])]
    return join(parts)


def title(name: str) -> str:
    """Return how the page calls an object of the schema: `BackendEntry` is "Backend"."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Entry"))
    return words.strip().capitalize()


def reached(schema: Schema, objects: Mapping[str, Schema]) -> list[str]:
    """Return the names of the objects below a schema, each after what it is first found in."""
    names: list[str] = []

    def visit(inside: Schema) -> None:
        for each in refs(inside):
            if each not in names:
                names.append(each)
                visit(objects[each])

    visit(schema)
    return names


def refs(schema: object) -> Iterator[str]:
    """Yield the names of the objects that a schema refers to."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key != "$defs":
                yield from refs(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from refs(each)


def keys(schema: Schema) -> str:
    """Return the table of an object's keys."""
    rows = []
    for name, found in schema["properties"].items():
        meaning, _, default = str(found.get("description", "")).partition(" Default: ")
        words = kind(found, link)
        if name in schema.get("required", []):
            default = "required"
        elif not default and (value := found.get("default")) not in (None, [], {}):
            default = f"`{format_duration(value) if words == DURATION else json.dumps(value)}`"
        examples = found.get("examples", [])
        shown = f" For example `{json.dumps(examples[0])}`." if examples else ""
        rows.append((f"`{name}`", words, meaning + shown, default.rstrip(".")))
    return table(("key", "type", "meaning", "default"), rows)


def link(name: str) -> str:
    """Return a link to the section of an object."""
    words = title(name).lower()
    return f"[{words}](#{words.replace(' ', '-')})"
