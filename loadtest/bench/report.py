"""The table: nginx and tidegate in both its row sets, against what must be reached and what is aimed at.

A figure is the median of its rounds, and a ratio that of the rounds' own ratios. Rounds in which something else was
busy are left out where there are others; a figure that has none but those is marked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from loadtest.bench.gateways import NGINX, OFF, ON, ROUTERS
from loadtest.bench.measure import BODIES, BURST, LONGEST, LOW, ONE_CHUNK, PACED, PLAIN, Body, Scenario
from loadtest.bench.summary import Summary

Values = tuple[float, ...]
Rounds = Sequence[Summary]
MARK = "*"
NOISY_NOTE = f"A figure marked {MARK} has no round without: it is shown and not judged."
BODY_NOTE = "A millisecond of CPU per request is one core per 1,000 requests/s."


@dataclass(frozen=True, slots=True)
class Limit:
    """Upper bounds, one for each value of a row; of the ratio to nginx where `of_ratio`, else of the value itself."""

    must: Values
    aim: Values
    of_ratio: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what it shows of a gateway, the loads that it rests on, and its limits if it has any.

    `of_routers` bounds its ratio to each router written in Rust. Where the `worst` counts, it is that of all rounds and
    of both row sets of tidegate.
    """

    title: str
    read: Callable[[Summary], Values | None]
    loads: tuple[Scenario, ...] = ()
    limit: Limit | None = None
    of_routers: float | None = None
    worst: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """The values of a row over all rounds; `noisy` where something else was busy in each of them."""

    values: Values | None
    noisy: bool = False

    def show(self, unit: str = "") -> str:
        """Return it as a cell."""
        return shown(self.values, unit) + (MARK if self.noisy and self.values else "")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line as printed; `reached` is None where there is no limit or nothing to judge, `noisy` says why."""

    cells: tuple[str, ...]
    reached: bool | None = None
    noisy: bool = False


def _one(read: Callable[[Summary], float | None]) -> Callable[[Summary], Values | None]:
    return lambda summary: None if (value := read(summary)) is None else (value,)


def body_row(body: Body, limit: Limit | None = None) -> Row:
    """Return the row of a long prompt."""

    def read(summary: Summary) -> Values | None:
        return (summary.body_us[body] / 1000,) if body in summary.body_us else None

    return Row(f"CPU per {body}, ms", read, (body.scenario,), limit)


ROWS = (
    Row("CPU per plain request, us", _one(lambda s: s.plain_us), (PLAIN,), Limit((2.7,), (1.9,), of_ratio=True), 1.0),
    Row(
        "CPU per 1-chunk stream, us",
        _one(lambda s: s.one_chunk_us),
        (ONE_CHUNK,),
        Limit((2.6,), (1.8,), of_ratio=True),
        1.0,
    ),
    Row(
        "CPU per relayed chunk, paced, us",
        _one(lambda s: s.chunk_us),
        (PACED, ONE_CHUNK),
        Limit((1.55,), (1.2,), of_ratio=True),
        1.05,
    ),
    Row(
        "CPU per stream of 128 chunks in one burst, us",
        _one(lambda s: s.burst_us),
        (BURST,),
        Limit((1.3,), (1.0,), of_ratio=True),
        1.0,
    ),
    Row("memory per open idle stream, KB", _one(lambda s: s.idle_stream_kb), (), Limit((9,), (6,))),
    Row("added TTFT at low load, p50 / p99, ms", lambda s: s.added_ttft_ms, (LOW,), Limit((0.25, 0.8), (0.15, 0.4))),
    Row("added relay delay at low load, p50 / p99, ms", lambda s: s.added_relay_ms, (LOW,)),
    Row("upstream connects per 10,000 requests", _one(lambda s: s.connects_per_10k), (), Limit((64,), (32,))),
    *(body_row(body, Limit((3.0,), (1.0,))) for body in LONGEST),
    Row("errors", _one(lambda s: s.errors), (), Limit((0,), (0,)), worst=True),
)
BODY_ROWS = tuple(replace(body_row(body), title=str(body)) for body in BODIES)


def figure(row: Row, rounds: Rounds | None) -> Figure:
    """Return a row's figure of one gateway."""
    if not rounds:
        return Figure(None)
    quiet = _quiet(row, rounds) or rounds
    return Figure(_combined([row.read(each) for each in quiet], row), not _quiet(row, rounds))


def ratio(row: Row, ours: Rounds | None, theirs: Rounds | None) -> Figure:
    """Return the ratio of two gateways: the median of the rounds' own; no values where one is not above 0."""
    if not ours or not theirs:
        return Figure(None)
    pairs = list(zip(ours, theirs, strict=True))
    quiet = [pair for pair in pairs if len(_quiet(row, pair)) == len(pair)]
    return Figure(_combined([_ratios(row.read(our), row.read(their)) for our, their in quiet or pairs], row), not quiet)


