"""The table: tidegate beside nginx, against what it must reach and what it aims at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.bench.summary import Summary

Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """Upper bounds, one for each value of a row; of the ratio to nginx where `of_ratio`, else of the value itself."""

    must: Values
    aim: Values
    of_ratio: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what it shows of a gateway, and its limit if it has one."""

    title: str
    read: Callable[[Summary], Values]
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class AdmissionQueue:
    """One line as printed; `reached` is None where there is no limit or nothing to judge."""

    cells: tuple[str, ...]
    reached: bool | None


HEAD = ("", "nginx", "tidegate", "ratio", "must reach", "aim at", "ok?")

ROWS = (
    Row("CPU per plain request, us", lambda s: (s.plain_us,), Limit((3.5,), (2.2,), of_ratio=True)),
    Row("CPU per 1-chunk stream, us", lambda s: (s.one_chunk_us,)),
    Row("CPU per relayed chunk, paced, us", lambda s: (s.chunk_us,), Limit((2.0,), (1.75,), of_ratio=True)),
    Row("CPU per stream of 128 chunks in one burst, us", lambda s: (s.burst_us,), Limit((1.6,), (1.1,), of_ratio=True)),
    Row("memory per open idle stream, KB", lambda s: (s.idle_stream_kb,), Limit((10,), (6,))),
    Row("added TTFT at low load, p50 / p99, ms", lambda s: s.added_ttft_ms, Limit((0.5, 2), (0.25, 0.6))),
    Row("added relay delay at low load, p50 / p99, ms", lambda s: s.added_relay_ms),
    Row("upstream connects per 10,000 requests", lambda s: (s.connects_per_10k,), Limit((64,), (32,))),
    Row("errors", lambda s: (s.errors,), Limit((0,), (0,))),
)


def number(value: float) -> str:
    """Three figures, no more than two decimals; 0.25 stays 0.25, 17.34 becomes 17.3, 843.2 becomes 843."""
    size = abs(value)
    text = f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if short == "-0" else short


def line(row: Row, nginx: Summary | None, tidegate: Summary | None) -> AdmissionQueue:
    """One row; what was not measured shows as a dash."""
    theirs = row.read(nginx) if nginx else None
    ours = row.read(tidegate) if tidegate else None
    ratios = _ratios(ours, theirs)
    grade, reached = _judge(row.limit, ours, ratios)
    limits = (_bound(row.limit, row.limit.must), _bound(row.limit, row.limit.aim)) if row.limit else ("-", "-")
    return AdmissionQueue((row.title, _show(theirs), _show(ours), _show(ratios, "x"), *limits, grade), reached)


def markdown(lines: Sequence[AdmissionQueue]) -> str:
    """The lines as an aligned markdown table, which reads as well on a terminal."""
    return aligned([HEAD, *(each.cells for each in lines)])


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """A head and its rows as a markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


def _ratios(ours: Values | None, theirs: Values | None) -> Values | None:
    if ours is None or theirs is None or any(value <= 0 for value in theirs):
        return None
    return tuple(our / their for our, their in zip(ours, theirs, strict=True))


def _judge(limit: Limit | None, ours: Values | None, ratios: Values | None) -> tuple[str, bool | None]:
    if limit is None:
        return "-", None
    judged = ratios if limit.of_ratio else ours
    if judged is None:
        return "-", None
    if all(value <= most for value, most in zip(judged, limit.aim, strict=True)):
        return "aim", True
    reached = all(value <= most for value, most in zip(judged, limit.must, strict=True))
    return ("yes" if reached else "NO"), reached


def _show(values: Values | None, unit: str = "") -> str:
    return "-" if values is None else " / ".join(number(value) + unit for value in values)


def _bound(limit: Limit, values: Values) -> str:
    return _show(values, "x" if limit.of_ratio else "")
