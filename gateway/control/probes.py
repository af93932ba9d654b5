"""The loop that probes every backend about once a second."""

import asyncio
from functools import partial
from random import Random

import httpx

from gateway.backends import probe
from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.control.each_backend import for_each_backend
from gateway.proxy.hops import FIELD

INTERVAL = 1.0
TIMEOUT = 2.0
_JITTER = 0.1


class Prober:
    """One task per backend, so that a slow engine delays no other's probes. Follows the registry's changes."""

    def __init__(
        self, registry: Registry, clock: Clock, rng: Random, interval: float = INTERVAL, hops: bytes = b""
    ) -> None:
        """`hops` is this gateway's own name, by which it knows a backend that is itself."""
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._interval = interval
        self._fields = {FIELD.decode(): hops.decode()} if hops else {}

    async def run(self) -> None:
        """Probe until cancelled."""
        # Proxies named by the environment are for people's browsers, not for engines.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(
            timeout=TIMEOUT, trust_env=False, limits=limits, verify=probe.system_roots(), headers=self._fields
        ) as client:
            watch = partial(self._watch, client)
            await for_each_backend(self._registry.watched, watch, "probe", every=self._interval / 4)

    async def _watch(self, client: httpx.AsyncClient, backend: Backend) -> None:
        while True:
            began = self._clock()
            try:
                async with asyncio.timeout(2 * TIMEOUT):
                    result = await probe.probe(client, backend)
            except TimeoutError:
                result = probe.SILENT
            if result.silent and backend.lateness.excuse(began, self._clock()):
                continue  # this process was late: the probe's timer says nothing
            probe.apply(backend, result)
            backend.pool.prune(self._clock())
            await asyncio.sleep(self._interval * self._rng.uniform(1 - _JITTER, 1 + _JITTER))
