"""Histograms that an OTLP collector is sent: whose they are, since when, and what happens when nobody takes them."""

import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import MappingProxyType

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint

from gateway.config.table import ModelSpec, VersionSpec
from gateway.exchange import Exchange, Outcome
from gateway.policy.slo.buckets import Bounds
from gateway.telemetry.metric_exporter import DURATION, TPOT, TTFT, MetricExporter
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp_settings import OtlpSettings
from gateway.telemetry.server_address import own_address
from gateway.wire.slices import Slices, finish
from tests.telemetry.collectors import Collector
from tests.telemetry.test_metrics import exchange
from tests.waiting import HandClock, until

pytestmark = pytest.mark.anyio
EPOCH = 1_790_000_000
MODELS = MappingProxyType({"m": ModelSpec("m", {"v1": VersionSpec("v1", ("gpu",), "org/Served")}, (("v1", 1.0),))})
Found = dict[str, dict[tuple[tuple[str, str | int], ...], HistogramDataPoint]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    until(lambda: "metrics" not in {thread.name for thread in threading.enumerate()}, "threads")


class House:
    """Metrics, and what exports them to a collector."""

    def __init__(self, url: str = "http://127.0.0.1:1/v1/metrics", **settings: float) -> None:
        self.clock, self.metrics, self.settled = HandClock(EPOCH), Metrics(), 0
        self.exporter = MetricExporter(
            url,
            OtlpSettings(**settings),  # type: ignore[arg-type]
            self.metrics,
            lambda: MODELS,
            Slices(time.monotonic),
            resource=b"\x0a\x00",
            server=own_address("gw.example", 8080),
            settle=self._settle,
            epoch=self.clock,
        )

    def _settle(self) -> None:
        self.settled += 1

    def settles(
        self, outcome: Outcome = Outcome.OK, *, pool: str = "gpu", path: str = "/v1/chat/completions", model: str = "m"
    ) -> None:
        made: Exchange = exchange(outcome, model=model)
        made.pool, made.endpoint = pool, path
        self.metrics.on_settled(made)

    def written(self) -> Found:
        return points(finish(self.exporter.writing()))


def points(body: bytes) -> Found:
    """Return the data points of an export, by metric and by attributes."""
    found: Found = {}
    for each in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for metric in each.scope_metrics[0].metrics:
            for point in metric.histogram.data_points:
                labels = tuple(sorted((kv.key, kv.value.string_value or kv.value.int_value) for kv in point.attributes))
                assert labels not in found.setdefault(metric.name, {}), "no two points have the same attributes"
                found[metric.name][labels] = point
    return found


CHAT: dict[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.response.model": "org/Served",
    "server.address": "gw.example",
    "server.port": 8080,
}


def labels(error: str = "") -> tuple[tuple[str, str | int], ...]:
    return tuple(sorted((CHAT | ({"error.type": error} if error else {})).items()))


async def test_histograms_are_those_of_the_semantic_conventions() -> None:
    house = House()
    assert finish(house.exporter.writing()) == b"", "there is nothing to tell yet"
    house.settles()
    found = house.written()
    assert found.keys() == {DURATION, TTFT, TPOT}
    assert all(by.keys() == {labels()} for by in found.values())
    point = found[DURATION][labels()]
    assert (point.count, point.sum) == (1, pytest.approx(1.4))
    assert point.explicit_bounds == pytest.approx(Bounds().duration)
    assert found[TTFT][labels()].sum == pytest.approx(0.3)


async def test_pools_and_paths_of_one_operation_are_told_together() -> None:
    house = House()
    house.settles()
    house.settles(pool="cpu")
    house.settles(path="/v1/responses")
    house.settles(path="/v1/completions")
    house.settles(path="other")
    counts = {dict(each)["gen_ai.operation.name"]: point.count for each, point in house.written()[DURATION].items()}
    assert counts == {"chat": 3, "text_completion": 1}


async def test_what_failed_has_its_error_and_no_latency_of_tokens() -> None:
    house = House()
    house.settles(Outcome.TIMEOUT)
    house.settles(Outcome.TIMEOUT)
    house.settles(Outcome.CLIENT_ERROR, model="other")
    found = house.written()
    assert found.keys() == {DURATION}
    assert found[DURATION][labels("timeout")].count == 2
    (unknown,) = (dict(each) for each in found[DURATION] if dict(each)["gen_ai.request.model"] == "other")
    assert "gen_ai.response.model" not in unknown


async def test_counts_go_on_since_their_start_and_begin_anew_with_other_bounds() -> None:
    house = House()
    house.settles()
    house.clock.advance(60)
    first = house.written()[DURATION][labels()]
    house.settles()
    house.clock.advance(60)
    second = house.written()[DURATION][labels()]
    (series,) = house.metrics.series.values()
    series.rebucket(Bounds(duration=(1.0, 2.0)))
    house.settles()
    house.clock.advance(60)
    third = house.written()[DURATION][labels()]
    times = [
        (each.start_time_unix_nano / 1e9 - EPOCH, each.time_unix_nano / 1e9 - EPOCH) for each in (first, second, third)
    ]
    assert times == [(0, 60), (0, 120), (120, 180)]
    assert [each.count for each in (first, second, third)] == [1, 2, 1]


@asynccontextmanager
async def exporting(collector: Collector, **settings: float) -> AsyncIterator[House]:
    """Run the collector, and what exports to it; what is left is sent at the end."""
    with collector.running():
        house = House(collector.url, **settings)
        yield house
        await house.exporter.finish()


async def test_the_last_counts_are_sent_at_the_end() -> None:
    async with exporting(collector := Collector()) as house:
        house.settles()
    (body,) = collector.bodies
    assert points(body)[DURATION][labels()].count == 1
    assert collector.heads[0]["content-type"] == "application/x-protobuf"
    assert house.settled == 1
    assert repr(house.exporter) == "<MetricExporter 0 exports failed>"


async def test_a_collector_that_takes_no_metrics_is_told_of_once_and_each_failure_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collector = Collector((404, {}), (404, {}), (200, {}))
    caplog.set_level(logging.INFO)
    async with exporting(collector) as house:
        house.settles()
        for _ in range(3):
            await house.exporter.export(10.0)
    assert house.exporter.failed == 2
    said = [record.message for record in caplog.records if "OTLP" in record.message]
    assert len(said) == 2
    assert "OTEL_METRICS_EXPORTER=none" in said[0]
    assert said[1] == "metrics are sent to the OTLP collector again"


async def test_a_silent_collector_costs_an_export_and_nothing_else() -> None:
    async with exporting(Collector(silent=True), timeout=0.05) as house:
        house.settles()
        await house.exporter.export(0.05)
        assert house.exporter.failed == 1
    assert house.exporter.failed == 2, "the last one was in vain too, and over in time"


async def test_nothing_is_sent_while_nothing_was_counted() -> None:
    async with exporting(collector := Collector()) as house:
        pass
    assert collector.bodies == []
    assert house.exporter.failed == 0
