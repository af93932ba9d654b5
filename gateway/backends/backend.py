"""One engine: one object composed of parts, each written through its own methods alone. Kept over reloads."""

import logging
from collections.abc import Mapping

from gateway.backends.availability import Availability
from gateway.backends.engine_report import EngineReport
from gateway.backends.exposed import EngineMetrics
from gateway.backends.roots import system_roots
from gateway.clock import Clock
from gateway.config.addresses import authority
from gateway.config.table import BackendSpec
from gateway.lateness import Lateness
from gateway.policy.admission.limit import FIRST, MOST, AdaptiveLimit
from gateway.policy.routing import readiness
from gateway.policy.routing.health import Health
from gateway.policy.routing.readiness import Readiness
from gateway.wire.outbox import Outbox
from gateway.wire.pool import UpstreamPool

_log = logging.getLogger(__name__)


class Backend:
    """One engine. `health` is what requests are let in and routed by: slots, latency, symptoms and what follows.

    `availability` is whether it can be reached and serves, `engine` what its own metrics say, `limit` finds how many
    requests it bears at once, `pool` are the connections to it.
    """

    __slots__ = (
        "_clock",
        "authority",
        "authorization",
        "availability",
        "base_path",
        "engine",
        "health",
        "id",
        "lateness",
        "limit",
        "pool",
        "spec",
    )

    def __init__(self, spec: BackendSpec, health: Health, outbox: Outbox, clock: Clock, lateness: Lateness) -> None:
        self.id = spec.id
        self.spec = spec
        self.health = health
        self.availability = Availability(health.peers.changes)
        self.engine = EngineReport()
        self.limit = _limit(spec)
        self.lateness = lateness
        self._clock = clock
        tls = system_roots() if spec.tls else None
        self.pool = UpstreamPool(spec.host, spec.port, tls=tls, outbox=outbox, clock=clock, lateness=self.lateness)
        self.authority = authority(spec.host, spec.port).encode()
        self.base_path = spec.base_path.encode()
        self.authorization = b""
        self.follow(spec)

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.readiness.state} {self.in_flight} in flight>"

    def follow(self, spec: BackendSpec) -> None:
        """Take what a reload says of the same address; connections and requests in progress notice nothing."""
        if spec.max_concurrency != self.spec.max_concurrency:
            self.limit = _limit(spec)
        self.spec = spec
        self.availability.require_list(required=bool(spec.key))
        self.authorization = b"authorization: Bearer %b\r\n" % spec.api_key.encode() if spec.api_key else b""

    def take_over(self, known: "Backend") -> None:
        """Begin with what is known of the same engine under other routes."""
        self.availability.take_over(known.availability)
        if known.spec.max_concurrency == self.spec.max_concurrency:
            self.limit = known.limit

    @property
    def in_flight(self) -> int:
        """Requests of this process in progress there."""
        return self.health.slots.own

    def told(self, engine: EngineMetrics, now: float, *, every: float = 1.0) -> None:
        """Take what the engine says of itself, `every` so many seconds; its queue belongs to what choosing weighs."""
        self.engine.take(engine, (self.availability.models or {}).values(), now, every=every)
        self.health.latency.told(engine.waiting, now)

    def is_busy(self, now: float) -> bool:
        """Whether it is healthy and at work, so that its refusing more means that it has enough to do."""
        if self.readiness.state is not readiness.State.READY:
            return False
        activity, engine = self.health.activity, self.engine.fresh(now)
        if activity.works(now) or (engine is not None and engine.running):
            return True
        return self.health.slots.in_flight > 1 and activity.begins(now)

    def has_other_work(self, now: float) -> bool:
        """Whether it is at work on anything beside the one request that asks."""
        engine = self.engine.fresh(now)
        return self.health.slots.in_flight > 1 or bool(engine is not None and (engine.running or engine.waiting))

    @property
    def readiness(self) -> Readiness:
        """Whether it can be reached and says that it can serve."""
        return self.availability.readiness

    @property
    def is_steady(self) -> bool:
        """Whether its latest probe passed."""
        return self.readiness.state is readiness.State.READY and not self.readiness.failed_probes

    def learn(self, found: Readiness) -> None:
        """Take what a probe or a connect found, and log a change, whatever found it."""
        if self.availability.learn(found, self._clock()):
            level = logging.INFO if found.eligible else logging.WARNING
            state = found.state.replace("_", " ")
            _log.log(level, "backend %s", state, extra={"backend": self.id, "reason": found.reason})

    def connected(self) -> None:
        """Learn that it took a connection."""
        if self.readiness.failed_connects:
            self.learn(readiness.connected(self.readiness))

    def connect_failed(self, detail: str) -> None:
        """Learn that it did not."""
        self.learn(readiness.connect_failed(self.readiness, detail))

    @property
    def drained(self) -> bool:
        """Whether somebody wants it to get no new requests."""
        return self.availability.drained

    @property
    def leaving(self) -> bool:
        """Whether it gets no new requests because it is about to go, as those say who told of it."""
        return self.availability.leaving

    def prune(self, now: float) -> None:
        """Close connections that are of no more use: all that are idle, of one that gets no new requests."""
        if self.availability.leaving:
            self.pool.rest()
        self.pool.prune(now)

    @property
    def models(self) -> Mapping[str, int | None] | None:
        """The names it serves with their context lengths in tokens, None while it has not told."""
        return self.availability.models

    def serves(self, served_model: str) -> bool:
        """Whether a request for this model may be sent here."""
        return self.availability.serves(served_model)

    def may_serve(self, served_model: str) -> bool:
        """Whether nothing is known against it but that it does not answer probes in time."""
        return self.availability.may_serve(served_model)

    @property
    def is_gone(self) -> bool:
        """Whether it can take no requests: it is not ready, and not just too slow for its probes while it works."""
        if self.readiness.eligible:
            return False
        silence = self.availability.silent_since
        return not (self.readiness.silent and self.health.activity.works_despite(silence, self._clock()))

    def still_serves(self, served_model: str) -> bool:
        """Whether requests for this model may be sent here as long as it works, although its probes have no answer."""
        return not self.readiness.eligible and not self.is_gone and self.may_serve(served_model)

    def context(self, served_model: str) -> int | None:
        """Return how many tokens a prompt of this model and its answer may have together; None while unknown."""
        return self.availability.context(served_model)


def _limit(spec: BackendSpec) -> AdaptiveLimit:
    fixed = spec.max_concurrency
    return AdaptiveLimit(FIRST, most=MOST) if fixed is None else AdaptiveLimit(fixed, most=fixed)
