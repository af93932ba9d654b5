"""`python -m loadtest.alerts`: the gateway's alerts against faults, years and restarts, on a clock of their own.

Exits 1 when a page is lost, late or told twice, or when anybody is paged within the budget. The full replay takes about
eight minutes of one core.
"""

import argparse
import logging
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from loadtest.alerts import detection, edges, quiet

BEGIN, END = "<!-- replay: written by python -m loadtest.alerts --docs docs -->", "<!-- end of replay -->"
SHAPES = ("bursty", "office hours", "nights off")


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtest.alerts", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sixth of the cases, a month instead of a year")
    parser.add_argument("--seed", type=int, default=1, help="of the first case (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--docs", type=Path, help="folder whose alerting.md gets the tables")
    chosen = parser.parse_args()
    wrong: list[str] = []
    tables: list[str] = []
    with ProcessPoolExecutor(chosen.jobs, initializer=logging.disable) as pool:
        for table, amiss in (
            _edges(pool, chosen.seed),
            _detection(pool, quick=chosen.quick),
            _shaped(pool, chosen.seed),
            _quiet(pool, quick=chosen.quick),
        ):
            tables.append("\n".join(table))
            wrong += amiss
    if chosen.docs is not None:
        _write(chosen.docs / "alerting.md", "\n\n".join(tables))
    for each in wrong:
        print(f"WRONG: {each}")
    print("as it has to be" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


def _write(page: Path, tables: str) -> None:
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def _shown(lines: list[str]) -> list[str]:
    print(*lines, "", sep="\n", flush=True)
    return lines


def _edges(pool: ProcessPoolExecutor, seed: int) -> tuple[list[str], list[str]]:
    lines = ["| what happens, at 99.9 % | pages | tickets | plain rule pages |", "| --- | --- | --- | --- |"]
    wrong = []
    for edge in pool.map(_edge, [(number, seed) for number in range(len(edges.SCENES))]):
        lines.append(f"| {edge.name} | {edge.told[0]} | {edge.told[1]} | {edge.plain} |")
        if not edge.well or edge.words:
            wrong.append(f"{edge.name}: {edge.told[0]} pages, {edge.told[1]} tickets {edge.words}")
    return _shown(lines), wrong


def _edge(arguments: tuple[int, int]) -> edges.Edge:
    number, seed = arguments
    return edges.SCENES[number](seed)


def _detection(pool: ProcessPoolExecutor, *, quick: bool) -> tuple[list[str], list[str]]:
    cases = detection.cases(1 if quick else 2, quick=quick)
    found = list(pool.map(detection.play, cases, chunksize=4))
    wrong = detection.late(found)
    lines = [
        f"{len(found)} steady faults that have to page (see `loadtest/alerts/detection.py`); median time to page:",
        "",
        "| target | requests/s | fail | ideal | with days before | as a new service |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows: dict[tuple[float, float, float], dict[bool, list[float]]] = {}
    for each in found:
        case = each.case
        if each.seconds is not None:
            rows.setdefault((case.target, case.rate, case.share), {}).setdefault(case.lived, []).append(each.seconds)
    ideals = {(each.case.target, each.case.rate, each.case.share): each.case.ideal for each in found}
    for (target, rate, share), times in rows.items():
        cells = [_time(median(times[lived])) if lived in times else "-" for lived in (True, False)]
        ideal = _time(ideals[target, rate, share])
        lines.append(f"| {100 * target:g} % | {rate:.3g} | {100 * share:g} % | {ideal} | {cells[0]} | {cells[1]} |")
    return _shown(lines), wrong


def _shaped(pool: ProcessPoolExecutor, seed: int) -> tuple[list[str], list[str]]:
    lines = ["| traffic | target | requests/s | total outage pages after |", "| --- | --- | --- | --- |"]
    wrong = []
    jobs = [(seed, shape, target, rate) for shape in SHAPES for target in (0.99, 0.999) for rate in (0.1, 10.0)]
    for (_, shape, target, rate), found in zip(jobs, pool.map(_shape, jobs), strict=True):
        told = "never" if found.seconds is None else _time(found.seconds)
        lines.append(f"| {shape} | {100 * target:g} % | {rate:g} | {told} |")
        if found.seconds is None or found.pages != 1:
            wrong.append(f"outage of {shape} at {rate:g}/s, {100 * target:g} %: {found.pages} pages")
    return _shown(lines), wrong


def _shape(job: tuple[int, str, float, float]) -> detection.Found:
    return detection.shaped(*job)


def _quiet(pool: ProcessPoolExecutor, *, quick: bool) -> tuple[list[str], list[str]]:
    days = 30.0 if quick else 365.0
    years = quiet.years(days, quick=quick)
    lived = list(pool.map(quiet.live, years))
    lines = [
        f"{len(years)} services within their budget, targets 95 to 99.99 %, {days:g} days each:",
        "",
        "| budget spent | pages | tickets | plain rule pages | requests |",
        "| --- | --- | --- | --- | --- |",
    ]
    for spent in quiet.SPENT:
        rows = [each for each in lived if each.year.spent == spent]
        pages, tickets, plain = (sum(getattr(each, name) for each in rows) for name in ("pages", "tickets", "plain"))
        requests = sum(each.requests for each in rows)
        lines.append(f"| {spent:g}x | {pages} | {tickets} | {plain} | {requests:,} |")
    wrong = [
        f"{each.pages} pages at {each.year.spent:g}x of the budget: {100 * each.year.target:g} %, "
        f"{each.year.rate:.3g}/s, {each.year.shape}"
        for each in lived
        if each.pages
    ]
    return _shown(lines), wrong


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


if __name__ == "__main__":
    sys.exit(main())
