"""What a request asks for, understood, and what every request is handed to get it."""

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import TypeAlias

from gateway.backends.backend import Backend
from gateway.claim import SMALLEST, Claim
from gateway.clock import Clock
from gateway.config.table import Timeouts
from gateway.exchange import Dialect, Exchange
from gateway.observers import Observers
from gateway.policy.routing.choose import Choice, choose
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.pools import PoolProbe
from gateway.policy.routing.refusals import Refusals
from gateway.proxy.live import LiveModel, LiveRoute, LiveVersion
from gateway.proxy.request_ids import RequestIds
from gateway.proxy.spec import Charge, RequestSpec
from gateway.proxy.stored import ClaimedName
from gateway.proxy.tracing import Tracing
from gateway.wire.body import Body
from gateway.wire.long_event import MAX_EVENT
from gateway.wire.rope import Rope

_REQUEST = (
    b"%b %b%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
)
_USAGE_ON_REQUEST = frozenset((Dialect.CHAT, Dialect.COMPLETIONS))


class RoutedRequest:
    """A request on its way: what it asks for, where it may go now, and the bytes that go there.

    `asked` is the name of the model that answers shall bear, quoted; `engine_id` the request's id as engines see it,
    which `ids` knows if it is the client's, `named` the name that its client gave the response that it makes. `claim`
    is what it asks of a backend's slots. `waits` says whether it may queue again after an engine was too busy for it,
    `refusals` how often one was. `given` is the client's body until the answer has begun, `body` what an engine is
    sent, `urgent_body` what one that schedules by priority is. `trial` is the trial of a pool that the attempt in
    progress is. `objective` is what its class is promised. `charge` is None for a tenant without limits.
    """

    __slots__ = (
        "asked",
        "body",
        "charge",
        "claim",
        "engine_id",
        "fields",
        "given",
        "ids",
        "model",
        "named",
        "objective",
        "refusals",
        "retries",
        "route",
        "spec",
        "strip_usage",
        "timeouts",
        "trial",
        "urgent_body",
        "version",
        "waits",
    )

    def __init__(self, spec: RequestSpec, model: LiveModel, version: LiveVersion, *, fields: bytes) -> None:
        self.spec = spec
        self.model = model
        self.version = version
        self.route: LiveRoute = version.routes[-1]
        self.retries = model.memory.retries
        self.timeouts: Timeouts = model.timeouts
        self.objective = model.objectives.of(spec.service_class.name)
        self.claim = SMALLEST
        self.charge: Charge | None = None
        self.engine_id = ""
        self.ids: RequestIds | None = None
        self.named: ClaimedName | None = None
        self.fields = fields
        self.asked: bytes | None = None
        self.given: Body | None = None
        self.body: bytes | Rope = b""
        self.urgent_body: bytes | Rope | None = None
        self.strip_usage = False
        self.waits = True
        self.refusals: Refusals | None = None
        self.trial: PoolProbe | None = None

    @property
    def quota_shown(self) -> bytes:
        """Fields that tell the client what its tenant has left."""
        return b"" if self.charge is None else self.charge.shown

    def move(self, model: LiveModel, version: LiveVersion) -> None:
        """Follow a reload of the routes, by which rules do not hold yet."""
        self.model, self.version, self.route = model, version, version.routes[-1]
        self.timeouts, self.retries = model.timeouts, model.memory.retries
        self.objective = model.objectives.of(self.spec.service_class.name)

    def pin(self, backend: Backend) -> None:
        """Let it go to one backend of its version alone, which keeps what it goes on from."""
        usual = self.version.routes[-1]
        pools = [pool for pool in usual.pools if pool.peers.pool == backend.spec.pool]
        self.route = LiveRoute(pools, (backend,), usual.line, usual.spill_at, cheapest=usual.cheapest)
        self.claim.only = backend.health

    def patience(self, exchange: Exchange, left: float, now: float) -> float:
        """Return for how many seconds it waits for a slot; `left` are those until its deadline."""
        if self.spec.is_timed:
            return left
        prompt, ttft = exchange.prompt_estimate, self.objective.ttft if self.spec.stream else None
        promise = inf if ttft is None else ttft.threshold(prompt)
        usual = self.route.line.patience(self.spec.service_class, self.spec.kind, promise, prompt, now)
        return min(left, usual - exchange.queued)

    def settle(self, exchange: Exchange) -> None:
        """Let go of what the request held beside its slot: its ids, and its tenant's quota."""
        if self.ids is not None:
            self.ids.give_back(self.engine_id)
        if self.named is not None:
            self.named.end()
        if self.spec.is_lookup:
            # What is told again was counted when it was made.
            exchange.prompt_tokens = exchange.output_tokens = None
            exchange.first_content = exchange.last_content = exchange.itl_sum = 0.0
            exchange.content_events, exchange.itl = 0, []
        if self.charge is not None:
            self._settle(self.charge, exchange)

    def _settle(self, charge: Charge, exchange: Exchange) -> None:
        """Charge the tenant for what was really used; an answer that the engine did not count, for what was seen."""
        prompt, output = exchange.prompt_tokens, exchange.output_tokens
        if prompt is None:
            prompt = exchange.prompt_estimate if exchange.client_status == 200 else 0
        if output is None:
            output = exchange.content_events
            if exchange.answer_size and self.spec.output:
                written = self.model.memory.prompts.tokens(exchange.answer_size)
                output = min(written, self.spec.choices * self.spec.output)
        charge.settle(prompt + output)

    def write(self, given: Body) -> None:
        """Rewrite the client's body for the engines of the version."""
        version, json = self.version, self.spec.endpoint.is_json
        served: bytes | None = None
        if given.model != version.served_model:
            served = version.served_json if json else version.served_model.encode()
        add_usage = given.stream and self.spec.endpoint.dialect in _USAGE_ON_REQUEST
        self.given = given
        urgent = version.by_priority
        self.urgent_body = given.rewritten(served, add_usage, self.spec.service_class.priority) if urgent else None
        self.body = given.rewritten(served, add_usage)
        self.strip_usage = given.usage_added

    def forget(self) -> None:
        """Let go of what only another attempt would need."""
        self.given = self.urgent_body = self.asked = None
        self.body = self.fields = b""

    def written_for(self, backend: Backend) -> tuple[bytes, Rope | None]:
        """Return the request as this backend shall read it, and what of its body follows: a long one."""
        urgent = self.urgent_body is not None and backend.spec.priority_scheduling
        body = self.urgent_body if urgent and self.urgent_body is not None else self.body
        short, long = (b"", body) if isinstance(body, Rope) else (body, None)
        endpoint = self.spec.endpoint
        return _REQUEST % (
            endpoint.method,
            backend.base_path,
            endpoint.target,
            backend.authority,
            backend.authorization,
            self.fields,
            self.engine_id.encode(),
            len(body),
            short,
        ), long


Chooser: TypeAlias = Callable[[Sequence[Backend], int, float, Chance, Claim], Choice[Backend] | None]
"""Chooses among ready backends, as `policy.routing.choose.choose` does."""


class ProxyContext:
    """What every request is handed: a clock, chance, the observers, who chooses a backend, and who samples traces."""

    __slots__ = ("choose", "clock", "max_event", "observers", "rng", "tracing")

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        observers: Observers,
        choose: Chooser = choose,
        tracing: Tracing | None = None,
        *,
        max_event: int = MAX_EVENT,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.observers = observers
        self.choose = choose
        self.tracing = tracing
        self.max_event = max_event
