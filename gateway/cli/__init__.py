"""The `tidegate` command: one module per subcommand, put together here."""

import typer

from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.doctor import doctor
from gateway.cli.explain import explain
from gateway.cli.rules import rules
from gateway.cli.serve import serve
from gateway.cli.sim import sim

app = typer.Typer(name="tidegate", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(demo)
app.command()(serve)
app.command()(check)
app.command()(doctor)
app.command()(explain)
app.command()(rules)
app.command()(sim)


def main() -> None:
    """Entry point of the console script."""
    app()
