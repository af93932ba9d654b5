"""The loop that warms backends of a candidate with synthetic requests, so that users meet no cold start."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import httpx

from gateway.backends.backend import Backend
from gateway.control.rollouts import RolloutController
from gateway.control.synthetic import answers, asking
from gateway.errors import ModelNotFound
from gateway.policy.canary.rollout import Phase
from gateway.proxy.current import CurrentTable

INTERVAL = 1.0
_WARMED = frozenset((Phase.WAITING, Phase.STEP, Phase.PAUSED))


class Warmer:
    """Asks every cold backend of a candidate something small, one request at a time each."""

    def __init__(self, rollouts: RolloutController, current: CurrentTable, leads: Callable[[], bool]) -> None:
        self._rollouts = rollouts
        self._current = current
        self._leads = leads
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Warm until cancelled."""
        async with asking(self._asking) as client:
            while True:
                await asyncio.sleep(INTERVAL)
                for model, backend, served in self._cold() if self._leads() else ():
                    if backend.id not in self._asking:
                        task = asyncio.create_task(self._warm(client, model, backend, served))
                        self._asking[backend.id] = task

    def _cold(self) -> Iterator[tuple[str, Backend, str]]:
        for running in self._rollouts:
            if running.rollout.phase in _WARMED:
                with contextlib.suppress(ModelNotFound, KeyError):
                    version = self._current.table.model(running.model).versions[running.plan.candidate]
                    for backend in version.backends:
                        is_ready = backend.readiness.state == "ready" and backend.serves(version.served_model)
                        if is_ready and running.warmth.answers(backend.id) < running.plan.warm_up:
                            yield running.model, backend, version.served_model

    async def _warm(self, client: httpx.AsyncClient, model: str, backend: Backend, served: str) -> None:
        try:
            running = self._rollouts.get(model)
            while running is not None and running.warmth.answers(backend.id) < running.plan.warm_up:
                if not await answers(client, backend, served):
                    return
                self._rollouts.warmed(model, backend.id)
                running = self._rollouts.get(model)
        except httpx.HTTPError:
            return
        finally:
            self._asking.pop(backend.id, None)
