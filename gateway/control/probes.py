"""The loop that probes every backend about once a second."""

import asyncio

from gateway.backends import probe
from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock, until_next
from gateway.control.each_backend import for_each_backend
from gateway.control.engine_clients import EngineClients
from gateway.control.pacing import stretch
from gateway.proxy.hops import FIELD

INTERVAL = 1.0
TIMEOUT = 2.0


class Prober:
    """One task per backend, so that a slow engine delays no other's probes. Follows the registry's changes."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        clients: EngineClients,
        *,
        interval: float = INTERVAL,
        hops: bytes = b"",
    ) -> None:
        """`hops` is this gateway's own name, by which it knows a backend that is itself."""
        self._registry = registry
        self._clock = clock
        self._clients = clients
        self._interval = interval
        self._fields = b"%b: %b\r\n" % (FIELD, hops) if hops else b""

    async def run(self) -> None:
        """Probe until cancelled."""
        await for_each_backend(self._registry.watched, self._watch, "probe", every=self._interval / 4)

    async def _watch(self, backend: Backend) -> None:
        probes, loop = 0, asyncio.get_running_loop()
        with self._clients.held(backend) as client:
            while True:
                began, probes = self._clock(), probes + 1
                result = await probe.probe(
                    client,
                    backend,
                    models=not backend.is_steady or not probes % stretch(len(self._registry)),
                    patience=TIMEOUT,
                    until=loop.time() + 2 * TIMEOUT,
                    fields=self._fields,
                )
                if result.silent and backend.lateness.excuse(began, self._clock()):
                    continue  # this process was late: the probe's timer says nothing
                probe.apply(backend, result)
                now = self._clock()
                backend.prune(now)
                await asyncio.sleep(until_next(now, self._interval, self._clients.turn(backend)))
