"""The command: its options, and what they mean."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli.demo import stage
from gateway.cli.demo.performance import NotAsTold, NothingServed, Performance
from gateway.cli.demo.setting import PLAIN, ROLLOUT
from gateway.cli.demo.tour.setting import TOUR
from gateway.processes.child import ProcessDied


def demo(
    *,
    seconds: Annotated[float | None, typer.Option(min=1, help="Seconds to run; by default until Ctrl-C.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 for any free one.")] = 0,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Admin port; 0 for any free one.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No tour: a light load, and the table.")] = False,
    canary: Annotated[
        bool,
        typer.Option("--canary", help="No tour: roll out a second version step by step, in about three minutes."),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=200,
            help="Average requests per second: 6 with --quiet, 12 with --canary. The tour has its own.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the requests and of the engines' answers.")] = 0,
    plain: Annotated[bool, typer.Option(help="Print a line every 5 s instead of a live table.")] = False,
) -> None:
    """Show in a tour how the gateway handles faults and overload.

    Simulated engines, the gateway and the load all run on this machine. The tour takes about two minutes: an engine
    that fails, an overload, a bad and a good new version. All numbers are what the gateway measures. Exits with 1 if
    something did not happen as told.
    """
    setting = ROLLOUT if canary else PLAIN if quiet else TOUR
    if rate is not None and setting is TOUR:
        raise typer.BadParameter("the tour has its own load; add --quiet or --canary", param_hint="--rate")
    console = Console(highlight=False)
    performance = Performance(
        console, setting, rate=rate or setting.rate, seed=seed, plain=plain or not console.is_terminal
    )
    try:
        stage.claim(port, admin_port)
        asyncio.run(performance.play(seconds, port=port, admin_port=admin_port))
    except (stage.PortTaken, ProcessDied, NothingServed, NotAsTold) as error:
        typer.echo(f"tidegate demo: {error}", err=True)
        raise typer.Exit(1) from None
