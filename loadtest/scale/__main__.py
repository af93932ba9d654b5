"""`python -m loadtest.scale COMMAND`: what a gateway costs, and how late it gets, as its routes and traffic grow."""

import typer

from loadtest.scale.fleet import fleet
from loadtest.scale.idle import idle
from loadtest.scale.loop import loop

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
app.command()(idle)
app.command()(loop)
app.command()(fleet)


@app.callback()
def scale() -> None:
    """Measure one thing as it grows."""


if __name__ == "__main__":
    app()
