"""Spans of a settled request: each wait for a slot and each attempt, in order and inside the request's own."""

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.telemetry.request_traces import RequestTraces
from gateway.wire.tracecontext import TraceContext
from tests.attempts import attempted

EPOCH = 1_790_000_000


def traced() -> Exchange:
    exchange = Exchange("r-1", "/v1/chat/completions", 10.0)
    exchange.trace = TraceContext(1, 2, sampled=True, span_id=3)
    return exchange


def spans_of(exchange: Exchange) -> list[ReadableSpan]:
    """Return the spans, the request's own last."""
    spans: list[ReadableSpan] = []
    RequestTraces(spans.append, Resource({}), lambda: 0.0, lambda: EPOCH).on_settled(exchange)
    return spans


def seconds(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time / 1e9 - EPOCH, span.end_time / 1e9 - EPOCH


@pytest.fixture
def retried() -> Exchange:
    exchange = traced()
    first, second = attempted(10.5, 11.0, backend="gpu/a:1"), attempted(12.25, 13.0, backend="gpu/b:1")
    first.queued, first.result = 0.5, AttemptEnd.SERVER_ERROR
    second.queued, second.result, second.connected_at, second.head_at = 1.0, AttemptEnd.OK, 12.5, 12.75
    exchange.attempts, exchange.queued = [first, second], 1.5
    exchange.stream, exchange.first_content, exchange.outcome, exchange.ended = True, 12.875, Outcome.OK, 13.0
    return exchange


def test_each_wait_and_each_attempt_is_a_span_in_the_order_in_which_they_were(retried: Exchange) -> None:
    *parts, request = spans_of(retried)
    assert [span.name for span in parts] == ["queue", "attempt", "queue", "attempt"]
    assert [seconds(span) for span in (*parts, request)] == [
        pytest.approx(each) for each in ((10.0, 10.5), (10.5, 11.0), (11.25, 12.25), (12.25, 13.0), (10.0, 13.0))
    ]
    assert all(span.parent == request.context for span in parts)
    assert len({span.context.span_id for span in (*parts, request) if span.context is not None}) == 5


def test_an_attempt_says_where_it_was_made_how_it_ended_and_what_happened_meanwhile(retried: Exchange) -> None:
    first, second = (span for span in spans_of(retried) if span.name == "attempt")
    assert dict(first.attributes or {}) == {
        "tidegate.backend": "gpu/a:1",
        "tidegate.pool": "gpu",
        "tidegate.outcome": "server_error",
    }
    assert first.status.status_code is StatusCode.ERROR
    assert first.events == ()
    assert dict(second.attributes or {})["tidegate.outcome"] == "ok"
    assert second.status.status_code is StatusCode.UNSET
    assert [event.name for event in second.events] == ["connected", "head", "first token"]


def test_a_wait_in_vain_ends_with_the_request() -> None:
    exchange = traced()
    exchange.queued, exchange.ended, exchange.outcome = 2.0, 12.5, Outcome.SHED
    (wait, _) = spans_of(exchange)
    assert (wait.name, seconds(wait)) == ("queue", pytest.approx((10.5, 12.5)))


def test_a_request_that_is_not_sampled_leaves_no_span() -> None:
    assert spans_of(Exchange("r-1", "/v1/chat/completions", 10.0)) == []
