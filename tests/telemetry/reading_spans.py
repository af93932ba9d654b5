"""Spans as a collector reads them."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.telemetry import otlp


def read(spans: list[bytes]) -> list[Span]:
    """Return spans that were written."""
    request = ExportTraceServiceRequest.FromString(otlp.request(b"", spans))
    return [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
