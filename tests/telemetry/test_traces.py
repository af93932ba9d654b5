"""The trace of something that passed stages."""

from dataclasses import dataclass, field
from random import Random

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.telemetry.collector_url import metrics_url, spans_url
from gateway.telemetry.traces import staged_spans
from tests.telemetry.reading_spans import attributes, read

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
REMOTE = 0x300


@dataclass
class Thing:
    label: str = "deploy m/v2"
    attributes: dict[str, str] = field(default_factory=lambda: {"deployment.id": "7", "tidegate.actor": ""})
    milestones: list[tuple[str, float]] = field(
        default_factory=lambda: [("registered", 10.0), ("ready", 12.0), ("live", 15.0)]
    )
    failure: str = ""
    traceparent: str = ""


@pytest.mark.parametrize("endpoint", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_spans_are_sent_below_the_base_url_with_and_without_their_own_path(endpoint: str) -> None:
    assert spans_url(endpoint) == "http://c:4318/v1/traces"
    assert spans_url("https://c/otlp") == "https://c/otlp/v1/traces"
    assert metrics_url(endpoint) == "http://c:4318/v1/metrics"


def spans_of(thing: Thing) -> list[Span]:
    return read(staged_spans(thing, Random(1)))


def test_each_stage_is_a_span_that_ends_where_the_next_begins() -> None:
    *stages, whole = spans_of(Thing())
    times = [(span.name, span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9) for span in (*stages, whole)]
    assert times == [("ready", 10.0, 12.0), ("live", 12.0, 15.0), ("deploy m/v2", 10.0, 15.0)]
    assert all((each.trace_id, each.parent_span_id) == (whole.trace_id, whole.span_id) for each in stages)
    assert len({span.span_id for span in (*stages, whole)}) == 3
    assert (len(whole.trace_id), whole.parent_span_id) == (16, b"")
    assert attributes(whole) == {"deployment.id": "7", "tidegate.actor": 0}
    assert whole.status.code == Status.STATUS_CODE_UNSET


def test_it_goes_on_from_the_trace_that_it_belongs_to() -> None:
    *_, whole = spans_of(Thing(traceparent=f"{PARENT}1"))
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert whole.flags == REMOTE


def test_it_leaves_none_where_that_trace_is_not_sampled() -> None:
    assert spans_of(Thing(traceparent=f"{PARENT}0")) == []


def test_what_is_no_trace_context_is_ignored() -> None:
    *_, whole = spans_of(Thing(traceparent="ü"))
    assert whole.parent_span_id == b""


def test_a_failure_is_told_on_the_whole() -> None:
    *stages, whole = spans_of(Thing(failure="rolled_back: slow"))
    assert (whole.status.code, whole.status.message) == (Status.STATUS_CODE_ERROR, "rolled_back: slow")
    assert all(each.status.code == Status.STATUS_CODE_UNSET for each in stages)
