"""The clients of control calls: one for each engine, shared by the loops that ask it."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from gateway.backends.backend import Backend
from gateway.backends.roots import system_roots
from gateway.clock import Clock
from gateway.control import pacing
from gateway.wire.control_client import ControlClient


class EngineClients:
    """A client lasts for as long as some loop holds it, and closes its connection then."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._offset = rng.random()  # gateways that start together do not ask together
        self._clients: dict[Backend, ControlClient] = {}
        self._holders: dict[Backend, int] = {}

    def __repr__(self) -> str:
        return f"<EngineClients {len(self._clients)}>"

    def turn(self, backend: Backend) -> float:
        """Return when an engine is asked by this process, in seconds."""
        return pacing.turn(backend.id, len(self._clients)) + self._offset

    @contextmanager
    def held(self, backend: Backend) -> Iterator[ControlClient]:
        """Give the client of an engine for the length of a block."""
        spec = backend.spec
        if backend not in self._clients:
            tls = system_roots() if spec.tls else None
            self._clients[backend] = ControlClient(spec.host, spec.port, tls=tls, clock=self._clock)
        self._holders[backend] = self._holders.get(backend, 0) + 1
        try:
            yield self._clients[backend]
        finally:
            self._holders[backend] -= 1
            if not self._holders[backend]:
                del self._holders[backend]
                self._clients.pop(backend).close()
