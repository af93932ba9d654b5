"""Spans of requests, made once they have settled, under the ids that their engines were told.

Attributes follow OpenTelemetry's semantic conventions for HTTP and for generative AI where those have a name.
"""

from collections.abc import Callable
from typing import Final

from gateway.clock import Clock, monotonic, wall
from gateway.exchange import BAD, AttemptRecord, Exchange, Outcome
from gateway.observers import Observer
from gateway.policy.slo.classify import RULINGS
from gateway.telemetry import otlp
from gateway.telemetry.otlp import Attribute, Moment
from gateway.telemetry.server_address import backend_address
from gateway.wire.endpoints import OPERATIONS
from gateway.wire.tracecontext import TraceContext

_WELL: Final = frozenset((Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.QUOTA))
_ROUNDING: Final = 1e-6
"""Seconds that are left of a sum where nothing is left."""
_LAST_ID: Final = (1 << 64) - 1

_POST: Final = Attribute("http.request.method").text("POST")
_ROUTE: Final = Attribute("http.route")
_STATUS: Final = Attribute("http.response.status_code")
_ERROR: Final = Attribute("error.type")
_OPERATION: Final = Attribute("gen_ai.operation.name")
_MODEL: Final = Attribute("gen_ai.request.model")
_INPUT: Final = Attribute("gen_ai.usage.input_tokens")
_OUTPUT: Final = Attribute("gen_ai.usage.output_tokens")
_TTFT: Final = Attribute("gen_ai.server.time_to_first_token")
_TPOT: Final = Attribute("gen_ai.server.time_per_output_token")
_REQUEST_ID: Final = Attribute("tidegate.request_id")
_OUTCOME: Final = Attribute("tidegate.outcome")
_VERSION: Final = Attribute("tidegate.version")
_POOL: Final = Attribute("tidegate.pool")
_BACKEND: Final = Attribute("tidegate.backend")
_CLASS: Final = Attribute("tidegate.class")
_TENANT: Final = Attribute("tidegate.tenant")
_ATTEMPTS: Final = Attribute("tidegate.attempts")
_ROUTING: Final = Attribute("tidegate.routing")
_COST: Final = Attribute("tidegate.cost")

_QUEUE: Final = otlp.named("queue", otlp.INTERNAL)
_ATTEMPT: Final = otlp.named("attempt", otlp.CLIENT)
_CONNECTED: Final = Moment("connected")
_HEAD: Final = Moment("head")
_FIRST_TOKEN: Final = Moment("first token")


class RequestTraces(Observer):
    """A span for the request, below it one for each wait in the queue and one for each attempt."""

    def __init__(
        self,
        send: Callable[[list[bytes]], None],
        clock: Clock = monotonic,
        epoch: Clock = wall,
        *,
        server: bytes = b"",
    ) -> None:
        """Take who sends spans without blocking, the clock of exchanges, and one of seconds since the epoch.

        `server` are the attributes of the listener.
        """
        self._send = send
        self._server = server
        self._clock = clock
        self._epoch = epoch
        self._names: dict[str, bytes] = {}

    def on_settled(self, exchange: Exchange) -> None:
        """Send the spans of a request that was sampled."""
        trace = exchange.trace
        if isinstance(trace, TraceContext):
            parts = _Parts(exchange, trace, self._epoch() - self._clock())
            parts.make()
            parts.spans.append(self._whole(exchange, trace, parts))
            self._send(parts.spans)

    def _whole(self, exchange: Exchange, trace: TraceContext, parts: "_Parts") -> bytes:
        """Return the span of the request."""
        fields = [parts.trace, parts.own]
        if trace.parent_id:
            fields.append(otlp.below(otlp.identity(trace.parent_id)))
        fields.append(self._name(exchange.endpoint))
        fields.append(otlp.lasting(parts.at(exchange.received), parts.at(exchange.ended)))
        _add_attributes(fields, exchange)
        fields.append(self._server)
        if exchange.outcome in _WELL:
            fields.append(otlp.UNSET)
        else:
            fields += (_ERROR.known(exchange.outcome), otlp.failed(exchange.reason))
        fields.append(otlp.REMOTE_PARENT if trace.parent_id else otlp.LOCAL_PARENT)
        return otlp.span(fields)

    def _name(self, endpoint: str) -> bytes:
        known = self._names.get(endpoint)
        if known is None:
            known = self._names[endpoint] = otlp.named(f"POST {endpoint}", otlp.SERVER)
        return known


