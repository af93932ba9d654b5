"""One version of a model with the backends of its pools, and the ways that its requests may go."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.backends.backend import Backend
from gateway.claim import Claim
from gateway.config.table import VersionSpec
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.pools import PoolProbe
from gateway.policy.routing.waking import Waking
from gateway.policy.slo.objective import Objective
from gateway.proxy.admission_queue import AdmissionQueue

LONGEST_CONTEXT: Final = 1 << 24
"""Tokens of a prompt and its answer, where no engine says how many a model takes: more than any does."""
SMALL: Final = 512
"""Tokens that fit the context of every model: the usual request asks no backend about it."""


class LivePool:
    """A pool as one route uses it; `trials` by objective, since a pool that is too slow for one may do for another."""

    __slots__ = ("peers", "trials")

    def __init__(self, peers: PoolState, objectives: Iterable[Objective]) -> None:
        self.peers = peers
        self.trials = {each.name: PoolProbe() for each in objectives}

    def __repr__(self) -> str:
        return f"<LivePool {self.peers.pool} {self.trials}>"


class LiveRoute:
    """The pools that some requests for a version may use, in order, and where they wait for a slot there.

    `cheapest` says that no rule gave the order: the cheapest comes first. `spill_at` is a burn rate.
    """

    __slots__ = ("_changes", "_ready", "_served_model", "_until", "backends", "cheapest", "line", "pools", "spill_at")

    def __init__(
        self,
        pools: Sequence[LivePool],
        backends: tuple[Backend, ...],
        line: AdmissionQueue,
        spill_at: float,
        *,
        cheapest: bool,
    ) -> None:
        self.pools = pools
        self.backends = backends
        self.line = line
        self.spill_at = spill_at
        self.cheapest = cheapest
        self._changes = [pool.peers.changes for pool in pools]
        self._until = -1
        self._served_model = ""
        self._ready: list[Backend] = []

    def ready(self, served_model: str) -> list[Backend]:
        """Return the backends that may be sent requests for this model: the same list as long as they are the same."""
        changes = 0
        for each in self._changes:
            changes += each.count
        if changes != self._until or served_model is not self._served_model:
            self._ready = [backend for backend in self.backends if backend.serves(served_model)]
            self._until, self._served_model = changes, served_model
        return self._ready

    def __repr__(self) -> str:
        return f"<LiveRoute {' '.join(pool.peers.pool for pool in self.pools)}>"

    @property
    def waking(self) -> Waking | None:
        """What holds requests while no backend is ready: that of the first of its pools that scales from zero."""
        for pool in self.pools:
            if pool.peers.waking is not None:
                return pool.peers.waking
        return None

    @property
    def discovery(self) -> str:
        """Say where backends of its pools are found, and what was, after a colon; "" where the routes name all."""
        words = [pool.peers.discovery for pool in self.pools if pool.peers.discovery]
        return f": {'; '.join(words)}" if words else ""


class LiveVersion:
    """One version of a model with the backends of its pools; `routes` are one for each rule, then that of the rest."""

    __slots__ = ("backends", "by_priority", "labels", "lines", "name", "routes", "served_json", "served_model")

    def __init__(self, spec: VersionSpec, backends: tuple[Backend, ...], routes: Sequence[LiveRoute]) -> None:
        self.name = spec.name
        self.routes = routes
        self.lines: Sequence[AdmissionQueue] = list(dict.fromkeys(route.line for route in routes))
        self.by_priority = any(backend.spec.priority_scheduling for backend in backends)
        self.served_model = spec.served_model
        self.served_json = msgspec.json.encode(spec.served_model)
        self.backends = backends
        self.labels: Mapping[str, bytes] = {
            backend.id: b"x-gateway-backend: %b\r\nx-gateway-pool: %b\r\nx-gateway-version: %b\r\n"
            % (backend.id.encode(), backend.spec.pool.encode(), spec.name.encode())
            for backend in backends
        }

    def __repr__(self) -> str:
        return f"<LiveVersion {self.name} of {len(self.backends)} backends>"

    def pin(self, claim: Claim, backend: Backend) -> LiveRoute:
        """Let a request use the slots of one backend alone, which keeps what it goes on from; return its way there."""
        claim.only = backend.health
        usual = self.routes[-1]
        pools = [pool for pool in usual.pools if pool.peers.pool == backend.spec.pool]
        return LiveRoute(pools, (backend,), usual.line, usual.spill_at, cheapest=usual.cheapest)

    @property
    def context(self) -> int:
        """How many tokens a prompt and its answer may have together, at the most generous backend."""
        return max((b.context(self.served_model) or LONGEST_CONTEXT for b in self.backends), default=LONGEST_CONTEXT)

    def capped(self, tokens: int, prompts: int = 1) -> int:
        """Return so many tokens, or as many as each prompt may have: nothing costs more than the model's context."""
        return tokens if tokens <= SMALL else min(tokens, prompts * self.context)

    @property
    def is_served(self) -> bool:
        """Whether some backend could be sent a request for it, or is at work on some although its probes time out."""
        return self.has_ready or any(backend.still_serves(self.served_model) for backend in self.backends)

    @property
    def has_ready(self) -> bool:
        """Whether some backend is not known to be unready."""
        return any(backend.serves(self.served_model) for backend in self.backends)

    @property
    def is_lost(self) -> bool:
        """Whether every backend is known not to serve: none is only drained, asleep, or too slow for its probes."""
        return not any(
            each.drained
            or each.availability.asleep
            or each.availability.warming
            or each.serves(self.served_model)
            or each.readiness.silent
            for each in self.backends
        )

    @property
    def may_serve(self) -> bool:
        """Whether some backend may be sent a request for it: also one that is only too slow for its probes."""
        return any(backend.may_serve(self.served_model) for backend in self.backends)

    @property
    def is_ready(self) -> bool:
        """Whether some backend is known to be ready for it."""
        return any(each.readiness.state == "ready" and each.serves(self.served_model) for each in self.backends)
