"""Spans of a settled request: each wait for a slot and each attempt, in order and inside the request's own."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource

from gateway.exchange import AttemptEnd, AttemptRecord, Exchange, Outcome
from gateway.telemetry import otlp
from gateway.telemetry.request_traces import RequestTraces
from gateway.telemetry.server_address import own_address
from gateway.wire.tracecontext import TraceContext
from tests.attempts import attempted
from tests.telemetry.reading_spans import attributes, read
from tests.telemetry.sdk_spans import encoded, request_spans

EPOCH = 1_790_000_000


def traced() -> Exchange:
    exchange = Exchange("r-1", "/v1/chat/completions", 10.0)
    exchange.trace = TraceContext(1, 2, sampled=True, span_id=3)
    return exchange


def written(exchange: Exchange) -> list[bytes]:
    """Return the spans as they are sent, the request's own last."""
    spans: list[bytes] = []
    RequestTraces(spans.extend, lambda: 0.0, lambda: EPOCH).on_settled(exchange)
    return spans


def spans_of(exchange: Exchange) -> list[Span]:
    """Return the spans as they are read, the request's own last."""
    return read(written(exchange))


def seconds(span: Span) -> tuple[float, float]:
    return span.start_time_unix_nano / 1e9 - EPOCH, span.end_time_unix_nano / 1e9 - EPOCH


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
    assert all((span.trace_id, span.parent_span_id) == (request.trace_id, request.span_id) for span in parts)
    assert len({span.span_id for span in (*parts, request)}) == 5


def test_an_attempt_says_where_it_was_made_how_it_ended_and_what_happened_meanwhile(retried: Exchange) -> None:
    first, second = (span for span in spans_of(retried) if span.name == "attempt")
    assert attributes(first) == {
        "tidegate.backend": "gpu/a:1",
        "tidegate.pool": "gpu",
        "tidegate.outcome": "server_error",
        "server.address": "a",
        "server.port": 1,
        "error.type": "server_error",
    }
    assert "error.type" not in attributes(second)
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert list(first.events) == []
    assert attributes(second)["tidegate.outcome"] == "ok"
    assert second.status.code == Status.STATUS_CODE_UNSET
    assert [event.name for event in second.events] == ["connected", "head", "first token"]


def test_a_request_says_what_was_asked_of_which_listener_and_what_kind_of_error_it_was(retried: Exchange) -> None:
    sent: list[bytes] = []
    traces = RequestTraces(sent.extend, lambda: 0.0, lambda: EPOCH, server=own_address("::", 8080))
    traces.on_settled(retried)
    retried.outcome, retried.endpoint = Outcome.TIMEOUT, "other"
    traces.on_settled(retried)
    answered, failed = (attributes(span) for span in read(sent) if span.kind == Span.SPAN_KIND_SERVER)
    assert (answered["server.address"], answered["server.port"]) == (socket.gethostname(), 8080)
    assert answered["gen_ai.operation.name"] == "chat"
    assert "error.type" not in answered
    assert failed["error.type"] == "timeout"
    assert "gen_ai.operation.name" not in failed


def test_a_wait_in_vain_ends_with_the_request() -> None:
    exchange = traced()
    exchange.queued, exchange.ended, exchange.outcome = 2.0, 12.5, Outcome.SHED
    (wait, _) = spans_of(exchange)
    assert (wait.name, seconds(wait)) == ("queue", pytest.approx((10.5, 12.5)))


def test_a_request_that_is_not_sampled_leaves_no_span() -> None:
    sent: list[list[bytes]] = []
    RequestTraces(sent.append).on_settled(Exchange("r-1", "/v1/chat/completions", 10.0))
    assert sent == []


TIMES = st.floats(0.0, 1e6)
TEXTS = st.text(max_size=300)
NAMES = st.text(min_size=1, max_size=300)
COUNTS = st.none() | st.integers(0, 2**63 - 1)


@st.composite
def attempts(draw: st.DrawFn) -> AttemptRecord:
    pool, host, port = draw(NAMES), draw(st.sampled_from(("a.b", "10.0.0.1", "[::1]"))), draw(st.integers(1, 65535))
    path = draw(st.sampled_from(("", "/engine/v2")))
    attempt = AttemptRecord(f"{pool}/{host}:{port}{path}", pool, draw(TIMES), draw(TIMES))
    attempt.cost = draw(st.floats(0.0, 10.0))
    attempt.connected_at, attempt.head_at, attempt.ended_at = draw(TIMES), draw(TIMES), draw(TIMES)
    attempt.result = draw(st.none() | st.sampled_from(AttemptEnd))
    return attempt


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    exchange = Exchange(draw(NAMES), draw(NAMES), draw(TIMES))
    exchange.attempts = draw(st.lists(attempts(), max_size=3))
    exchange.queued, exchange.ended, exchange.first_content = draw(TIMES), draw(TIMES), draw(TIMES)
    exchange.stream, exchange.last_content = draw(st.booleans()), draw(TIMES)
    exchange.outcome, exchange.reason = draw(st.sampled_from(Outcome)), draw(TEXTS)
    exchange.client_status = draw(st.integers(0, 999))
    exchange.prompt_tokens, exchange.output_tokens = draw(COUNTS), draw(COUNTS)
    exchange.model, exchange.version, exchange.pool, exchange.backend = (draw(TEXTS) for _ in range(4))
    exchange.service_class, exchange.tenant, exchange.routing = (draw(TEXTS) for _ in range(3))
    ids = st.integers(1, 2**64 - 1)
    exchange.trace = TraceContext(
        draw(st.integers(1, 2**128 - 1)), draw(ids | st.just(0)), sampled=True, span_id=draw(ids)
    )
    return exchange


@given(exchanges())
def test_the_sdk_would_send_the_same_bytes(exchange: Exchange) -> None:
    assert isinstance(exchange.trace, TraceContext)
    theirs = encoded(request_spans(exchange, exchange.trace, EPOCH, Resource({})))
    assert otlp.request(otlp.delimited(b"\x0a", b""), written(exchange)) == theirs
