"""Spans of requests, made once they have settled, under the ids that their engines were told.

Attributes follow OpenTelemetry's semantic conventions for HTTP and for generative AI where those have a name.
"""

from collections.abc import Callable, Iterator

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.clock import Clock, monotonic, wall
from gateway.exchange import AttemptRecord, Exchange, Outcome, Verdict
from gateway.observers import Observer
from gateway.policy.slo.classify import RULINGS
from gateway.wire.tracecontext import TraceContext

_NANOSECONDS = 1e9
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_WELL = frozenset((Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.QUOTA))
_ROUNDING = 1e-6
"""Seconds that are left of a sum where nothing is left."""
_LAST_ID = (1 << 64) - 1


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
        for place, (name, start, end, attempt) in enumerate(_parts(exchange), 1):
            yield ReadableSpan(
                name,
                _below(trace, place),
                own,
                self._resource,
                {"tidegate.class": exchange.service_class} if attempt is None else _of_attempt(attempt),
                [Event(what, None, at(when)) for what, when in _moments(attempt, exchange)],
                kind=SpanKind.INTERNAL if attempt is None else SpanKind.CLIENT,
                status=Status() if attempt is None or not _has_failed(attempt) else Status(StatusCode.ERROR),
                start_time=at(start),
                end_time=at(end),
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


def _parts(exchange: Exchange) -> Iterator[tuple[str, float, float, AttemptRecord | None]]:
    """Yield what a request's time went into, in order: waits for a slot, and attempts, each from when until when."""
    waited = exchange.queued
    for attempt in exchange.attempts:
        if attempt.queued:
            waited -= attempt.queued
            yield "queue", attempt.sent_at - attempt.queued, attempt.sent_at, None
        yield "attempt", attempt.sent_at, attempt.ended_at or exchange.ended, attempt
    if waited > _ROUNDING:  # the last wait was in vain
        yield "queue", exchange.ended - waited, exchange.ended, None


def _moments(attempt: AttemptRecord | None, exchange: Exchange) -> Iterator[tuple[str, float]]:
    """Yield what happened in an attempt, and when."""
    if attempt is None:
        return
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


def _has_failed(attempt: AttemptRecord) -> bool:
    return attempt.result is not None and RULINGS[attempt.result].verdict is Verdict.BAD


def _of_attempt(attempt: AttemptRecord) -> dict[str, str]:
    said = {"tidegate.backend": attempt.backend, "tidegate.pool": attempt.pool}
    return said if attempt.result is None else {**said, "tidegate.outcome": str(attempt.result)}
