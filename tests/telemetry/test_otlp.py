"""Our OTLP, byte by byte that of OpenTelemetry's SDK."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, Status, StatusCode

from gateway.telemetry import otlp
from gateway.telemetry.otlp import OF_RESOURCE, Attribute, Moment
from tests.telemetry.sdk_spans import SCOPE, context, encoded

KINDS = {SpanKind.INTERNAL: otlp.INTERNAL, SpanKind.SERVER: otlp.SERVER, SpanKind.CLIENT: otlp.CLIENT}
# Protobuf leaves out what is 0 or empty. No name is, and no time.
NANOSECONDS = st.integers(1, 2**64 - 1)
IDS = st.integers(1, 2**64 - 1)
NAMES = st.text(min_size=1, max_size=200)
VALUES = st.one_of(st.text(max_size=5000), st.integers(-(2**63), 2**63 - 1), st.floats(), st.sampled_from(["", "x"]))
EVENTS = st.lists(st.tuples(st.sampled_from(["head", "connected"]), NANOSECONDS), max_size=3)
RESOURCE = Resource({"service.name": "tidegate", "empty": "", "far": "ü" * 300})
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=20)


def written(name: str, value: str | float) -> bytes:
    attribute = Attribute(name)
    match value:
        case str():
            assert attribute.known(value) == attribute.known(value) == attribute.text(value)
            return attribute.text(value)
        case int():
            return attribute.whole(value)
    return attribute.real(value)


@st.composite
def spans(draw: st.DrawFn) -> tuple[ReadableSpan, bytes]:
    """Return a span as the SDK has it, and as we write it."""
    trace_id, span_id, parent_id = draw(st.integers(1, 2**128 - 1)), draw(IDS), draw(st.none() | IDS)
    name, kind, start, end = draw(NAMES), draw(st.sampled_from(list(KINDS))), draw(NANOSECONDS), draw(NANOSECONDS)
    attributes, events = draw(ATTRIBUTES), draw(EVENTS)
    why, is_remote = draw(st.none() | st.text()), draw(st.booleans())
    sdk = ReadableSpan(
        name,
        context(trace_id, span_id),
        None if parent_id is None else context(trace_id, parent_id, is_remote=is_remote),
        RESOURCE,
        attributes,
        [Event(what, None, when) for what, when in events],
        kind=kind,
        status=Status() if why is None else Status(StatusCode.ERROR, why),
        start_time=start,
        end_time=end,
        instrumentation_scope=SCOPE,
    )
    ours = [
        otlp.trace(trace_id),
        otlp.identity(span_id),
        *([] if parent_id is None else [otlp.below(otlp.identity(parent_id))]),
        otlp.named(name, KINDS[kind]),
        otlp.lasting(start, end),
        *(written(name, value) for name, value in attributes.items()),
        *(Moment(what).at(when) for what, when in events),
        otlp.UNSET if why is None else otlp.failed(why),
        otlp.REMOTE_PARENT if parent_id is not None and is_remote else otlp.LOCAL_PARENT,
    ]
    return sdk, otlp.span(ours)


@given(st.lists(spans(), min_size=1, max_size=4))
def test_a_request_is_the_one_that_the_sdk_sends(some: list[tuple[ReadableSpan, bytes]]) -> None:
    texts = ((name, str(value)) for name, value in RESOURCE.attributes.items())
    resource = otlp.delimited(b"\x0a", b"".join(Attribute(name, OF_RESOURCE).text(value) for name, value in texts))
    ours, theirs = otlp.request(resource, [each for _, each in some]), encoded([sdk for sdk, _ in some])
    assert ExportTraceServiceRequest.FromString(ours).SerializeToString() == theirs
    assert ours == theirs


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**14 - 1, 2**14, 2**32, 2**63, 2**64 - 1])
def test_whole_numbers_have_seven_bits_in_each_byte(value: int) -> None:
    read = sum((byte & 127) << 7 * place for place, byte in enumerate(otlp.varint(value)))
    assert read == value
    assert [byte >> 7 for byte in otlp.varint(value)] == [1] * (len(otlp.varint(value)) - 1) + [0]


def test_what_is_no_unicode_is_replaced() -> None:
    assert Attribute("a").text("b\ud800c") == Attribute("a").text("b?c")


def test_a_value_that_was_forgotten_is_written_again() -> None:
    attribute = Attribute("a")
    first = attribute.known("0")
    for value in range(1, 5000):
        assert attribute.known(str(value)) == attribute.text(str(value))
    assert attribute.known("0") == first