class _Parts:
    """Makes the spans below a request's own: `spans`, in order. Its ids are made out of that one's."""

    __slots__ = ("_exchange", "_offset", "_parent", "_span_id", "own", "spans", "trace")

    def __init__(self, exchange: Exchange, trace: TraceContext, offset: float) -> None:
        """Take what makes seconds since the epoch of the exchange's."""
        self._exchange = exchange
        self._offset = offset
        self._span_id = trace.span_id
        self.trace = otlp.trace(trace.trace_id)
        self.own = otlp.identity(trace.span_id)
        self._parent = otlp.below(self.own)
        self.spans: list[bytes] = []

    def at(self, seconds: float) -> int:
        """Return a time of the exchange in nanoseconds since the epoch."""
        return otlp.nanoseconds(seconds + self._offset)

    def make(self) -> None:
        """Make what the request's time went into: waits for a slot, and attempts."""
        exchange = self._exchange
        waited = exchange.queued
        for attempt in exchange.attempts:
            if attempt.queued:
                waited -= attempt.queued
                self._add_wait(attempt.sent_at - attempt.queued, attempt.sent_at)
            self._add_attempt(attempt)
        if waited > _ROUNDING:  # the last wait was in vain
            self._add_wait(exchange.ended - waited, exchange.ended)

    def _add_wait(self, start: float, end: float) -> None:
        fields = self._begin(_QUEUE, start, end)
        fields.append(_CLASS.known(self._exchange.service_class))
        self._add(fields, otlp.UNSET)

    def _add_attempt(self, attempt: AttemptRecord) -> None:
        exchange, status = self._exchange, otlp.UNSET
        fields = self._begin(_ATTEMPT, attempt.sent_at, attempt.ended_at or exchange.ended)
        fields.append(_BACKEND.known(attempt.backend))
        fields.append(_POOL.known(attempt.pool))
        fields.append(backend_address(attempt.backend, attempt.pool))
        if attempt.cost:
            fields.append(_COST.real(attempt.cost))
        result = attempt.result
        if result is not None:
            fields.append(_OUTCOME.known(result))
            if RULINGS[result].verdict is BAD:
                fields.append(_ERROR.known(result))
                status = otlp.FAILED
        if attempt.connected_at > attempt.sent_at:
            fields.append(_CONNECTED.at(self.at(attempt.connected_at)))
        if attempt.head_at:
            fields.append(_HEAD.at(self.at(attempt.head_at)))
        if exchange.first_content and attempt is exchange.attempts[-1]:
            fields.append(_FIRST_TOKEN.at(self.at(exchange.first_content)))
        self._add(fields, status)

    def _begin(self, name: bytes, start: float, end: float) -> list[bytes]:
        place = len(self.spans) + 1
        identity = otlp.identity((self._span_id + place) & _LAST_ID or _LAST_ID)
        return [self.trace, identity, self._parent, name, otlp.lasting(self.at(start), self.at(end))]

    def _add(self, fields: list[bytes], status: bytes) -> None:
        fields.append(status)
        fields.append(otlp.LOCAL_PARENT)
        self.spans.append(otlp.span(fields))


def _add_attributes(fields: list[bytes], exchange: Exchange) -> None:
    """Add what is told of a request, without what is not known of it."""
    fields.append(_POST)
    fields.append(_ROUTE.known(exchange.endpoint))
    fields.append(_STATUS.whole(exchange.client_status))
    _add_known(fields, _OPERATION, OPERATIONS.get(exchange.endpoint, ""))
    _add_known(fields, _MODEL, exchange.model)
    _add_whole(fields, _INPUT, exchange.prompt_tokens)
    _add_whole(fields, _OUTPUT, exchange.output_tokens)
    _add_real(fields, _TTFT, exchange.ttft)
    _add_real(fields, _TPOT, exchange.tpot)
    fields.append(_REQUEST_ID.text(exchange.request_id))
    fields.append(_OUTCOME.known(exchange.outcome))
    _add_known(fields, _VERSION, exchange.version)
    _add_known(fields, _POOL, exchange.pool)
    _add_known(fields, _BACKEND, exchange.backend)
    _add_known(fields, _CLASS, exchange.service_class)
    _add_known(fields, _TENANT, exchange.tenant)
    fields.append(_ATTEMPTS.whole(len(exchange.attempts)))
    routing = str(exchange.routing)
    if routing:
        fields.append(_ROUTING.text(routing))


def _add_known(fields: list[bytes], attribute: Attribute, value: str) -> None:
    if value:
        fields.append(attribute.known(value))


def _add_whole(fields: list[bytes], attribute: Attribute, value: int | None) -> None:
    if value is not None:
        fields.append(attribute.whole(value))


def _add_real(fields: list[bytes], attribute: Attribute, value: float | None) -> None:
    if value is not None:
        fields.append(attribute.real(value))
