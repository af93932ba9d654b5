"""`python -m loadtest.canary [all|equal|incidents|sticky|worse]`: what rollouts come to under the gateway's rules."""

import sys
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import Phase
from gateway.policy.canary.words import span
from loadtest.canary.cells import DAY, GROUPS, Cell
from loadtest.canary.world import Ended, Simulation

_console = Console(width=160)
_HORIZON = 60 * DAY
_CHANCE = 2.33
"""Standard errors that a share may lie beyond a limit by chance (one in a hundred)."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def rollouts(cell: Cell, count: int, seed: int) -> list[Ended]:
    """Run so many rollouts in one world."""
    plan = Plan("v1", "v2")
    return [Simulation(np.random.default_rng([seed, run]), cell.world, plan).run(_HORIZON) for run in range(count)]


def share(found: Sequence[Ended], phase: Phase) -> float:
    """Return the share of rollouts that ended in a phase."""
    return sum(each.phase is phase for each in found) / len(found)


def breaches(cell: Cell, found: Sequence[Ended]) -> list[str]:
    """Say which targets a cell misses, beyond what chance explains."""
    promoted, back = share(found, Phase.PROMOTED), share(found, Phase.ROLLED_BACK)
    slack = [_CHANCE * (limit * (1 - limit) / len(found)) ** 0.5 for limit in (0.95, 0.01, 0.08)]
    missed = []
    if cell.least_promoted is not None and promoted < cell.least_promoted - slack[0]:
        missed.append(f"{promoted * 100:.0f} % promoted (least {cell.least_promoted * 100:g} %)")
    if cell.most_rolled_back is not None and back > cell.most_rolled_back + slack[1]:
        missed.append(f"{back * 100:.1f} % rolled back (most {cell.most_rolled_back * 100:g} %)")
    if cell.most_promoted is not None and promoted > cell.most_promoted + (slack[2] if cell.most_promoted else 0.0):
        missed.append(f"{promoted * 100:.1f} % promoted (most {cell.most_promoted * 100:g} %)")
    return [f"{cell.name} at {cell.world.rate:g}/s: {each}" for each in missed]


def _row(cell: Cell, found: Sequence[Ended]) -> list[str]:
    times = [each.seconds for each in found if each.phase is Phase.PROMOTED]
    predicted = float(np.median([each.predicted for each in found]))
    return [
        cell.name,
        f"{cell.world.rate:g}",
        f"{share(found, Phase.PROMOTED) * 100:.0f} %",
        f"{share(found, Phase.ROLLED_BACK) * 100:.1f} %",
        f"{share(found, Phase.PAUSED) * 100:.0f} %",
        span(float(np.median(times))) if times else "-",
        span(predicted) if predicted < _HORIZON else "-",
        f"{float(np.median([each.bad_served for each in found])):,.0f}",
    ]


@app.command()
def main(
    group: Annotated[str, typer.Argument(help=f"all, {', '.join(GROUPS)}")] = "all",
    *,
    count: Annotated[int, typer.Option(help="Simulated rollouts of each cell.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of all chance.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the rollouts.")] = False,
) -> None:
    """Simulate rollouts over the grid; exit code 1 where a target is missed."""
    runs = max(5, count // 10) if quick else count
    missed: list[str] = []
    for name in GROUPS if group == "all" else [group]:
        table = Table(title=f"{name}: {runs} rollouts of each", title_justify="left")
        table.add_column("candidate")
        for column in ("requests/s", "promoted", "rolled back", "paused", "time", "predicted", "failures of v2"):
            table.add_column(column, justify="right")
        every: list[Ended] = []
        without_target: set[str] = set()
        for cell in GROUPS[name]():
            found = rollouts(cell, runs, seed)
            every += found if cell.most_rolled_back is not None else []
            table.add_row(*_row(cell, found))
            without_target |= {cell.why} if cell.why else set()
            missed += breaches(cell, found)
        _console.print(table)
        for why in sorted(without_target):
            _console.print(f"no target of promotions for {why}")
        if every:
            back = share(every, Phase.ROLLED_BACK)
            _console.print(f"of {len(every):,} where the target is at most 1 %, {back * 100:.2f} % were rolled back\n")
            if back > 0.01 + _CHANCE * (0.0099 / len(every)) ** 0.5:
                missed.append(f"{name}: {back * 100:.2f} % rolled back (most 1 %)")
    for each in missed:
        _console.print(each)
    if missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
