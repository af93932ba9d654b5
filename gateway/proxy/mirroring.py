"""Copies of requests for a candidate: their answers are measured and thrown away, and they delay no request."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Final

from gateway.backends.backend import Backend
from gateway.claim import Claim
from gateway.config.table import TenantSpec
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import Observer, Observers
from gateway.policy.admission.quota import Quota
from gateway.proxy.engine_request import EngineRequest
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.request_ids import RequestIds
from gateway.proxy.request_lifecycle import RequestLifecycle
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.proxy.tenants import LiveTenant
from gateway.wire.body import Body
from gateway.wire.service import Writer

MOST: Final = 64
"""Copies in progress at once; a copy too many is not made."""


class Discarding(Writer):
    """Where the answer to a copy goes."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done

    @property
    def keep_alive(self) -> bool:
        """Whether a connection outlives the answer: there is none."""
        return False

    @property
    def peer(self) -> str:
        """No address."""
        return ""

    def write(self, data: bytes) -> None:
        """Throw it away."""

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Throw it away."""

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        """Throw it away."""

    def finish(self) -> None:
        """End the copy, whose answer is complete."""
        self._done()

    def break_off(self) -> None:
        """End the copy, whose answer was cut."""
        self._done()


class Mirroring(Observer):
    """Sends copies and tells `settled`, and no other observer, how they fared.

    A copy takes a free slot of a backend that is at most half full, or is not made: it never waits, is never tried
    again, and no tenant pays for it. `outcomes` counts copies by (model, version, outcome), and `costs` is what they
    cost by (model, version, pool).
    """

    def __init__(self, context: ProxyContext, settled: Callable[[Exchange], None]) -> None:
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.costs: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self._settled = settled
        self._context = ProxyContext(context.clock, context.rng, Observers(self), context.choose)
        self._copies: set[RequestLifecycle] = set()

    def __repr__(self) -> str:
        return f"<Mirroring {len(self._copies)} copies>"

    @property
    def copies(self) -> Collection[RequestLifecycle]:
        """Copies in progress."""
        return self._copies

    def copy(
        self,
        routed: RoutedRequest,
        body: Body,
        original: Exchange,
        version: LiveVersion,
        *,
        ids: RequestIds,
    ) -> None:
        """Send a copy of a request to a version, if that delays no request, under an id of its own out of `ids`."""
        clock = self._context.clock
        now = clock()
        if len(self._copies) >= MOST or not _has_room(version, routed.claim, now):
            return
        exchange = Exchange(original.request_id, original.endpoint, now)
        exchange.model, exchange.version = routed.model.name, version.name
        service_class = routed.spec.service_class
        exchange.service_class, exchange.objective = service_class.name, routed.objective.name
        exchange.prompt_estimate, exchange.itl_bounds = original.prompt_estimate, original.itl_bounds
        exchange.stream = body.stream
        spec = TenantSpec("", ())
        unbilled = LiveTenant(spec, service_class, Quota(spec.limits, now), is_free=True)
        seconds = routed.model.timeouts.total
        copied = routed.spec.copied(unbilled, seconds)
        message = EngineRequest(copied, routed.message.fields, ids.take(f"{routed.message.request_id}-copy"))
        message.write(body, version)
        claim = Claim(routed.claim.kv, routed.claim.priority, sheddable=True, kind=routed.claim.kind)
        lifecycle = RequestLifecycle(
            RoutedRequest(
                copied,
                routed.model,
                version,
                version.routes[-1],
                message,
                objective=routed.objective,
                claim=claim,
                ids=ids,
            ),
            exchange,
            Discarding(lambda: self._copies.discard(lifecycle)),
            context=self._context,
            deadline=now + seconds,
        )
        self._copies.add(lifecycle)
        lifecycle.start()

    def on_attempt_ended(self, exchange: Exchange, _backend: Backend, _end: AttemptEnd) -> None:
        """Add up what a copy cost."""
        cost = exchange.attempt_cost
        if cost:
            self.costs[exchange.model, exchange.version, exchange.pool] += cost

    def on_settled(self, exchange: Exchange) -> None:
        """Count a copy and tell what became of it."""
        self.outcomes[exchange.model, exchange.version, exchange.outcome] += 1
        self._settled(exchange)

    def close(self) -> None:
        """Let go of every copy."""
        for lifecycle in list(self._copies):
            lifecycle.client_gone()
            self._copies.discard(lifecycle)


def _has_room(version: LiveVersion, claim: Claim, now: float) -> bool:
    """Whether some backend of a version has more free slots than taken ones, and no request waits for them."""
    if any(line.queue.size for line in version.routes[-1].line.neighbours):
        return False
    return any(
        backend.serves(version.served_model)
        and backend.health.takes(claim, now)
        and 2 * backend.health.slots.in_flight < backend.health.slots.limit
        for backend in version.backends
    )
