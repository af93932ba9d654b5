"""The spans of a request as OpenTelemetry's SDK makes and encodes them: what ours are held against."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.exchange import AttemptRecord, Exchange, Outcome, Verdict
from gateway.policy.slo.classify import RULINGS
from gateway.wire.endpoints import OPERATIONS
from gateway.wire.tracecontext import TraceContext

SCOPE = InstrumentationScope("tidegate")
_WELL = {Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.QUOTA}


class _Part(NamedTuple):
    name: str
    start: float
    end: float
    attributes: Mapping[str, str | int | float]
    kind: SpanKind
    status: Status = Status()
    moments: Sequence[tuple[str, float]] = ()


def encoded(spans: list[ReadableSpan]) -> bytes:
    """Return the body of the request that the SDK's exporter sends."""
    request: bytes = encode_spans(spans).SerializeToString()
    return request


def context(trace_id: int, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=is_remote, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def request_spans(exchange: Exchange, trace: TraceContext, offset: float, resource: Resource) -> list[ReadableSpan]:
    """Return the spans of a settled request, its own last."""

    def at(seconds: float) -> int:
        return int((seconds + offset) * 1e9)

    own = context(trace.trace_id, trace.span_id)
    parent = context(trace.trace_id, trace.parent_id, is_remote=True) if trace.parent_id else None
    whole = ReadableSpan(
        f"POST {exchange.endpoint}",
        own,
        parent,
        resource,
        _attributes(exchange),
        kind=SpanKind.SERVER,
        status=Status() if exchange.outcome in _WELL else Status(StatusCode.ERROR, exchange.reason),
        start_time=at(exchange.received),
        end_time=at(exchange.ended),
        instrumentation_scope=SCOPE,
    )
    return [*_parts(exchange, own, at, resource), whole]


def _parts(
    exchange: Exchange, own: SpanContext, at: Callable[[float], int], resource: Resource
) -> Iterator[ReadableSpan]:
    for place, part in enumerate(_times(exchange), 1):
        yield ReadableSpan(
            part.name,
            context(own.trace_id, (own.span_id + place) % 2**64 or 2**64 - 1),
            own,
            resource,
            part.attributes,
            [Event(what, None, at(when)) for what, when in part.moments],
            kind=part.kind,
            status=part.status,
            start_time=at(part.start),
            end_time=at(part.end),
            instrumentation_scope=SCOPE,
        )


def _times(exchange: Exchange) -> Iterator[_Part]:
    waited = exchange.queued
    for attempt in exchange.attempts:
        if attempt.queued:
            waited -= attempt.queued
            yield _wait(exchange, attempt.sent_at - attempt.queued, attempt.sent_at)
        yield _attempt(exchange, attempt)
    if waited > 1e-6:
        yield _wait(exchange, exchange.ended - waited, exchange.ended)


def _wait(exchange: Exchange, start: float, end: float) -> _Part:
    return _Part("queue", start, end, {"tidegate.class": exchange.service_class}, SpanKind.INTERNAL)


def _attempt(exchange: Exchange, attempt: AttemptRecord) -> _Part:
    attributes: dict[str, str | int | float] = {"tidegate.backend": attempt.backend, "tidegate.pool": attempt.pool}
    where = urlsplit(f"//{attempt.backend.removeprefix(f'{attempt.pool}/')}")
    attributes |= {"server.address": where.hostname or "", "server.port": where.port or 0}
    status = Status()
    if attempt.cost:
        attributes["tidegate.cost"] = attempt.cost
    if attempt.result is not None:
        attributes["tidegate.outcome"] = str(attempt.result)
        if RULINGS[attempt.result].verdict is Verdict.BAD:
            attributes["error.type"] = str(attempt.result)
            status = Status(StatusCode.ERROR)
    end = attempt.ended_at or exchange.ended
    moments = _moments(exchange, attempt)
    return _Part("attempt", attempt.sent_at, end, attributes, SpanKind.CLIENT, status, moments)


def _moments(exchange: Exchange, attempt: AttemptRecord) -> list[tuple[str, float]]:
    found = [("connected", attempt.connected_at)] if attempt.connected_at > attempt.sent_at else []
    if attempt.head_at:
        found.append(("head", attempt.head_at))
    if attempt is exchange.attempts[-1] and exchange.first_content:
        found.append(("first token", exchange.first_content))
    return found


def _attributes(exchange: Exchange) -> dict[str, str | int | float]:
    found: dict[str, str | int | float | None] = {
        "http.request.method": "POST",
        "http.route": exchange.endpoint,
        "http.response.status_code": exchange.client_status,
        "gen_ai.operation.name": OPERATIONS.get(exchange.endpoint, ""),
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
        "error.type": "" if exchange.outcome in _WELL else str(exchange.outcome),
    }
    return {name: value for name, value in found.items() if value is not None and value != ""}
