"""Backends as the registry makes them, without a registry."""

from gateway.backends.backend import Backend
from gateway.config.table import BackendSpec
from gateway.lateness import Lateness
from gateway.policy.routing.pool_state import PoolState
from gateway.wire.outbox import Outbox


def live_backend(spec: BackendSpec) -> Backend:
    """Return a backend alone in its pool, at a time that stands still."""
    peers = PoolState(spec.pool, 0.0)
    peers.follow([spec.id])
    return Backend(spec, peers.members[spec.id], Outbox(), lambda: 0.0, Lateness())
