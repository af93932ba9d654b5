"""`python -m loadtest.pools cost|slow`: what CPUs beside GPUs save, and what becomes of a pool that is slow."""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from os import cpu_count
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtest.pools.world import EVERYTHING_ON_GPU, Bill, Fleet, Pools, Sent, bill
from loadtest.routing.world import Request

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console(width=140)
RATE = 27.0
FLEETS = (Fleet(1, 0, EVERYTHING_ON_GPU), Fleet(2, 0, EVERYTHING_ON_GPU), Fleet(1, 6))
TARGET = 0.99
HEALTHY, SICK, AFTER = 60.0, 180.0, 300.0

Seeds = Annotated[int, typer.Option(help="Runs of each fleet.")]


@app.command()
def cost(seeds: Seeds = 4) -> None:
    """Serve the same load with GPUs alone, and with CPUs beside one."""
    table = Table(title=f"{RATE:g} requests/s: half short, a fifth batch, the rest long", title_justify="left")
    for column in ("fleet", "price/h", "interactive met", "batch met", "on CPUs", "used/h"):
        table.add_column(column, justify="right")
    bills: dict[float, list[Bill]] = {}
    with ProcessPoolExecutor(cpu_count()) as pool:
        for fleet in FLEETS:
            found = bills[fleet.price] = list(pool.map(partial(bill, rate=RATE, fleet=fleet), range(1, seeds + 1)))
            table.add_row(
                f"{fleet.gpu} GPU" + (f" + {fleet.cpu} CPU" if fleet.cpu else ""),
                f"{fleet.price:.2f}",
                f"{median(each.interactive for each in found) * 100:.2f} %",
                f"{median(each.batch for each in found) * 100:.2f} %",
                f"{median(each.by_pool['cpu'] for each in found) * 100:.0f} %",
                f"{median(each.attributed for each in found):.2f}",
            )
    _console.print(table)
    _, everything, mixed = FLEETS
    saved = 1 - mixed.price / everything.price
    met = min(each.interactive for fleet in (everything, mixed) for each in bills[fleet.price])
    _console.print(
        f"{saved * 100:.0f} % cheaper (limit 20 %); the target of interactive is {TARGET:.0%}, {met:.2%} at worst"
    )
    if saved < 0.2 or met < TARGET:
        raise typer.Exit(1)


@app.command()
def slow(seed: int = 1) -> None:
    """Make one pool slow from 60 to 180 s: who goes where, and what of it met its objective."""
    for pool, factor in (("cpu", 5.0), ("gpu", 5.0)):
        world = Pools(seed, 12.0, Fleet(2, 6))
        world.at(HEALTHY, partial(world.slow, pool, factor))
        world.at(SICK, partial(world.slow, pool, 1.0))
        world.run(AFTER + 60.0)
        table = Table(title=f"{pool} {factor:g} times slower from {HEALTHY:g} to {SICK:g} s", title_justify="left")
        for column in ("seconds", "short on CPUs", "batch on CPUs", "long on CPUs", "interactive met"):
            table.add_column(column, justify="right")
        for since, until in pairwise((30.0, HEALTHY, 70.0, 80.0, 120.0, SICK, 200.0, 240.0, AFTER)):
            table.add_row(
                f"{since:g} to {until:g}",
                f"{world.share('cpu', since, until, _short) * 100:.0f} %",
                f"{world.share('cpu', since, until, _batch) * 100:.0f} %",
                f"{world.share('cpu', since, until, _long) * 100:.0f} %",
                f"{world.met(since, until) * 100:.1f} %",
            )
        _console.print(table)


def _short(request: Request, sent: Sent) -> bool:
    return request.prompt < 256 and sent.service_class != "batch"


def _batch(_: Request, sent: Sent) -> bool:
    return sent.service_class == "batch"


def _long(request: Request, _: Sent) -> bool:
    return request.prompt >= 256


if __name__ == "__main__":
    sys.exit(app())
