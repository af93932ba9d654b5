"""The page of the admin API, from its OpenAPI document."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

from gateway.admin.api import create_admin
from tests.docs.reference.kinds import Schema, kind
from tests.docs.reference.markdown import WRITTEN, join, table, text

ABOUT = """
The admin listener is at `http://127.0.0.1:9000` unless `tidegate serve --admin-host` or `--admin-port` says otherwise.
On any other address it requires a token: `Authorization: Bearer TOKEN`. `/openapi.json` has this API for programs, and
`/docs` shows it in a browser. Times are written as in RFC 3339, and fields whose names end in `_seconds` are seconds.

Errors have the shape of [all errors](reference-errors.md). 401 and 403 mean that the token is missing or wrong, and 422
that a parameter or the body is.
"""
_LEFT_OUT = frozenset(("HTTPValidationError", "ValidationError"))
"""What FastAPI says of 422; the gateway answers with its own shape."""


def page() -> str:
    """Return the page."""
    document = openapi()
    objects = {name: found for name, found in document["components"]["schemas"].items() if name not in _LEFT_OUT}
    parts = ["# Admin API", WRITTEN, ABOUT]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += endpoint(f"{method.upper()} {path}", operation)
    parts += ["## Objects"]
    for name, found in sorted(objects.items()):
        parts += [f"### {name}", text(found.get("description")), fields(found), values(found)]
    return join(parts)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of an admin listener. What it shows is not asked for."""
    shown: Any = MagicMock()
    return create_admin(shown, shown, shown, host="127.0.0.1", token=shown).openapi()


def endpoint(name: str, operation: Schema) -> Iterator[str]:
    """Yield the section of an endpoint."""
    yield f"## {name}"
    yield text(operation.get("description"))
    yield table(
        ("parameter", "in", "type", "default"),
        (
            (f"`{each['name']}`", each["in"], kind(each["schema"], link), default(each["schema"], each["required"]))
            for each in operation.get("parameters", [])
        ),
    )
    if body := operation.get("requestBody"):
        yield f"Body: {_content(body)}."
    yield table(
        ("status", "answer"),
        (
            (status, _content(found) or found["description"].replace("Successful Response", "as described"))
            for status, found in operation["responses"].items()
            if status != "422"
        ),
    )


def _content(found: Schema) -> str:
    for media, content in found.get("content", {}).items():
        schema = content.get("schema", {})
        if media == "application/json" and schema:
            return kind(schema, link)
    return ""


def fields(schema: Schema) -> str:
    """Return the table of an object's fields."""
    required = schema.get("required", [])
    return table(
        ("field", "type", "default"),
        (
            (f"`{name}`", kind(found, link), default(found, name in required))
            for name, found in schema.get("properties", {}).items()
        ),
    )


def values(schema: Schema) -> str:
    """Return what an enumeration may be."""
    return f"One of {', '.join(f'`{each}`' for each in schema['enum'])}." if "enum" in schema else ""


def default(schema: Schema, required: bool) -> str:
    """Return what is taken where a value is left out."""
    found = schema.get("default")
    return "" if required or found in (None, "", [], {}) else f"`{found}`".lower()


def link(name: str) -> str:
    """Return a link to the section of an object."""
    return f"[{name}](#{name.lower()})"
