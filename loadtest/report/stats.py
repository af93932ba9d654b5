"""The table of percentiles that locust writes, as it stands."""

import csv
from pathlib import Path

from loadtest.report.tables import Table


def read(path: Path) -> Table:
    """Read locust's `..._stats.csv`; raises OSError where there is none and ValueError where it is empty."""
    with path.open(newline="") as file:
        rows = [tuple(row) for row in csv.reader(file) if row]
    if not rows:
        raise ValueError(f"{path.name} is empty: locust's table has a head at least")
    note = f"{path.name} cell by cell; times in milliseconds, as locust rounds them."
    return Table("locust", "Percentiles by locust", rows[0], tuple(rows[1:]), note)
