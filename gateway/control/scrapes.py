"""The loop that reads every engine's own metrics about once a second. What it finds is a hint, never a condition."""

import asyncio
from functools import partial
from random import Random

import httpx

from gateway.backends.backend import Backend
from gateway.backends.probe import system_roots
from gateway.backends.registry import Registry
from gateway.backends.scrape import scrape
from gateway.clock import Clock
from gateway.control.each_backend import for_each_backend

INTERVAL = 1.0
TIMEOUT = 2.0
_WITHOUT_METRICS = 30.0
_JITTER = 0.1


class Scraper:
    """Reads one backend at a time of each; one without metrics is asked more seldom."""

    def __init__(self, registry: Registry, clock: Clock, rng: Random, interval: float = INTERVAL) -> None:
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._interval = interval

    async def run(self) -> None:
        """Read until cancelled."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, limits=limits, verify=system_roots()) as client:
            await for_each_backend(lambda: self._registry, partial(self._watch, client), "scrape")

    async def _watch(self, client: httpx.AsyncClient, backend: Backend) -> None:
        misses = 0
        while True:
            try:
                async with asyncio.timeout(2 * TIMEOUT):
                    found = await scrape(client, backend.spec)
            except TimeoutError:
                found = None
            if found is not None:
                backend.told(found, self._clock())
            misses = 0 if found is not None else misses + 1
            pause = self._interval if misses < 3 else min(_WITHOUT_METRICS, self._interval * misses)
            await asyncio.sleep(pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER))
