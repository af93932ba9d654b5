"""`tidegate doctor`: asks every backend of the routes what it serves, and whether its metrics are what rules need."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.doctor.ask import Checkup, check_all
from gateway.doctor.checkup import Level

_WIDTH_IN_FILES = 160


def doctor(
    routes: Annotated[Path, typer.Argument(metavar="ROUTES", help="Route file, or a folder of them.", exists=True)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Ask each backend what it serves and which metrics it has.

    It also says which buckets of histograms rules from the engines' metrics lack. This costs no tokens.

    The exit code is 1 if a backend cannot serve what the routes say, and 0 if there are only warnings.
    """
    try:
        table = load_routes(routes)
    except RoutesError as error:
        typer.echo(f"{error}\n{error.summary}", err=True)
        raise typer.Exit(1) from None
    checkups = asyncio.run(check_all(table))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in checkups], indent=2))
    else:
        _print(checkups, [pool.name for pool in table.pools.values() if pool.discovered])
    if any(finding.level is Level.PROBLEM for each in checkups for finding in each.findings):
        raise typer.Exit(1)


def _print(checkups: list[Checkup], open_pools: list[str]) -> None:
    """Print what is found; the backends of `open_pools` are looked up, so that only a running gateway knows them."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("backend", "", "found", "how to fix it"):
        table.add_column(column, overflow="fold")
    for each in checkups:
        name = each.backend
        for finding in each.findings:
            table.add_row(Text(name), Text(finding.level), Text(finding.what), Text(finding.hint))
            name = ""
    if table.row_count:
        console.print(table)
    if open_pools:
        names = ", ".join(sorted(open_pools))
        words = f"not asked: the backends that the gateway finds itself, for {names} (see `tidegate status`)"
        console.print(Text(words), soft_wrap=True)
