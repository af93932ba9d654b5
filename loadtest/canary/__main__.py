"""`python -m loadtest.canary alarms|detection`: what rollouts of good and of bad candidates come to."""

import sys
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from loadtest.canary.rollouts import SECONDS, WEIGHT, Found, Rates, simulate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console(width=140)
RATES = (1.0, 10.0, 100.0)
ERRORS = (0.001, 0.01)
LATE = 0.005

Rollouts = Annotated[int, typer.Option(help="Simulated rollouts of each kind.")]
Seed = Annotated[int, typer.Option(help="Seed of the first kind.")]


LIMIT = 4000


def _run(arguments: tuple[int, Rates, float, int, int]) -> Found:
    seed, rates, per_second, rollouts, requests = arguments
    return simulate(np.random.default_rng(seed), rates, per_second, rollouts=rollouts, requests=requests)


def _each(kinds: list[tuple[Rates, float]], rollouts: int, seed: int, requests: int = 0) -> list[Found]:
    jobs = [
        (seed + place, rates, per_second, rollouts, requests or round(SECONDS * per_second * WEIGHT))
        for place, (rates, per_second) in enumerate(kinds)
    ]
    with ProcessPoolExecutor(cpu_count()) as pool:
        return list(pool.map(_run, jobs))


@app.command()
def alarms(rollouts: Rollouts = 10_000, seed: Seed = 1) -> None:
    """Roll out candidates that equal stable: 30 minutes at 5 %, looked at after every request."""
    kinds = [(Rates((errors, LATE), (errors, LATE)), per_second) for errors in ERRORS for per_second in RATES]
    found = _each(kinds, rollouts, seed)
    table = Table(
        title=f"Rolled back of {rollouts:,} candidates that equal stable (30 min at 5 %)", title_justify="left"
    )
    for column in ("errors", "requests/s", "candidate requests", "gateway", "plain threshold", "repeated test"):
        table.add_column(column, justify="right")
    for (rates, per_second), each in zip(kinds, found, strict=True):
        shares = [f"{each.share(rule) * 100:.2f} %" for rule in ("gateway", "threshold", "repeated")]
        table.add_row(f"{rates.stable[0] * 100:g} %", f"{per_second:g}", f"{each.requests:,}", *shares)
    _console.print(table)
    worst = max(each.share("gateway") for each in found)
    _console.print(f"at worst {worst * 100:.2f} % (limit 1 %)")
    if worst > 0.01:
        raise typer.Exit(1)


def _bad_candidates() -> list[tuple[str, Rates, float]]:
    kinds = [
        (f"errors {errors * 100:g} % x {times}", Rates((errors, LATE), (errors * times, LATE)))
        for errors in ERRORS
        for times in (2, 5, 20)
    ]
    kinds += [(f"late {LATE * 100:g} % x {times}", Rates((0.001, LATE), (0.001, LATE * times))) for times in (2, 5)]
    kinds.append(("fails every request", Rates((0.001, LATE), (1.0, 0.0))))
    return [(name, rates, per_second) for name, rates in kinds for per_second in RATES]


@app.command()
def detection(rollouts: Rollouts = 400, seed: Seed = 1) -> None:
    """Roll out candidates that are worse: requests of theirs until they are rolled back."""
    cases = _bad_candidates()
    names = [(name, per_second) for name, _, per_second in cases]
    kinds = [(rates, per_second) for _, rates, per_second in cases]
    found = _each(kinds, rollouts, seed, LIMIT)
    table = Table(title="Requests that a bad candidate served before its rollback (at 5 %)", title_justify="left")
    for column in ("candidate", "requests/s", "median", "time", f"found out within {LIMIT:,}"):
        table.add_column(column, justify="right")
    for (name, per_second), each in zip(names, found, strict=True):
        median = each.median("gateway")
        shown, seconds = f"over {LIMIT:,}", "-"
        if np.isfinite(median):
            shown, seconds = f"{median:,.0f}", f"{median / (per_second * WEIGHT):,.0f} s"
        table.add_row(name, f"{per_second:g}", shown, seconds, f"{each.share('gateway') * 100:.0f} %")
    _console.print(table)
    slow = [
        f"{name} at {per_second:g}/s"
        for (name, per_second), each in zip(names, found, strict=True)
        if ("x 5" in name and per_second == 10 and each.median("gateway") > 2000)
        or (name == "fails every request" and each.median("gateway") > 5)
    ]
    if slow:
        _console.print(f"too late: {', '.join(slow)} (limits: 2,000 at 5 x and 10/s, 5 where all fail)")
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
