"""What is known about one engine right now: connections, requests in flight, readiness. Kept over reloads."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import replace

from gateway.backends.exposed import EngineMetrics
from gateway.clock import Clock
from gateway.config.table import BackendSpec
from gateway.lateness import Lateness
from gateway.policy.routing import readiness
from gateway.policy.routing.health import Health
from gateway.policy.routing.readiness import Readiness
from gateway.wire.outbox import Outbox
from gateway.wire.pool import UpstreamPool

_log = logging.getLogger(__name__)
STALE_AFTER = 3.0


class Backend:
    """One engine. `models` are the names it serves with their context lengths in tokens, None while it has not told.

    `engine` is what its own metrics said at `engine_read` (seconds of the clock).
    """

    __slots__ = (
        "_clock",
        "_drained",
        "_eligible",
        "_readiness",
        "_silent_since",
        "authority",
        "authorization",
        "base_path",
        "engine",
        "engine_read",
        "health",
        "id",
        "lateness",
        "models",
        "pool",
        "progressed",
        "spec",
    )

    def __init__(self, spec: BackendSpec, health: Health, outbox: Outbox, clock: Clock, lateness: Lateness) -> None:
        self.id = spec.id
        self.spec = spec
        self.health = health
        self.lateness = lateness
        self._clock = clock
        self._silent_since = 0.0
        self._drained = False
        self._readiness = Readiness()
        self._eligible = self._readiness.eligible
        self.models: Mapping[str, int | None] | None = None
        self.engine: EngineMetrics | None = None
        self.engine_read = 0.0
        self.progressed = float("-inf")
        """When its metrics were last seen to change as those of an engine at work do."""
        tls = ssl.create_default_context() if spec.tls else None
        self.pool = UpstreamPool(spec.host, spec.port, tls=tls, outbox=outbox, clock=clock, lateness=self.lateness)
        self.authority = (
            f"{spec.host}:{spec.port}".encode()
            if ":" not in spec.host
            else b"[%b]:%d"
            % (
                spec.host.encode(),
                spec.port,
            )
        )
        self.base_path = spec.base_path.encode()
        self.authorization = b""
        self.follow(spec)

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.readiness.state} {self.in_flight} in flight>"

    def follow(self, spec: BackendSpec) -> None:
        """Take what a reload says of the same address; connections and requests in progress notice nothing."""
        self.spec = spec
        self.authorization = b"authorization: Bearer %b\r\n" % spec.api_key.encode() if spec.api_key else b""

    @property
    def in_flight(self) -> int:
        """Requests in progress there."""
        return self.health.slots.in_flight

    def told(self, engine: EngineMetrics, now: float) -> None:
        """Take what the engine says of itself; its queue belongs to what choosing weighs.

        A KV cache that cannot hold one request of the longest context is none that is counted in tokens.
        """
        context = max((each for each in (self.models or {}).values() if each is not None), default=0)
        if engine.kv_capacity is not None and engine.kv_capacity < context:
            engine = replace(engine, kv_capacity=None)
        if self.engine is not None and engine.progress != self.engine.progress:
            self.progressed = now
        self.engine, self.engine_read = engine, now
        self.health.latency.told(engine.waiting, now)

    def engine_now(self, now: float) -> EngineMetrics | None:
        """Return what the engine says of itself; None once that is 3 s old: stale means unknown."""
        return self.engine if now - self.engine_read <= STALE_AFTER else None

    def is_busy(self, now: float) -> bool:
        """Whether it is healthy and at work, so that its refusing more means that it has enough to do."""
        if self._readiness.state is not readiness.State.READY:
            return False
        activity, engine = self.health.activity, self.engine_now(now)
        if activity.works(now) or (engine is not None and engine.running):
            return True
        return self.health.slots.in_flight > 1 and activity.begins(now)

    def has_other_work(self, now: float) -> bool:
        """Whether it is at work on anything beside the one request that asks."""
        engine = self.engine_now(now)
        return self.in_flight > 1 or bool(engine is not None and (engine.running or engine.waiting))

    @property
    def readiness(self) -> Readiness:
        """Whether it can be reached and says that it can serve."""
        return self._readiness

    @readiness.setter
    def readiness(self, value: Readiness) -> None:
        """Log a change here, whatever found it."""
        before, self._readiness = self._readiness, value
        self._eligible = value.eligible and not self._drained
        if value.silent and not before.silent:
            self._silent_since = self._clock()
        if value.state is not before.state:
            level = logging.INFO if value.eligible else logging.WARNING
            _log.log(
                level, "backend %s", value.state.replace("_", " "), extra={"backend": self.id, "reason": value.reason}
            )

    def take_over(self, known: "Backend") -> None:
        """Begin with what is known of the same engine under other routes."""
        self._readiness, self.models = known.readiness, known.models
        self._silent_since = known._silent_since
        self._eligible = self._readiness.eligible and not self._drained

    @property
    def drained(self) -> bool:
        """Whether somebody wants it to get no new requests."""
        return self._drained

    @drained.setter
    def drained(self, value: bool) -> None:
        self._drained = value
        self._eligible = self._readiness.eligible and not value

    def serves(self, served_model: str) -> bool:
        """Whether a request for this model may be sent here."""
        return self._eligible and (self.models is None or served_model in self.models)

    def may_serve(self, served_model: str) -> bool:
        """Whether nothing is known against it but that it does not answer probes in time."""
        if self._drained or not (self._readiness.eligible or self._readiness.silent):
            return False
        return self.models is None or served_model in self.models

    @property
    def is_gone(self) -> bool:
        """Whether it can take no requests: it is not ready, and not just too slow for its probes while it works."""
        if self._readiness.eligible:
            return False
        return not (self._readiness.silent and self.health.activity.works_despite(self._silent_since, self._clock()))

    def still_serves(self, served_model: str) -> bool:
        """Whether requests for this model may be sent here as long as it works, although its probes have no answer."""
        return not self._readiness.eligible and not self.is_gone and self.may_serve(served_model)

    def context(self, served_model: str) -> int | None:
        """Return how many tokens a prompt of this model and its answer may have together; None while unknown."""
        return self.models.get(served_model) if self.models is not None else None

    def connected(self) -> None:
        """Learn that it took a connection."""
        self.readiness = readiness.connected(self.readiness)

    def connect_failed(self, detail: str) -> None:
        """Learn that it did not."""
        self.readiness = readiness.connect_failed(self.readiness, detail)
