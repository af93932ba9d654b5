"""The messages of KEDA's external scaler are those that protobuf writes and reads."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scaler.messages import MessageError, MetricsRequest, ScaledObjectRef, active, metric_spec, metric_value
from tests.scaler.published import message, scaled_object

TEXT = st.text(st.characters(codec="utf-8"), max_size=300)


@given(TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=5), TEXT)
def test_what_keda_sends_is_read(name: str, namespace: str, metadata: dict[str, str], metric: str) -> None:
    sent = message("ScaledObjectRef")(name=name, namespace=namespace, scalerMetadata=metadata)
    expected = ScaledObjectRef(name, namespace, metadata)
    assert ScaledObjectRef.read(sent.SerializeToString()) == expected
    request = message("GetMetricsRequest")(scaledObjectRef=sent, metricName=metric)
    assert MetricsRequest.read(request.SerializeToString()) == MetricsRequest(expected, metric)


@pytest.mark.parametrize("is_active", [True, False])
def test_keda_reads_whether_a_pool_is_active(is_active: bool) -> None:
    assert message("IsActiveResponse").FromString(active(is_active=is_active)).result is is_active


@given(TEXT, st.floats(0, 20_000))
def test_keda_reads_metrics(name: str, value: float) -> None:
    (found,) = message("GetMetricsResponse").FromString(metric_value(name, value)).metricValues
    assert (found.metricName, found.metricValueFloat) == (name, value)
    assert found.metricValue - 1 < value <= found.metricValue, "rounded up, for a KEDA that reads whole numbers only"
    (spec,) = message("GetMetricSpecResponse").FromString(metric_spec(name, 1.0)).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == (name, 1, 1.0)


def test_fields_of_a_later_version_are_skipped() -> None:
    more = b"\x48\x96\x01" + b"\x51" + bytes(8) + b"\x5d" + bytes(4) + b"\x62\x03abc"
    assert ScaledObjectRef.read(scaled_object("gpu").SerializeToString() + more).metadata["pool"] == "gpu"


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05abc", b"\x0b", b"\xff" * 11, b"\x08\x01", b"\x0a\x01\xff", b"\x1a\x03\x0a\x05a"],
    ids=["no length", "cut", "a group", "endless", "a number for a text", "not UTF-8", "a cut entry"],
)
def test_other_bytes_are_no_message(data: bytes) -> None:
    with pytest.raises(MessageError):
        ScaledObjectRef.read(data)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    with suppress(MessageError):
        MetricsRequest.read(data)
