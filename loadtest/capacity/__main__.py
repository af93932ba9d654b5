"""`python -m loadtest.capacity COMMAND`: what pools want and models get under real load, in virtual time."""

import typer

from loadtest.capacity.faro import faro
from loadtest.capacity.replay import replay

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
app.command()(replay)
app.command()(faro)


@app.callback()
def capacity() -> None:
    """Play one of them."""


if __name__ == "__main__":
    app()