def lines(rows: Sequence[Row], measured: Mapping[str, Rounds]) -> list[TableRow]:
    """Return the lines of the table; what was not measured shows as a dash."""
    nginx, off, on = (measured.get(name) for name in (NGINX, OFF, ON))
    routers = [measured[name] for name in ROUTERS if name in measured]
    found = []
    for row in rows:
        off_ratio, on_ratio = ratio(row, off, nginx), ratio(row, on, nginx)
        of_routers = [ratio(row, on, router) for router in routers]
        grade, reached = _judge(row, _judged(row, on, off, nginx), of_routers)
        cells = [figure(row, each).show() for each in (nginx, off, on)]
        cells += [each.show("x") for each in (off_ratio, on_ratio, *of_routers)]
        found.append(TableRow((row.title, *cells, *_bounds(row), grade), reached, grade == "noisy"))
    return found


def head(measured: Mapping[str, Rounds]) -> tuple[str, ...]:
    """Return the head of that table."""
    routers = (f"on / {name}" for name in ROUTERS if name in measured)
    return ("", "nginx", "off", "on", "off / nginx", "on / nginx", *routers, "must reach", "aim at", "ok?")


def beside(rows: Sequence[Row], measured: Mapping[str, Rounds]) -> str:
    """Return a table with a line for each gateway: its figures, and their ratios to nginx."""
    table = [("", *(row.title for row in rows))]
    for name, rounds in measured.items():
        cells = []
        for row in rows:
            found, to_nginx = figure(row, rounds), ratio(row, rounds, measured.get(NGINX))
            compared = name != NGINX and to_nginx.values is not None and row.limit is not None and row.limit.of_ratio
            cells.append(found.show() + (f" ({to_nginx.show('x')})" if compared else ""))
        table.append((_title(name), *cells))
    return aligned(table)


def bodies(measured: Mapping[str, Rounds]) -> str:
    """Return a table of long prompts, with a column for each gateway: linear is what costs the same per megabyte."""
    names = [name for name in measured if any(each.body_us for each in measured[name])]
    table = [("CPU per request in ms, and per MB", *(_title(name) for name in names))]
    for body, row in zip(BODIES, BODY_ROWS, strict=True):
        cells = []
        for name in names:
            found = figure(row, measured[name])
            per_mb = None if found.values is None else (1000 * found.values[0] / body.kilobytes,)
            cells.append(f"{found.show()} ({shown(per_mb)})")
        table.append((row.title, *cells))
    return aligned(table)


def _title(name: str) -> str:
    return f"tidegate {name}" if name in {ON, OFF} else name


def markdown(found: Sequence[TableRow], titles: tuple[str, ...]) -> str:
    """Return the lines as an aligned markdown table, which reads as well on a terminal."""
    return aligned([titles, *(each.cells for each in found)])


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Return a head and its rows as a markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


def number(value: float) -> str:
    """Three figures, no more than two decimals; 0.25 stays 0.25, 17.34 becomes 17.3, 843.2 becomes 843."""
    size = abs(value)
    text = f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if short == "-0" else short


def shown(values: Values | None, unit: str = "") -> str:
    """Return values as a cell."""
    return "-" if values is None else " / ".join(number(value) + unit for value in values)


def _quiet(row: Row, rounds: Rounds) -> list[Summary]:
    names = {load.name for load in row.loads}
    return [each for each in rounds if each.noisy.isdisjoint(names)]


def _combined(values: Sequence[Values | None], row: Row) -> Values | None:
    there = [each for each in values if each is not None]
    return tuple((max if row.worst else median)(column) for column in zip(*there, strict=True)) if there else None


def _ratios(ours: Values | None, theirs: Values | None) -> Values | None:
    if ours is None or theirs is None or any(value <= 0 for value in theirs):
        return None
    return tuple(our / their for our, their in zip(ours, theirs, strict=True))


def _judged(row: Row, on: Rounds | None, off: Rounds | None, nginx: Rounds | None) -> Figure:
    if row.limit and row.limit.of_ratio:
        return ratio(row, on or off, nginx)
    return figure(row, [*(on or ()), *(off or ())] if row.worst else on or off)


def _judge(row: Row, judged: Figure, of_routers: Sequence[Figure]) -> tuple[str, bool | None]:
    if row.limit is None or judged.values is None:
        return "-", None
    if judged.noisy or (row.of_routers is not None and any(each.noisy for each in of_routers)):
        return "noisy", None
    behind = any(
        each.values is not None and row.of_routers is not None and max(each.values) > row.of_routers
        for each in of_routers
    )
    if behind or not _within(judged.values, row.limit.must):
        return "NO", False
    return ("aim" if _within(judged.values, row.limit.aim) else "yes"), True


def _within(values: Values, most: Values) -> bool:
    return all(value <= bound for value, bound in zip(values, most, strict=True))


def _bounds(row: Row) -> tuple[str, str]:
    if row.limit is None:
        return "-", "-"
    unit = "x" if row.limit.of_ratio else ""
    return shown(row.limit.must, unit), shown(row.limit.aim, unit)
