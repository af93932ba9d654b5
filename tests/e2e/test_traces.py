"""Traces of requests: sampled as their clients say, sent to a collector, continued by engines."""

import asyncio
import re
import signal
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.collector import collecting, collector
from tests.e2e.fakes import JSON_ANSWER, Call, backends, good, whole
from tests.e2e.harness import ask, chat, gateway, routes
from tests.e2e.processes import serving
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1\r\n"
UNSAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-00\r\ntracestate: vendor=1\r\n"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


async def failing(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", JSON_ANSWER))


def told(call: Call) -> list[str]:
    """Return the trace headers that an engine got."""
    found: list[str] = re.findall(r"(?:traceparent|tracestate): .*", call.head.decode().replace("\r", ""))
    return found


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_sampled_request_leaves_spans_that_its_engine_goes_on_from(tmp_path: Path) -> None:
    async with backends(good) as (fake,), collector() as (endpoint, spans):
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=endpoint, trace_ratio=0.0) as running:
            assert (await ask(running.port, chat(), headers=SAMPLED)).status == 200
            assert (await ask(running.port, chat(), headers=UNSAMPLED)).status == 200
            assert (await ask(running.port, chat())).status == 200
            exchange = running.records.exchanges[0]
            await running.settled(3)
            await eventually(lambda: len(spans) == 2)
        by = {span.name: span for span in spans}
        assert set(by) == {"POST /v1/chat/completions", "attempt"}
        assert len(spans) == 2
        request, attempt = by["POST /v1/chat/completions"], by["attempt"]
        assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
        assert (attempt.trace_id.hex(), attempt.parent_span_id) == (TRACE, request.span_id)
        assert attempt.span_id != request.span_id
        assert request.start_time_unix_nano <= attempt.start_time_unix_nano <= attempt.end_time_unix_nano
        assert attempt.end_time_unix_nano <= request.end_time_unix_nano
        assert [event.name for event in attempt.events] == ["connected", "head", "first token"]
        said = attributes(request)
        assert said["gen_ai.request.model"] == "m"
        assert said["http.response.status_code"] == 200
        assert said["tidegate.request_id"] == exchange.request_id
        assert said["tidegate.outcome"] == "ok"
        first, second, third = (told(call) for call in fake.calls)
        assert first == ["tracestate: vendor=1", f"traceparent: 00-{TRACE}-{request.span_id.hex()}-01"]
        assert second == [f"traceparent: 00-{TRACE}-{PARENT}-00", "tracestate: vendor=1"]
        assert third == []


async def test_without_a_traceparent_the_ratio_decides(tmp_path: Path) -> None:
    async with backends(good) as (fake,), collector() as (endpoint, spans):
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=endpoint, trace_ratio=1.0) as running:
            await asyncio.gather(*(ask(running.port, chat()) for _ in range(20)))
            await running.settled(20)
            await eventually(lambda: len(spans) == 40)
        requests = [span for span in spans if not span.parent_span_id]
        assert len(requests) == len({span.trace_id for span in requests}) == 20
        ids = {(f"{span.trace_id.hex()}", span.span_id.hex()) for span in requests}
        sent = {tuple(told(call)[0].split("-")[1:3]) for call in fake.calls}
        assert ids == sent


async def test_a_failed_request_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    async with backends(failing) as (fake,), collecting() as (endpoint, spans, exports):
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=endpoint) as running:
            answer = await ask(running.port, chat(), headers=SAMPLED)
            assert answer.status >= 500
            await running.quiet()
            await eventually(lambda: any(span.name.startswith("POST") for span in spans))
            await eventually(lambda: bool(exports))
        request = next(span for span in spans if span.name.startswith("POST"))
        assert request.status.code == request.status.STATUS_CODE_ERROR
        assert request.status.message
        (duration,) = exports[0].scope_metrics[0].metrics
        (point,) = duration.histogram.data_points
        assert {kv.key: kv.value.string_value for kv in point.attributes}["error.type"] == "backend_error"
        assert point.count == 1


async def test_each_attempt_of_a_retried_request_is_a_span(tmp_path: Path) -> None:
    async with backends(failing, good) as (sick, well), collector() as (endpoint, spans):
        async with gateway(tmp_path, routes(sick.url, well.url), otlp_endpoint=endpoint) as running:
            asked = 0
            while not sick.calls:
                assert (await ask(running.port, chat(), headers=SAMPLED)).status == 200
                asked += 1
            retried = await running.settled(asked)
            await eventually(lambda: sum(span.name.startswith("POST") for span in spans) == asked)
        request = next(span for span in spans if attributes(span).get("tidegate.request_id") == retried.request_id)
        attempts = sorted(
            (span for span in spans if span.parent_span_id == request.span_id),
            key=lambda span: span.start_time_unix_nano,
        )
        assert [attributes(span)["tidegate.outcome"] for span in attempts] == ["server_error", "ok"]
        assert [attributes(span)["tidegate.backend"] for span in attempts] == [
            each.backend for each in retried.attempts
        ]
        moments = [at for span in attempts for at in (span.start_time_unix_nano, span.end_time_unix_nano)]
        assert sorted(moments) == moments
        assert request.start_time_unix_nano <= moments[0]
        assert moments[-1] <= request.end_time_unix_nano


async def test_what_is_no_traceparent_stops_here_with_its_tracestate(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        await ask(running.port, chat(), headers="traceparent: 00-ab-cd-01\r\ntracestate: vendor=1\r\n")
        await ask(running.port, chat(), headers=SAMPLED)
        assert told(fake.calls[0]) == []
        assert told(fake.calls[1]) == SAMPLED.strip().split("\r\n")


async def test_a_collector_that_is_down_harms_no_request(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        where = "http://127.0.0.1:9"
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=where, trace_ratio=1.0) as running:
            for answer in await asyncio.gather(*(ask(running.port, chat()) for _ in range(10))):
                assert answer.status == 200
            await running.settled(10)


async def test_spans_that_wait_are_sent_when_the_gateway_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    async with backends(good) as (fake,), collector() as (endpoint, spans):
        async with serving(tmp_path, [fake.url], "--otlp-endpoint", endpoint, "--trace-ratio", "1") as served:
            assert (await ask(int(served.urls[0].rsplit(":", 1)[1]), chat(stream=False))).status == 200
            served.process.send_signal(signal.SIGTERM)
            assert await served.ended() == 0
        assert [span.name for span in spans] == ["attempt", "POST /v1/chat/completions"]
