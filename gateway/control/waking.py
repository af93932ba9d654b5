"""The loop that has an engine woken for pools without one, whose requests wait: one wake, however many they are."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from gateway.backends import probe
from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.control.engine_clients import EngineClients
from gateway.control.probes import look_at_sleep
from gateway.policy.routing.waking import Waking, Way

_log = logging.getLogger(__name__)
LOOK = 0.25
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between two tries of one wake; the last is repeated."""
TIMEOUT = 10.0
"""Seconds that a webhook has to answer."""
PATIENCE = 15.0
"""Seconds after which the next engine that sleeps is asked to wake up, if there is one."""


class Waker:
    """Has engines woken for the pools whose requests are held.

    A process that is not `alone` leaves that to one of those that share the work: it is told which pools any of them
    wants woken. `results` counts by pool what became of asking for an engine.
    """

    def __init__(
        self,
        registry: Registry,
        clients: EngineClients,
        clock: Clock,
        epoch: Clock,
        *,
        alone: bool,
        patience: float = PATIENCE,
    ) -> None:
        """Give an engine `patience` seconds to wake up before the next one is asked."""
        self._patience = patience
        self._registry = registry
        self._clients = clients
        self._clock = clock
        self._epoch = epoch
        self._alone = alone
        self._told: frozenset[str] = frozenset()
        self._wanting: frozenset[str] = frozenset()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._woken: set[str] = set()
        self.results: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<Waker, wanted {sorted(self.wanted)}>"

    @property
    def wanting(self) -> frozenset[str]:
        """The pools whose requests this process holds."""
        return self._wanting

    @property
    def wanted(self) -> frozenset[str]:
        """The pools for which this process has an engine woken."""
        return self._wanting if self._alone else self._told

    def wants(self, pool: str) -> int:
        """Return how many engines a pool wants for those that are held: one, or none in particular."""
        return int(pool in self.wanted)

    def told(self, pools: Iterable[str]) -> None:
        """Learn which pools are wanted, of all processes that share the work; those of this one are among them."""
        self._told = frozenset(pools)

    async def run(self) -> None:
        """Wake until cancelled."""
        # Proxies named by the environment are for people's browsers; a redirect could lead anywhere.
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=False) as web:
            try:
                while True:
                    self.look(web)
                    await asyncio.sleep(LOOK)
            finally:
                for task in self._asking.values():
                    task.cancel()
                self._asking.clear()

    def look(self, web: httpx.AsyncClient) -> None:
        """See which pools need an engine, and have those woken that are not being woken already."""
        now = self._clock()
        self._wanting = frozenset(
            name
            for name, waking in self._scaling()
            if waking.tick(now, ready=any(each.availability.eligible for each in self._backends(name)))
        )
        wanted = self.wanted
        for name in self._asking.keys() - wanted:
            self._asking.pop(name).cancel()
        self._woken &= wanted
        for name, waking in self._scaling():
            if name in wanted and name not in self._woken:
                self._woken.add(name)
                _log.info("an engine is wanted", extra={"pool": name, "held": waking.held, "way": waking.settings.way})
                self._asking[name] = asyncio.create_task(self._wake(web, name, waking))

    def _scaling(self) -> Iterator[tuple[str, Waking]]:
        for name, pool in self._registry.pools.items():
            if pool.waking is not None:
                yield name, pool.waking

    def _backends(self, pool: str) -> list[Backend]:
        return [backend for backend in self._registry if backend.spec.pool == pool]

    async def _wake(self, web: httpx.AsyncClient, pool: str, waking: Waking) -> None:
        """Ask for an engine until that has been heard, or none is wanted any more."""
        way = waking.settings.way
        if way is Way.CAPACITY:
            self.results[pool, "wanted"] += 1
            return
        tries = 0
        while True:
            why = await (self._post(web, pool, waking) if way is Way.WEBHOOK else self._wake_one(pool, waking))
            self.results[pool, "failed" if why else "woken"] += 1
            if why:
                _log.warning("an engine could not be woken, and will be tried again", extra={"pool": pool, "why": why})
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
                continue
            await asyncio.sleep(waking.settings.hold)  # then it was in vain
            tries = 0

    async def _post(self, web: httpx.AsyncClient, pool: str, waking: Waking) -> str:
        """Tell the webhook; return why it has not heard. Its URL may hold a secret: it is in no log."""
        body = _message(pool, self._epoch())
        try:
            async with asyncio.timeout(TIMEOUT), web.stream("POST", waking.settings.webhook, json=body) as answer:
                return "" if 200 <= answer.status_code < 300 else f"the webhook answers {answer.status_code}"
        except Exception as error:  # noqa: BLE001 - also what httpx says of a URL that is none
            return f"the webhook cannot be reached: {type(error).__name__}"

    async def _wake_one(self, pool: str, waking: Waking) -> str:
        """Wake the first engine that sleeps, that one before others which requests need; return why none is awake."""
        asleep = [
            each
            for each in self._backends(pool)
            if each.availability.asleep and each.readiness.eligible and not (each.drained or each.leaving)
        ]
        asleep.sort(key=lambda each: each.id != waking.preferred)
        why = "no engine that answers its probes sleeps"
        for backend in asleep:
            patience = waking.settings.hold if backend is asleep[-1] else min(self._patience, waking.settings.hold)
            until = asyncio.get_running_loop().time() + patience
            with self._clients.held(backend) as client:
                why = await probe.wake_up(client, backend, patience=patience, until=until)
                if not why:
                    why = await look_at_sleep(client, backend)
            if not why and not backend.availability.asleep:
                return ""
            why = f"{backend.id}: {why or 'it still sleeps'}"
        return why


def _message(pool: str, now: float) -> Mapping[str, Any]:
    """Return what a webhook is told."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event": "wake", "pool": pool, "want": 1, "at": at}
