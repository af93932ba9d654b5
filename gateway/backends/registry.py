"""All backends by identity, reconciled with the routes at every reload."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.config.table import BackendSpec, RouteTable
from gateway.lateness import Lateness
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.waking import Way
from gateway.wire.outbox import Outbox

_log = logging.getLogger(__name__)
SETTLED: Final = 60.0
"""Seconds from the start in which every engine is taken for one that has been at work before."""


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
        self._began = clock()
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

    def prepare(self, table: RouteTable) -> "Reconciled":
        """Return the backends and pools that other routes name: those that are known, and new ones."""
        pools = {name: self.pools.get(name) or PoolState(name, self._clock()) for name in table.pools}
        backends: dict[str, Backend] = {}
        for name, pool in table.pools.items():
            for spec in pool.backends:
                known = self._backends.get(spec.id)
                is_another = known is not None and _is_another(known.spec, spec)
                if known is None or is_another or known.spec.tls is not spec.tls:
                    health = None if is_another else pools[name].members.get(spec.id)
                    health = health or Health(spec.id, pools[name])
                    if is_another:
                        health.symptoms.began_anew(self._clock())
                    known = Backend(spec, health, self._outbox, self._clock, self.lateness)
                backends[spec.id] = known
        return Reconciled(table, pools, backends)

    def reconcile(self, table: RouteTable) -> None:
        """Make backends for new identities and let go of those no longer named; their open streams finish."""
        self.adopt(self.prepare(table))

    def adopt(self, prepared: "Reconciled") -> None:
        """Hold from now on what was prepared."""
        self.pools = prepared.pools
        for name, pool in prepared.table.pools.items():
            healths = {spec.id: prepared.backends[spec.id].health for spec in pool.backends}
            cost, thresholds = pool.cost_per_hour, pool.outlier_detection
            self.pools[name].follow(
                healths,
                cost_per_hour=cost,
                thresholds=thresholds,
                prepared=healths,
                scale_from_zero=pool.scale_from_zero,
            )
        for gone in self._backends.keys() - prepared.backends.keys():
            self._leaving.add(self._backends[gone])
            self._backends.pop(gone).pool.close()
            _log.info("backend removed", extra={"backend": gone})
        for pool in prepared.table.pools.values():
            for spec in pool.backends:
                self._hold(prepared.backends[spec.id], spec)

    def _hold(self, backend: Backend, spec: BackendSpec) -> None:
        known = self._backends.get(spec.id)
        waking = self.pools[spec.pool].waking
        backend.availability.require_probe(required=waking is not None)
        if waking is None or waking.settings.way is not Way.ENGINES:
            backend.availability.sleep(asleep=False)  # nothing asks it any more
        if known is backend:
            if spec.leaving is not backend.spec.leaving:
                backend.availability.leave(leaving=spec.leaving)
                _log.info("backend %s", "leaves" if spec.leaving else "stays", extra={"backend": spec.id})
            backend.follow(spec)
            return
        backend.availability.drain(drained=spec.id in self.drained)
        backend.availability.leave(leaving=spec.leaving)
        if known is None or _is_another(known.spec, spec):
            backend.availability.warm(warming=spec.pre_warm > 0 and self._clock() - self._began > SETTLED)
        if known is None:
            _log.info("backend added", extra={"backend": spec.id})
        else:
            known.pool.close()
            if _is_another(known.spec, spec):
                _log.info("backend replaced by another at its address", extra={"backend": spec.id})
                self._leaving.add(known)
            else:
                backend.take_over(known)
        self._backends[spec.id] = backend

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


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The pools and backends that some routes name, by their names, before the registry holds them."""

    table: RouteTable
    pools: dict[str, PoolState]
    backends: dict[str, Backend]


def _is_another(known: BackendSpec, spec: BackendSpec) -> bool:
    """Whether another engine has the same address now, as its origin tells."""
    return bool(known.key and spec.key) and known.key != spec.key
