"""Spans of requests, made once they have settled, under the ids that their engines were told.

Attributes follow OpenTelemetry's semantic conventions for HTTP and for generative AI where those have a name.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.clock import Clock, monotonic, wall
from gateway.exchange import BAD, AttemptRecord, Exchange, Outcome
from gateway.observers import Observer
from gateway.policy.slo.classify import RULINGS
from gateway.wire.tracecontext import TraceContext

_NANOSECONDS: Final = 1e9
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_WELL: Final = frozenset((Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.QUOTA))
_ROUNDING: Final = 1e-6
"""Seconds that are left of a sum where nothing is left."""
_LAST_ID: Final = (1 << 64) - 1


class _Part(NamedTuple):
    """A part of a request's time, from when until when (seconds), and what its span says of it."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, str]
    kind: SpanKind
    status: Status
    moments: tuple[tuple[str, float], ...]


class RequestTraces(Observer):
    """A span for the request, below it one for each wait in the queue and one for each attempt."""

    def __init__(
        self, send: Callable[[ReadableSpan], None], resource: Resource, clock: Clock = monotonic, epoch: Clock = wall
    ) -> None:
        """Take who sends spans without blocking, the clock of exchanges, and one of seconds since the epoch."""
        self._send = send
        self._resource = resource
        self._clock = clock
        self._epoch = epoch

    def on_settled(self, exchange: Exchange) -> None:
        """Send the spans of a request that was sampled."""
        trace = exchange.trace
        if isinstance(trace, TraceContext):
            for span in self._spans(exchange, trace):
                self._send(span)

    def _spans(self, exchange: Exchange, trace: TraceContext) -> Iterator[ReadableSpan]:
        offset = self._epoch() - self._clock()

        def at(seconds: float) -> int:
            return int((seconds + offset) * _NANOSECONDS)

        own = _context(trace, trace.span_id)
        for place, part in enumerate(_parts(exchange), 1):
            yield ReadableSpan(
                part.name,
                _below(trace, place),
                own,
                self._resource,
                part.attributes,
                [Event(what, None, at(when)) for what, when in part.moments],
                kind=part.kind,
                status=part.status,
                start_time=at(part.start),
                end_time=at(part.end),
            )
        yield ReadableSpan(
            f"POST {exchange.endpoint}",
            own,
            _context(trace, trace.parent_id, is_remote=True) if trace.parent_id else None,
            self._resource,
            _attributes(exchange),
            kind=SpanKind.SERVER,
            status=Status() if exchange.outcome in _WELL else Status(StatusCode.ERROR, exchange.reason),
            start_time=at(exchange.received),
            end_time=at(exchange.ended),
        )


def _parts(exchange: Exchange) -> Iterator[_Part]:
    """Yield what a request's time went into, in order: waits for a slot, and attempts."""
    waited = exchange.queued
    for attempt in exchange.attempts:
        if attempt.queued:
            waited -= attempt.queued
            yield _wait(exchange, attempt.sent_at - attempt.queued, attempt.sent_at)
        yield _attempt(exchange, attempt)
    if waited > _ROUNDING:  # the last wait was in vain
        yield _wait(exchange, exchange.ended - waited, exchange.ended)


def _wait(exchange: Exchange, start: float, end: float) -> _Part:
    return _Part("queue", start, end, {"tidegate.class": exchange.service_class}, SpanKind.INTERNAL, Status(), ())


def _attempt(exchange: Exchange, attempt: AttemptRecord) -> _Part:
    attributes, status = {"tidegate.backend": attempt.backend, "tidegate.pool": attempt.pool}, Status()
    if attempt.result is not None:
        attributes["tidegate.outcome"] = str(attempt.result)
        if RULINGS[attempt.result].verdict is BAD:
            status = Status(StatusCode.ERROR)
    moments = tuple(_moments(exchange, attempt))
    end = attempt.ended_at or exchange.ended
    return _Part("attempt", attempt.sent_at, end, attributes, SpanKind.CLIENT, status, moments)


def _moments(exchange: Exchange, attempt: AttemptRecord) -> Iterator[tuple[str, float]]:
    """Yield what happened in an attempt, and when."""
    if attempt.connected_at > attempt.sent_at:
        yield "connected", attempt.connected_at
    if attempt.head_at:
        yield "head", attempt.head_at
    if attempt is exchange.attempts[-1] and exchange.first_content:
        yield "first token", exchange.first_content


def _context(trace: TraceContext, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace.trace_id, span_id, is_remote=is_remote, trace_flags=_SAMPLED)


def _below(trace: TraceContext, place: int) -> SpanContext:
    """Return the context of a span below the request's, whose id is made out of that one's."""
    return _context(trace, (trace.span_id + place) & _LAST_ID or _LAST_ID)


def _attributes(exchange: Exchange) -> dict[str, str | int | float]:
    found: dict[str, str | int | float | None] = {
        "http.request.method": "POST",
        "http.route": exchange.endpoint,
        "http.response.status_code": exchange.client_status,
        "gen_ai.request.model": exchange.model,
        "gen_ai.usage.input_tokens": exchange.prompt_tokens,
        "gen_ai.usage.output_tokens": exchange.output_tokens,
        "gen_ai.server.time_to_first_token": exchange.ttft,
        "gen_ai.server.time_per_output_token": exchange.tpot,
        "tidegate.request_id": exchange.request_id,
        "tidegate.outcome": str(exchange.outcome),
        "tidegate.version": exchange.version,
        "tidegate.pool": exchange.pool,
        "tidegate.backend": exchange.backend,
        "tidegate.class": exchange.service_class,
        "tidegate.tenant": exchange.tenant,
        "tidegate.attempts": len(exchange.attempts),
        "tidegate.routing": str(exchange.routing),
    }
    return {name: value for name, value in found.items() if value is not None and value != ""}
