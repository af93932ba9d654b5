"""A report in Markdown: the tables and the facts, without plots."""

import re

from loadtest.report.tables import Table, conditions, course, remarks, results
from loadtest.report.verdict import headline, verdicts
from loadtest.report.view import View


def markdown(view: View, extra: list[Table]) -> str:
    """The report as GitHub's Markdown; `extra` tables follow the results."""
    about = view.recording.about
    parts = [f"# {text(about.title)}", *(f"> {remark}" for remark in remarks(view)), *_verdict(view)]
    parts += [_section(table) for table in (*results(view), *extra, course(view)) if table.rows]
    if about.notes:
        parts += ["## Notes", "\n".join(f"- {text(note)}" for note in about.notes)]
    parts += [_section(table) for table in conditions(view) if table.rows]
    parts += ["## To repeat it", _fenced(about.command)]
    return "\n\n".join(parts) + "\n"


def _verdict(view: View) -> list[str]:
    if not view.recording.requests:
        return []
    return [
        "\n".join([f"**{text(headline(name, found))}**\n", *(f"- {sli.state}: {text(sli.words())}" for sli in found)])
        for name, found in verdicts(view).items()
    ]


def text(raw: str) -> str:
    """Text that stands for itself in a line or a cell of Markdown."""
    marked = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(raw.split()))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(table: Table) -> str:
    lines = [f"## {text(table.title)}", "", _row(table.head), "|" + " --- |" * len(table.head)]
    lines += map(_row, table.rows)
    return "\n".join([*lines, "", text(table.note)] if table.note else lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(text, cells)) + " |"


def _fenced(command: str) -> str:
    """A block of code, fenced by more backticks than the command holds in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence}sh\n{command}\n{fence}"
