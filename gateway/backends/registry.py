"""All backends by identity, reconciled with the routes at every reload."""

import logging
from collections.abc import Iterator

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.config.table import BackendSpec, RouteTable
from gateway.lateness import Lateness
from gateway.policy.routing.pool_state import PoolState
from gateway.wire.outbox import Outbox

_log = logging.getLogger(__name__)


class Registry:
    """Holds one `Backend` per identity. A backend that stays in the routes keeps its connections and its state.

    `pools` are the backends of each pool as routing compares them, `drained` the ids of those that get no requests,
    whether the routes name them at the moment or not; `lateness` is this process' own.
    """

    def __init__(self, outbox: Outbox, clock: Clock, lateness: Lateness) -> None:
        self._outbox = outbox
        self.lateness = lateness
        self._clock = clock
        self._backends: dict[str, Backend] = {}
        self._leaving: set[Backend] = set()
        self.pools: dict[str, PoolState] = {}
        self.drained: set[str] = set()

    def __repr__(self) -> str:
        return f"<Registry {' '.join(map(repr, self._backends.values()))}>"

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def __len__(self) -> int:
        return len(self._backends)

    def watched(self) -> set[Backend]:
        """Return every backend that is probed: those that left the routes too, until their last request has ended."""
        self._leaving = {backend for backend in self._leaving if backend.in_flight}
        return {*self._backends.values(), *self._leaving}

    def __getitem__(self, backend_id: str) -> Backend:
        return self._backends[backend_id]

    def reconcile(self, table: RouteTable) -> None:
        """Make backends for new identities and let go of those no longer named; their open streams finish."""
        self.pools = {name: self.pools.get(name) or PoolState(name, self._clock()) for name in table.pools}
        for name, pool in table.pools.items():
            identities = [spec.id for spec in pool.backends]
            self.pools[name].follow(identities, cost_per_hour=pool.cost_per_hour, thresholds=pool.outlier_detection)
        wanted: dict[str, BackendSpec] = {spec.id: spec for pool in table.pools.values() for spec in pool.backends}
        for gone in self._backends.keys() - wanted.keys():
            self._leaving.add(self._backends[gone])
            self._backends.pop(gone).pool.close()
            _log.info("backend removed", extra={"backend": gone})
        for identity, spec in wanted.items():
            known = self._backends.get(identity)
            if known is not None and known.spec.tls is spec.tls:
                known.follow(spec)
                continue
            if known is not None:
                known.pool.close()
            self._backends[identity] = self._renewed(known, spec)

    def drain(self, backend_id: str, *, drained: bool) -> None:
        """Send a backend no new requests, or send it some again."""
        if drained:
            self.drained.add(backend_id)
        else:
            self.drained.discard(backend_id)
        if backend_id in self._backends:
            self._backends[backend_id].availability.drain(drained=drained)

    def close(self) -> None:
        """Close every idle connection."""
        for backend in self._backends.values():
            backend.pool.close()

    def _renewed(self, known: Backend | None, spec: BackendSpec) -> Backend:
        health = self.pools[spec.pool].members[spec.id]
        fresh = Backend(spec, health, self._outbox, self._clock, self.lateness)
        fresh.availability.drain(drained=spec.id in self.drained)
        if known is None:
            _log.info("backend added", extra={"backend": spec.id})
        else:
            fresh.take_over(known)
        return fresh
