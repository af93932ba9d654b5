"""`python -m loadtest.alerts`: the gateway's alerts against faults, years and restarts, on a clock of their own.

Exits 1 when a page is lost, late or told twice, or when anybody is paged within the budget.
"""

import argparse
import logging
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap
from statistics import median

from loadtest.alerts import detection, edges, quiet

SHAPES = ("bursty", "office hours", "nights off")


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtest.alerts", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sixth of the cases, a month instead of a year")
    parser.add_argument("--seed", type=int, default=1, help="of the first case (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.jobs, initializer=logging.disable) as pool:
        wrong = [
            *_edges(pool, chosen.seed),
            *_detection(pool, quick=chosen.quick),
            *_shaped(pool, chosen.seed),
            *_quiet(pool, quick=chosen.quick),
        ]
    for each in wrong:
        print(f"WRONG: {each}")
    print("as it has to be" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


def _edges(pool: ProcessPoolExecutor, seed: int) -> list[str]:
    print("| what happens | pages | tickets | plain rule pages |\n| --- | --- | --- | --- |")
    wrong = []
    for edge in pool.map(_edge, [(number, seed) for number in range(len(edges.SCENES))]):
        print(f"| {edge.name} | {edge.told[0]} | {edge.told[1]} | {edge.plain} |", flush=True)
        if not edge.well or edge.words:
            wrong.append(f"{edge.name}: {edge.told[0]} pages, {edge.told[1]} tickets {edge.words}")
    return wrong


def _edge(arguments: tuple[int, int]) -> edges.Edge:
    number, seed = arguments
    return edges.SCENES[number](seed)


def _detection(pool: ProcessPoolExecutor, *, quick: bool) -> list[str]:
    cases = detection.cases(1 if quick else 2, quick=quick)
    found = list(pool.map(detection.play, cases, chunksize=4))
    print(f"\n{len(found)} faults that have to page\n")
    print("| target | requests/s | fail | ideal | with days before | as a new service |\n" + "| --- " * 6 + "|")
    rows: dict[tuple[float, float, float], dict[bool, list[float]]] = {}
    for each in found:
        case = each.case
        if each.seconds is not None:
            rows.setdefault((case.target, case.rate, case.share), {}).setdefault(case.lived, []).append(each.seconds)
    ideals = {(each.case.target, each.case.rate, each.case.share): each.case.ideal for each in found}
    for (target, rate, share), times in rows.items():
        cells = [_time(median(times[lived])) if lived in times else "-" for lived in (True, False)]
        ideal = _time(ideals[target, rate, share])
        print(f"| {100 * target:g} % | {rate:.3g} | {share:.1%} | {ideal} | {cells[0]} | {cells[1]} |")
    return detection.late(found)


def _shaped(pool: ProcessPoolExecutor, seed: int) -> list[str]:
    print("\n| traffic | target | requests/s | total outage pages after |\n| --- | --- | --- | --- |")
    wrong = []
    jobs = [(seed, shape, target, rate) for shape in SHAPES for target in (0.99, 0.999) for rate in (0.1, 10.0)]
    for (_, shape, target, rate), found in zip(jobs, pool.map(_shape, jobs), strict=True):
        told = "never" if found.seconds is None else _time(found.seconds)
        print(f"| {shape} | {100 * target:g} % | {rate:g} | {told} |", flush=True)
        if found.seconds is None or found.pages != 1:
            wrong.append(f"outage of {shape} at {rate:g}/s, {100 * target:g} %: {found.pages} pages")
    return wrong


def _shape(job: tuple[int, str, float, float]) -> detection.Found:
    (found,) = starmap(detection.shaped, [job])
    return found


def _quiet(pool: ProcessPoolExecutor, *, quick: bool) -> list[str]:
    days = 30.0 if quick else 365.0
    years = quiet.years(days, quick=quick)
    lived = list(pool.map(quiet.live, years))
    print(f"\n{len(years)} services within their budget, {days:g} days each\n")
    print("| spent | pages | tickets | plain rule pages | requests |\n| --- | --- | --- | --- | --- |")
    for spent in quiet.SPENT:
        rows = [each for each in lived if each.year.spent == spent]
        pages, tickets, plain = (sum(getattr(each, name) for each in rows) for name in ("pages", "tickets", "plain"))
        print(f"| {spent:g}x | {pages} | {tickets} | {plain} | {sum(each.requests for each in rows):,} |")
    return [
        f"{each.pages} pages at {each.year.spent:g}x of the budget: {100 * each.year.target:g} %, "
        f"{each.year.rate:.3g}/s, {each.year.shape}"
        for each in lived
        if each.pages
    ]


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
