"""The loop that warms new engines with synthetic requests, while others carry the load."""

import asyncio
import logging

import httpx

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.control.synthetic import answers, asking
from gateway.proxy.current import CurrentTable

_log = logging.getLogger(__name__)
LOOK = 0.25
LONGEST = 120.0
"""Seconds after which an engine gets its share however it answered: from then on users' requests judge it."""
_PAUSE = 0.5


class PreWarmer:
    """Asks every engine that is to be warmed, once its probes pass, and has it get its share then."""

    def __init__(self, registry: Registry, current: CurrentTable, clock: Clock) -> None:
        self._registry = registry
        self._current = current
        self._clock = clock
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Warm until cancelled."""
        async with asking(self._asking) as client:
            while True:
                self.look(client)
                await asyncio.sleep(LOOK)

    def look(self, client: httpx.AsyncClient) -> None:
        """See who is to be warmed; an engine that no other stands in for gets requests at once."""
        for backend in self._registry:
            if not backend.availability.warming or backend.readiness.state != "ready":
                continue
            if backend.availability.is_withheld:
                continue  # a request would kill an engine that sleeps
            peers = (each for each in self._registry if each.spec.pool == backend.spec.pool and each is not backend)
            if not any(each.availability.eligible for each in peers):
                backend.availability.warm(warming=False)
            elif backend.id not in self._asking:
                self._asking[backend.id] = asyncio.create_task(self._warm(client, backend))

    async def _warm(self, client: httpx.AsyncClient, backend: Backend) -> None:
        began, answered = self._clock(), 0
        try:
            while backend.availability.warming and answered < backend.spec.pre_warm:
                if backend.availability.is_withheld:
                    return
                if await self._answers(client, backend):
                    answered += 1
                elif self._clock() - began > LONGEST:
                    break
                else:
                    await asyncio.sleep(_PAUSE)
            _log.info("backend warmed", extra={"backend": backend.id, "answers": answered})
            backend.availability.warm(warming=False)
        finally:
            self._asking.pop(backend.id, None)

    async def _answers(self, client: httpx.AsyncClient, backend: Backend) -> bool:
        try:
            return await answers(client, backend, self._served(backend))
        except httpx.HTTPError:
            return False

    def _served(self, backend: Backend) -> str:
        """Return a model that it is sent requests for."""
        for model in self._current.table:
            for version in model.versions.values():
                if backend in version.backends and backend.may_serve(version.served_model):
                    return version.served_model
        return next(iter(backend.models or ()), "")
