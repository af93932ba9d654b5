"""The pages of the reference that are written from the code say what the code says."""

import re
from collections.abc import Callable

import pytest

from gateway.cli.commands import Commands
from gateway.config.schema import json_schema
from tests.docs.reference.command_line import ABOUT
from tests.docs.reference.kinds import kind
from tests.docs.reference.markdown import table, text
from tests.docs.reference.pages import PAGES, ROOT


@pytest.mark.parametrize(("path", "page"), PAGES.items(), ids=PAGES)
def test_a_page_is_what_the_code_says(path: str, page: Callable[[], str]) -> None:
    assert (ROOT / path).read_text() == page(), "run: make docs"


def test_every_command_has_its_section() -> None:
    found = PAGES["docs/reference-command-line.md"]()
    assert [name for name in Commands() if f"\n## tidegate {name}" not in found] == []
    assert ABOUT.strip() in found


def test_every_object_of_route_files_has_its_section() -> None:
    found = PAGES["docs/reference-routes.md"]()
    assert found.count("\n## ") == len(json_schema()["$defs"]) + 1


def test_no_key_of_route_files_lacks_a_description() -> None:
    schema = json_schema()
    bare = [
        f"{name}.{key}"
        for name, found in (("", schema), *schema["$defs"].items())
        for key, value in found["properties"].items()
        if not value.get("description")
    ]
    assert bare == []


def test_a_table_leaves_out_empty_columns_and_is_nothing_without_rows() -> None:
    assert table(("a", "b", "c"), [("1", "", "x|y\nz")]) == "| a | c |\n| --- | --- |\n| 1 | x\\|y z |\n"
    assert table(("a",), []) == ""


def test_a_docstring_becomes_paragraphs() -> None:
    assert text("One\n    line.\n\n    Another.\n") == "One line.\n\nAnother."
    assert text(None) == ""


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 5}, "integer, at least 1, at most 5"),
        ({"type": "array", "items": {"$ref": "#/$defs/Thing"}}, "list of thing"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "mapping of names to string"),
        ({"enum": ["a", "b"]}, "`a`, `b`"),
        ({"anyOf": [{"const": "auto"}, {"type": "null"}]}, "`auto` or null"),
        ({}, "any"),
    ],
    ids=str,
)
def test_a_type_is_told_in_words(schema: dict[str, object], words: str) -> None:
    assert kind(schema, str.lower) == words


def test_the_page_of_header_fields_has_all_that_the_gateway_reads_and_writes_itself() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    page = (ROOT / "docs/headers.md").read_text()
    names = {f"x-gateway-{name}" for name in re.findall(r'"x-gateway-([a-z-]+[a-z])', sources)}
    names |= set(re.findall(r'b?"(x-(?:request|session)-[a-z-]+)"', sources))
    assert {"x-gateway-class", "x-request-timeout", "x-session-id"} <= names
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
