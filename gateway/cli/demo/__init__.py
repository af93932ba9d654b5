"""`tidegate demo`: engines, gateway and load on this machine, and what the gateway measures of them."""

from gateway.cli.demo.command import demo

__all__ = ["demo"]
