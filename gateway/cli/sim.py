"""`tidegate sim`: one simulated vLLM server."""

from gateway.sim.command import sim

__all__ = ["sim"]
