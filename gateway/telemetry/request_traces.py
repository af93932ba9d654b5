"""Spans of requests, made once they have settled, under the ids that their engines were told.

Attributes follow OpenTelemetry's semantic conventions for HTTP and for generative AI where those have a name.
"""

from collections.abc import Callable, Iterator

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.clock import Clock, monotonic, wall
from gateway.exchange import Exchange, Outcome
from gateway.wire.tracecontext import TraceContext

_NANOSECONDS = 1e9
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_WELL = frozenset((Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.QUOTA))
_QUEUE, _ATTEMPT = 1, 2
_LAST_ID = (1 << 64) - 1


class RequestTraces:
    """An observer: a span for the request, below it one for the queue and one for the last attempt."""

    def __init__(
        self, send: Callable[[ReadableSpan], None], resource: Resource, clock: Clock = monotonic, epoch: Clock = wall
    ) -> None:
        """Take who sends spans without blocking, the clock of exchanges, and one of seconds since the epoch."""
        self._send = send
        self._resource = resource
        self._clock = clock
        self._epoch = epoch

    def settled(self, exchange: Exchange) -> None:
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
        began = at(exchange.received)
        if exchange.queued:
            yield ReadableSpan(
                "queue",
                _below(trace, _QUEUE),
                own,
                self._resource,
                {"tidegate.class": exchange.service_class},
                start_time=began,
                end_time=at(exchange.received + exchange.queued),
            )
        if exchange.attempts:
            yield ReadableSpan(
                "attempt",
                _below(trace, _ATTEMPT),
                own,
                self._resource,
                {"tidegate.backend": exchange.backend, "tidegate.pool": exchange.pool},
                [Event("first token", None, at(exchange.first_content))] if exchange.first_content else [],
                kind=SpanKind.CLIENT,
                start_time=at(exchange.sent),
                end_time=at(exchange.attempt_ended or exchange.ended),
            )
        yield ReadableSpan(
            f"POST {exchange.endpoint}",
            own,
            _context(trace, trace.parent_id, is_remote=True) if trace.parent_id else None,
            self._resource,
            _attributes(exchange),
            kind=SpanKind.SERVER,
            status=Status() if exchange.outcome in _WELL else Status(StatusCode.ERROR, exchange.reason),
            start_time=began,
            end_time=at(exchange.ended),
        )


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
