"""Pieces of Markdown that the generated pages consist of."""

import re
from collections.abc import Iterable, Sequence

WRITTEN = "<!-- Written from the code by `make docs` (tests/docs/reference). Change the code, not this page. -->"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without the columns in which nothing stands, "" without rows."""
    found = list(rows)
    used = [number for number, _ in enumerate(columns) if any(row[number] for row in found)]
    lines = [_row([row[number] for number in used]) for row in (columns, ["---"] * len(columns), *found)]
    return "\n".join([*lines, ""]) if found else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).replace("|", r"\|")


def text(docstring: str | None) -> str:
    """Return a docstring as paragraphs."""
    paragraphs = (docstring or "").strip().split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def join(parts: Iterable[str]) -> str:
    """Return blocks as one page, with an empty line between them."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
