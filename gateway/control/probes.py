"""The loop that probes every backend about once a second."""

import asyncio
import logging

from gateway.backends import probe
from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock, until_next
from gateway.control.each_backend import for_each_backend
from gateway.control.engine_clients import EngineClients
from gateway.control.pacing import stretch
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.waking import Way
from gateway.proxy.hops import FIELD
from gateway.wire.control_client import ControlClient
from gateway.wire.control_connection import ControlError

_log = logging.getLogger(__name__)
INTERVAL = 1.0
TIMEOUT = 2.0


def polls_sleep(pool: PoolState | None) -> bool:
    """Whether the engines of a pool may sleep."""
    waking = None if pool is None else pool.waking
    return waking is not None and waking.settings.way is Way.ENGINES


async def look_at_sleep(client: ControlClient, backend: Backend) -> str:
    """See whether an engine sleeps, before it is sent anything; return why that is not known, "" where it is."""
    until = asyncio.get_running_loop().time() + TIMEOUT
    try:
        asleep = await probe.sleeps(client, backend, patience=TIMEOUT, until=until)
    except ControlError as error:
        return f"it does not say whether it sleeps: {error}"
    if backend.availability.sleep(asleep=asleep):
        _log.info("backend %s", "sleeps" if asleep else "is awake", extra={"backend": backend.id})
    return ""


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
                if (
                    result.failure is None
                    and polls_sleep(self._registry.pools.get(backend.spec.pool))
                    and (unknown := await look_at_sleep(client, backend))
                ):
                    result = probe.ProbeResult(unknown)
                probe.apply(backend, result)
                now = self._clock()
                backend.prune(now)
                await asyncio.sleep(until_next(now, self._interval, self._clients.turn(backend)))
