"""A report as one HTML file that needs nothing else, and the same in Markdown beside it."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import gateway.admin
from loadtest.report import stats
from loadtest.report.markdown import markdown
from loadtest.report.plots import Panel, panels
from loadtest.report.recording import Recording
from loadtest.report.tables import Table, conditions, course, remarks, results
from loadtest.report.verdict import headline, state, verdicts
from loadtest.report.view import View

_NUMERIC = frozenset("0123456789.- %N/A")
_HERE = Path(__file__).parent
_UPLOT = Path(gateway.admin.__file__).parent / "dashboard" / "uplot"
_HOW_DISTRIBUTED = "The share of answered requests, or of gaps, that took at most so long."


def write_report(recording: Recording, folder: Path, *, table: Path | None = None) -> Path:
    """Write `report.html` and `report.md` into a folder and return the path of the first.

    `table` is locust's `..._stats.csv`, which is shown as it is. Raises OSError where files cannot be read or written.
    """
    view = View.of(recording)
    extra = [stats.read(table)] if table else []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(view, extra))
    page = folder / "report.html"
    page.write_text(html(view, extra))
    return page


def html(view: View, extra: list[Table]) -> str:
    """The report as a page; `extra` tables follow the results."""
    about = view.recording.about
    shown = panels(view)
    tables = [*results(view), *extra]
    return Template((_HERE / "report.html").read_text()).substitute(
        title=escape(about.title),
        remarks="".join(f'<p class="remark">{escape(remark)}</p>' for remark in remarks(view)),
        verdict=_verdict(view),
        events=_tables([course(view)]),
        time=_plots("Over time", _how_binned(view), [panel for panel in shown if panel.timed]),
        distributions=_plots("Distributions", _HOW_DISTRIBUTED, [panel for panel in shown if not panel.timed]),
        tables=_tables(tables),
        notes=_notes(about.notes),
        conditions=_tables(conditions(view)),
        command=escape(about.command),
        figures=_figures(view, shown),
        uplot=(_UPLOT / "uPlot.iife.min.js").read_text(),
        uplot_style=(_UPLOT / "uPlot.min.css").read_text(),
        script=(_HERE / "report.js").read_text(),
    )


def _verdict(view: View) -> str:
    found = verdicts(view)
    return "".join(
        f'<section class="verdict {state(slis).replace(" ", "-")}"><h2>{escape(headline(name, slis))}</h2><ul>'
        + "".join(f"<li><b>{sli.state}</b> {escape(sli.words())}</li>" for sli in slis)
        + "</ul></section>"
        for name, slis in found.items()
        if view.recording.requests
    )


def _how_binned(view: View) -> str:
    width = f"{view.bins.width} s"
    return (
        f"Each point stands for the {width} around it; the p99 of fewer than 100 requests is their longest. "
        "Drag to zoom: all plots follow. Double-click to see the whole run again. Numbers on top stand for events."
    )


def _plots(title: str, how: str, shown: list[Panel]) -> str:
    if not shown:
        return ""
    figures = "".join(
        f"<figure><figcaption><h3>{escape(panel.title)}</h3><p>{escape(panel.note)}</p></figcaption>"
        f'<div class="plot" id="{escape(panel.key)}"></div></figure>'
        for panel in shown
    )
    kind = "time" if shown[0].timed else "distributions"
    return f'<section><h2>{title}</h2><p class="how">{escape(how)}</p><div class="{kind}">{figures}</div></section>'


def _tables(tables: Iterable[Table]) -> str:
    return "".join(_table(table) for table in tables if table.rows)


def _table(table: Table) -> str:
    numeric = [all(map(_NUMERIC.issuperset, column)) for column in zip(*table.rows, strict=True)]
    head, *rows = (
        "".join(_cell(kind, text, right=right) for text, right in zip(cells, numeric, strict=True))
        for kind, cells in (("th", table.head), *(("td", row) for row in table.rows))
    )
    note = f'<p class="how">{escape(table.note)}</p>' if table.note else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<section><h2>{escape(table.title)}</h2>{note}<div class="scroll">'
        f'<table id="{escape(table.key)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def _cell(kind: str, text: str, *, right: bool) -> str:
    return f'<{kind} class="number">{escape(text)}</{kind}>' if right else f"<{kind}>{escape(text)}</{kind}>"


def _notes(notes: tuple[str, ...]) -> str:
    if not notes:
        return ""
    return f"<section><h2>Notes</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul></section>"


def _figures(view: View, shown: list[Panel]) -> str:
    """The plots as JSON that no text within can close the script it stands in."""
    marked = [event.at for event in view.events]
    told = {"panels": list(map(_panel, shown)), "events": marked, "seconds": view.seconds}
    return json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")


def _panel(panel: Panel) -> dict[str, Any]:
    """A panel's fields; an x axis that all its lines have is told once."""
    told = asdict(panel)
    first = told["traces"][0]["x"]
    if all(trace["x"] == first for trace in told["traces"]):
        told["x"] = first
        for trace in told["traces"]:
            del trace["x"]
    return told
