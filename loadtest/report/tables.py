"""The tables of a report, as text that HTML and Markdown show alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.bench.report import number
from loadtest.report.figures import (
    MEASURES,
    OUTCOMES,
    REASONS,
    Distribution,
    Verdict,
    all_gaps,
    distribution,
    grouped,
)
from loadtest.report.recording import Request
from loadtest.report.verdict import slis, state
from loadtest.report.view import ALL, View

NONE = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its title and, where it needs one, a word on how to read it. `key` names it in a page."""

    key: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def milliseconds(seconds: float | None) -> str:
    """Milliseconds with three figures; a dash where there is none."""
    return NONE if seconds is None else number(1000 * seconds)


def per_cent(share: float | None) -> str:
    """A share as per cent with two decimals; a dash where there is none."""
    return NONE if share is None else f"{100 * share:.2f} %"


def results(view: View) -> list[Table]:
    """What came of a run: the objective, why it was missed, outcomes, percentiles, and where requests went."""
    tables = [objective(view), missed(view), outcomes(view), percentiles(view)]
    tables += [where(view, "backend", lambda each: each.backend), where(view, "version", lambda each: each.version)]
    return [table for table in tables if table.rows]


def objective(view: View) -> Table:
    """Each SLI as it was measured, and whether the objective was met."""
    wanted = view.recording.about.objective
    head = (view.grouped_by, "requests", *(sli.title for sli in slis((), wanted)), "objective")
    rows = []
    for name, requests in view.judged.items():
        found = slis(requests, wanted)
        rows.append((name, str(len(requests)), *(sli.shown for sli in found), state(found)))
    note = "Availability: the share of all requests that were answered whole; refused ones count against it. "
    return Table("objective", "Objective", head, tuple(rows), note + "TTFT and TPOT: of answered streams.")


def missed(view: View) -> Table:
    """How many requests missed the objective and why, and the goodput of those that met it."""
    head = (view.grouped_by, "requests", "missed", "share missed", *REASONS, "goodput, tokens/s")
    rows = []
    for name, requests in view.judged.items():
        verdict = Verdict.of(requests, view.recording.about.objective, 0.0, view.seconds)
        why = [verdict.why[reason] for reason in REASONS]
        counts = (verdict.requests, sum(why))
        rows.append((name, *map(str, counts), per_cent(verdict.missed), *map(str, why), number(verdict.goodput)))
    note = "Each missed request counts once; one that is late twice is a late TTFT. Goodput: output tokens of requests "
    return Table("missed", "Requests that missed the objective", head, tuple(rows), note + "that met the objective.")


def outcomes(view: View) -> Table:
    """What came of the requests."""
    rows = []
    for name, requests in view.judged.items():
        counts = [sum(request.outcome == outcome for request in requests) for outcome in OUTCOMES]
        rows.append((name, str(len(requests)), *map(str, counts), number(len(requests) / view.seconds)))
    note = (
        "ok: answered whole. failed: a 5xx, or no answer. cut: a stream without its end. refused: shed, by 429 or 503."
    )
    return Table("outcomes", "Outcomes", (view.grouped_by, "requests", *OUTCOMES, "requests/s"), tuple(rows), note)


def percentiles(view: View) -> Table:
    """Percentiles of each measure in milliseconds."""
    rows = [
        _spread(measure, name, distribution(requests, measure))
        for measure in MEASURES
        for name, requests in view.judged.items()
    ]
    rows.append(_spread("ITL", ALL, all_gaps(view.recording.gaps)))
    seen = tuple(row for row in rows if row[2] != "0")
    note = "Of answered requests, from when each was due; nearest rank. ITL: of the gaps between all output events."
    head = ("", view.grouped_by, "count", "p50, ms", "p95, ms", "p99, ms", "longest, ms")
    return Table("percentiles", "Percentiles", head, seen, note)


def where(view: View, what: str, label: Callable[[Request], str]) -> Table:
    """The share of requests that each backend, or version, answered; without rows where no answer named one."""
    columns = view.groups if view.several else {"share": view.recording.requests}
    counts = {
        name: {key: len(found) for key, found in grouped(each, label).items() if key} for name, each in columns.items()
    }
    labels = sorted({key for each in counts.values() for key in each})
    rows = [
        (key, *(per_cent(each.get(key, 0) / sum(each.values()) if each else None) for each in counts.values()))
        for key in labels
    ]
    title = f"Requests by {what}"
    return Table(f"by-{what}", title, (what, *columns), tuple(rows), f"Of the requests whose answer named a {what}.")


def course(view: View) -> Table:
    """What happened when."""
    events = enumerate(view.events, start=1)
    rows = tuple((str(place), number(event.at), event.label) for place, event in events)
    return Table("events", "Events", ("", "at, s", "what"), rows)


def conditions(view: View) -> list[Table]:
    """What a run was made on, and with."""
    about = view.recording.about
    run = {
        "length": f"{number(view.seconds)} s",
        "requests": str(len(view.recording.requests)),
        "seed": str(about.seed),
        "time scale": number(about.time_scale),
    }
    return [
        Table("run", "Run", ("", "value"), tuple(run.items())),
        Table("machine", "Machine", ("", "value"), tuple(about.machine.items())),
        Table("versions", "Versions", ("", "version"), tuple(about.versions.items())),
    ]


def remarks(view: View) -> list[str]:
    """What must be said before any figure is read."""
    about = view.recording.about
    said = []
    if not view.recording.requests:
        said.append("This recording is empty: it holds no requests.")
    if about.time_scale != 1.0:
        scale = f"{about.time_scale:g}"
        said.append(
            f"Not in real time: the time scale is {scale}, every duration of the engines was multiplied by {scale}. "
            "All figures here are as measured."
        )
    return said


def _spread(measure: str, name: str, seen: Distribution) -> tuple[str, ...]:
    figures: Sequence[float | None] = [seen.percentile(each) for each in (50, 95, 99, 100)]
    return (measure, name, str(seen.count), *map(milliseconds, figures))
