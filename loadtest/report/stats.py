"""The table of percentiles that locust writes, with fewer digits."""

import csv
from pathlib import Path

from loadtest.bench.report import number
from loadtest.report.tables import Table


def read(path: Path) -> Table:
    """Read locust's `..._stats.csv`; raises OSError where there is none and ValueError where it is empty."""
    with path.open(newline="") as file:
        rows = [tuple(map(_rounded, row)) for row in csv.reader(file) if row]
    if not rows:
        raise ValueError(f"{path.name} is empty: locust's table has a head at least")
    note = f"From {path.name}, numbers with three digits; times in milliseconds, as locust rounds them."
    return Table("locust", "Percentiles by locust", rows[0], tuple(rows[1:]), note)


def _rounded(cell: str) -> str:
    whole, point, rest = cell.partition(".")
    return number(float(cell)) if point and (whole + rest).isdecimal() else cell
