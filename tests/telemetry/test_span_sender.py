"""Batches of spans: when they are sent, what waits for them, and what becomes of it at the end."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.telemetry import otlp
from gateway.telemetry.otlp_settings import OtlpSettings
from gateway.telemetry.span_sender import CLOSE_SECONDS, SpanSender
from tests.telemetry.collectors import Collector
from tests.waiting import until

NEVER = 3600.0


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def spans(*names: str) -> list[bytes]:
    return [otlp.span([otlp.named(name, otlp.CLIENT)]) for name in names]


def names(body: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(body)
    return [span.name for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


@contextmanager
def sender(collector: Collector, **settings: float) -> Iterator[SpanSender]:
    """Run the collector, and send to it; no thread is left behind."""
    before = threading.active_count()
    with collector.running():
        made = SpanSender(collector.url, otlp.delimited(b"\x0a", b""), OtlpSettings(**settings))  # type: ignore[arg-type]
        try:
            yield made
        finally:
            made.close()
    until(lambda: threading.active_count() == before, "threads")


def sent(collector: Collector) -> list[list[str]]:
    return [names(body) for body in collector.bodies]


def soon(condition: Callable[[], bool]) -> None:
    until(condition, "spans")


def test_a_full_batch_is_sent_at_once_and_the_rest_at_the_end() -> None:
    collector = Collector()
    with sender(collector, delay=NEVER, batch=2) as sending:
        sending.offer(spans("1"))
        sending.offer(spans("2", "3"))
        soon(lambda: len(collector.bodies) == 1)
        sending.close()
        assert sent(collector) == [["1", "2"], ["3"]]
        assert sending.dropped == 0


def test_a_batch_that_is_not_full_is_sent_after_its_time() -> None:
    collector = Collector()
    with sender(collector, delay=0.01) as sending:
        sending.offer(spans("1"))
        soon(lambda: sent(collector) == [["1"]])


def test_a_trace_without_room_is_dropped_as_a_whole_and_counted() -> None:
    collector = Collector()
    with sender(collector, delay=NEVER, waiting=3, batch=3) as sending:
        sending.offer(spans("1", "2"))
        sending.offer(spans("3", "4"))
        assert sending.dropped == 2
        sending.close()
        assert sent(collector) == [["1", "2"]]


def test_what_is_refused_is_counted_and_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector((400, {}), (400, {}), (200, {}))
    with caplog.at_level(logging.INFO, logger="gateway"), sender(collector, delay=NEVER, batch=1) as sending:
        for number in range(1, 4):
            sending.offer(spans(str(number)))
            soon(lambda: len(collector.bodies) == number)  # noqa: B023 - called in this turn alone
        sending.close()
        assert sending.dropped == 2
    first, again = caplog.records
    assert (first.levelname, vars(first)["reason"], vars(first)["spans"]) == ("ERROR", "status 400", 1)
    assert (again.levelname, vars(again)["dropped"]) == ("INFO", 2)


def test_a_collector_that_hangs_holds_no_more_spans_than_allowed_nor_the_end() -> None:
    collector = Collector(silent=True)
    with sender(collector, delay=NEVER, waiting=10, batch=1) as sending:
        sending.offer(spans("1"))
        soon(lambda: len(collector.bodies) == 1)
        for number in range(100):
            sending.offer(spans(str(number)))
        assert "10 waiting, 90 dropped" in repr(sending)
        began = monotonic()
        sending.close()
        assert monotonic() - began < CLOSE_SECONDS + 5.0


def test_a_stop_does_not_wait_for_another_try() -> None:
    collector = Collector((429, {"retry-after": "5"}))
    with sender(collector, delay=NEVER, batch=1) as sending:
        sending.offer(spans("1"))
        soon(lambda: len(collector.bodies) == 1)
        sending.close()
        assert sending.dropped == 1


def test_whatever_goes_wrong_later_spans_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    with sender(collector, delay=NEVER, batch=1) as sending:
        sending.offer([None])  # type: ignore[list-item]
        soon(lambda: sending.dropped == 1)
        sending.offer(spans("1"))
        soon(lambda: sent(collector) == [["1"]])
    assert vars(caplog.records[0])["reason"] == "TypeError"
