"""OpenTelemetry's variables: which are read, which win, and what is wrong in them."""

import logging

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.re import parse_env_headers

from gateway.telemetry.otlp_settings import OtlpSettings, metric_settings, otlp_settings, resource, resource_attributes

GENERAL, TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"


def test_without_variables_the_defaults_of_opentelemetry_hold() -> None:
    assert otlp_settings({}) == OtlpSettings({}, 10.0, "none", "", "", "", 5.0, 2048, 512)


@pytest.mark.parametrize("prefix", [GENERAL, TRACES])
def test_the_exporter_s_variables_are_read(prefix: str) -> None:
    values = {
        "HEADERS": "a=b",
        "TIMEOUT": "2.5",
        "COMPRESSION": " GZIP",
        "CERTIFICATE": "ca.pem",
        "CLIENT_CERTIFICATE": "client.pem",
        "CLIENT_KEY": "client.key",
    }
    found = otlp_settings({prefix + name: value for name, value in values.items()})
    assert found == OtlpSettings({"a": "b"}, 2.5, "gzip", "ca.pem", "client.pem", "client.key")


def test_those_for_traces_win() -> None:
    variables = {f"{GENERAL}TIMEOUT": "1", f"{TRACES}TIMEOUT": "2", f"{GENERAL}HEADERS": "a=b", f"{TRACES}HEADERS": ""}
    found = otlp_settings(variables)
    assert (found.timeout, dict(found.headers)) == (2.0, {"a": "b"})


def test_metrics_have_variables_of_their_own() -> None:
    metrics, general = f"{GENERAL}METRICS_", {f"{GENERAL}TIMEOUT": "20", f"{GENERAL}HEADERS": "a=b"}
    assert metric_settings({}) == OtlpSettings(delay=60.0)
    found = metric_settings(general | {f"{metrics}HEADERS": "c=d", f"{TRACES}COMPRESSION": "gzip"})
    assert found == OtlpSettings({"c": "d"}, 20.0, delay=60.0)
    often = {"OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_METRIC_EXPORT_TIMEOUT": "250"}
    assert metric_settings(general | often) == OtlpSettings({"a": "b"}, 0.25, delay=0.5)


def test_metrics_are_left_out_where_they_are_not_wanted() -> None:
    assert metric_settings({"OTEL_METRICS_EXPORTER": " None"}) is None
    assert metric_settings({"OTEL_METRICS_EXPORTER": "otlp"}) is not None


def test_the_batches_variables_are_read() -> None:
    bsp = {"SCHEDULE_DELAY": "100", "MAX_QUEUE_SIZE": "10", "MAX_EXPORT_BATCH_SIZE": "20"}
    found = otlp_settings({f"OTEL_BSP_{name}": value for name, value in bsp.items()})
    assert (found.delay, found.waiting, found.batch) == (0.1, 10, 10)


def test_the_roots_of_other_clients_are_trusted_where_no_others_are_named() -> None:
    others = {"REQUESTS_CA_BUNDLE": "all.pem", "CURL_CA_BUNDLE": "curl.pem"}
    assert otlp_settings(others).certificate == "all.pem"
    assert otlp_settings(others | {f"{GENERAL}CERTIFICATE": "own.pem"}).certificate == "own.pem"


@pytest.mark.parametrize(
    "headers",
    [
        "a=b",
        "A=b, c = d ,,",
        "authorization=Bearer%20a%3Db",
        "authorization=Bearer a%3Db",
        "x=a=b==",
        "x=",
        "%61=b",
        "x-api-key=3%2C4",
    ],
)
def test_headers_are_read_as_the_sdk_reads_them(headers: str) -> None:
    assert otlp_settings({f"{GENERAL}HEADERS": headers}).headers == parse_env_headers(headers, liberal=True)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (f"{GENERAL}HEADERS", "a"),
        (f"{GENERAL}HEADERS", "=secret"),
        (f"{TRACES}HEADERS", "a=b%0d%0asecret"),
        (f"{TRACES}HEADERS", "a=sécret"),
        (f"{GENERAL}TIMEOUT", "secret"),
        (f"{GENERAL}TIMEOUT", "-1"),
        (f"{GENERAL}TIMEOUT", "nan"),
        (f"{GENERAL}COMPRESSION", "zstd"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0.5"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "inf"),
        ("OTEL_RESOURCE_ATTRIBUTES", "secret"),
    ],
)
def test_what_cannot_be_read_is_as_if_it_were_not_set_and_logged_by_name(
    variable: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="gateway"):
        found = otlp_settings({variable: value})
        known = resource_attributes({variable: value})
    assert found == OtlpSettings()
    assert known.keys() == resource_attributes({}).keys()
    (record,) = caplog.records
    assert vars(record)["variable"] == variable
    assert vars(record)["expected"]
    assert "secret" not in f"{record.getMessage()} {vars(record)}"


def test_what_should_be_there_is_logged_and_what_is_used_instead(caplog: pytest.LogCaptureFixture) -> None:
    otlp_settings({"OTEL_BSP_MAX_QUEUE_SIZE": "many", f"{GENERAL}COMPRESSION": "zstd", f"{GENERAL}TIMEOUT": "-1"})
    told = {vars(each)["variable"]: (vars(each)["expected"], vars(each).get("used", "")) for each in caplog.records}
    assert told == {
        "OTEL_BSP_MAX_QUEUE_SIZE": ("a number of 1 or more", "2048"),
        f"{GENERAL}COMPRESSION": ("none, gzip, deflate", ""),
        f"{GENERAL}TIMEOUT": ("a number above 0", "10"),
    }


def test_headers_are_in_no_repr() -> None:
    assert "secret" not in repr(otlp_settings({f"{GENERAL}HEADERS": "a=secret"}))


def test_the_resource_has_what_its_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "deployment.environment.name=pr%20od, a = b=c ,service.name=other,service.version=0,service.instance.id=i"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", text)
    found = resource_attributes({"OTEL_RESOURCE_ATTRIBUTES": text})
    theirs = Resource.create({"service.name": "tidegate", "service.version": found["service.version"]})
    assert {**found, "telemetry.sdk.name": "", "telemetry.sdk.version": ""} == {
        **theirs.attributes,
        "telemetry.sdk.name": "",
        "telemetry.sdk.version": "",
    }
    assert found["service.name"] == "tidegate"


def test_the_resource_is_written_once_for_all_spans() -> None:
    variables = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=i,a=b"}
    read = ResourceSpans.FromString(resource(variables))
    assert {each.key: each.value.string_value for each in read.resource.attributes} == resource_attributes(variables)
