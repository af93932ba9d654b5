"""The loop that reads every engine's own metrics every few seconds. What it finds is a hint, never a condition."""

import asyncio
from collections.abc import Callable

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.backends.scrape import scrape
from gateway.clock import Clock, until_next
from gateway.control.each_backend import for_each_backend
from gateway.control.engine_clients import EngineClients
from gateway.control.pacing import stretch
from gateway.policy.capacity.signals import SignalMap

INTERVAL = 1.0
TIMEOUT = 2.0
_WITHOUT_METRICS = 30.0


class Scraper:
    """Reads one backend at a time of each; one without metrics is asked more seldom."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        clients: EngineClients,
        *,
        interval: float | None = None,
        signals: Callable[[str], SignalMap | None] = lambda _: None,
    ) -> None:
        """Without an `interval`, the number of backends says how often each is read.

        `signals` tells of a pool which metrics say how much its engines have to do, None where nobody wants to know.
        """
        self._signals = signals
        self._registry = registry
        self._clock = clock
        self._clients = clients
        self._given = interval

    async def run(self) -> None:
        """Read until cancelled."""
        await for_each_backend(lambda: self._registry, self._watch, "scrape")

    @property
    def interval(self) -> float:
        """Seconds from one reading of a backend to the next."""
        return INTERVAL * stretch(len(self._registry)) if self._given is None else self._given

    async def _watch(self, backend: Backend) -> None:
        # Half an interval after its probe, so that both can use one connection.
        shortest, misses = self._given or INTERVAL, 0
        later, loop = shortest / 2, asyncio.get_running_loop()
        with self._clients.held(backend) as client:
            await asyncio.sleep(until_next(self._clock(), shortest, self._clients.turn(backend) + later) - later)
            while True:
                interval = self.interval
                signals, until = self._signals(backend.spec.pool), loop.time() + 2 * TIMEOUT
                found, load = await scrape(client, backend, patience=TIMEOUT, until=until, signals=signals)
                if found is not None:
                    backend.told(found, self._clock(), every=interval)
                if load is not None:
                    backend.engine.take_load(load, self._clock(), every=interval)
                misses = misses + 1 if found is None and load is None else 0
                pause = interval if misses < 3 else min(_WITHOUT_METRICS, interval * misses)
                await asyncio.sleep(until_next(self._clock(), pause, self._clients.turn(backend) + later))
