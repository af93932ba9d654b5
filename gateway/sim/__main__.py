"""`python -m gateway.sim`: the same as `tidegate sim`."""

import typer

from gateway.sim.command import sim

if __name__ == "__main__":
    typer.run(sim)
