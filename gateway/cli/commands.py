"""The `tidegate` command: one module per subcommand, put together here."""

from importlib.metadata import version
from typing import Annotated

import typer

from gateway import native
from gateway.cli.canary import app as canary
from gateway.cli.capacity import app as capacity
from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.doctor import doctor
from gateway.cli.explain import explain
from gateway.cli.gate import gate
from gateway.cli.operations import audit, deploy, deployments, drain, stage, undrain
from gateway.cli.rules import rules
from gateway.cli.scaler import scaler
from gateway.cli.serve import serve
from gateway.cli.sim import sim
from gateway.cli.slo import app as slo
from gateway.cli.status import status
from gateway.cli.upgrade import upgrade

app = typer.Typer(
    name="tidegate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options off at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},  # subcommands inherit it
)
app.command()(demo)
app.command()(serve)
app.command()(check)
app.command()(doctor)
app.command()(explain)
app.command()(status)
app.add_typer(slo, name="slo")
app.add_typer(canary, name="canary")
app.command()(gate)
app.add_typer(capacity, name="capacity")
app.command()(drain)
app.command()(undrain)
app.command()(deploy)
app.command()(stage)
app.command()(deployments)
app.command()(audit)
app.command()(scaler)
app.command()(upgrade)
app.command()(rules)
app.command()(sim)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidegate {version('tidegate')} ({native.running()})")
        raise typer.Exit


@app.callback()
def tidegate(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Run and inspect the gateway in front of vLLM, which measures what users experience and acts on it."""
