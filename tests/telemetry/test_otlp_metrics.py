"""Our histograms in OTLP, byte by byte what protobuf's own library writes."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from gateway.telemetry import otlp, otlp_metrics
from gateway.telemetry.histogram import Histogram
from gateway.telemetry.otlp import Attribute
from gateway.telemetry.otlp_settings import resource, resource_attributes

NANOSECONDS = st.integers(1, 2**64 - 1)
SECONDS = st.lists(st.floats(0.001, 1000), min_size=1, max_size=300)
BOUNDS = st.lists(st.floats(0.01, 500), unique=True, min_size=1, max_size=200).map(sorted)


def text(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))


@given(
    SECONDS, st.lists(st.floats(0.01, 500), unique=True, min_size=1, max_size=200).map(sorted), NANOSECONDS, NANOSECONDS
)
def test_an_export_is_what_protobuf_writes(seconds: list[float], bounds: list[float], start: int, now: int) -> None:
    histogram = Histogram(bounds)
    for each in seconds:
        histogram.observe(each)
    theirs = pb.HistogramDataPoint(
        attributes=[text("a", "x")],
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=len(seconds),
        sum=histogram.total,
        bucket_counts=histogram.counts,
        explicit_bounds=bounds,
    )
    kind = pb.Histogram(data_points=[theirs] * 2, aggregation_temporality=pb.AGGREGATION_TEMPORALITY_CUMULATIVE)
    scope = pb.ScopeMetrics(
        scope=InstrumentationScope(name="tidegate"),
        metrics=[pb.Metric(name="n", description="d", unit="s", histogram=kind)],
    )
    whole = ExportMetricsServiceRequest(
        resource_metrics=[pb.ResourceMetrics(resource=Resource(), scope_metrics=[scope])]
    )
    point = otlp_metrics.point(histogram, Attribute("a").text("x"), start, now)
    assert otlp.request(b"\x0a\x00", [otlp_metrics.metric("n", "d", [point] * 2)]) == whole.SerializeToString()


def test_the_resource_is_that_of_spans() -> None:
    variables = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=one"}
    found = ExportMetricsServiceRequest.FromString(otlp.request(resource(variables), []))
    (each,) = found.resource_metrics
    assert {pair.key: pair.value.string_value for pair in each.resource.attributes} == resource_attributes(variables)
