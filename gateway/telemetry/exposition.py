"""Prometheus metrics, built when somebody scrapes. Every name here has a row in docs/metrics.md."""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.backends.backend import Backend
from gateway.policy.routing.readiness import State
from gateway.telemetry.histogram import Histogram
from gateway.telemetry.metrics import Metrics

_Key = TypeVar("_Key", bound=tuple[str, ...])
_VERSION = version("tidegate")  # read from files: once, not for each scrape
_BY_VERSION = ("model", "version", "pool")


@dataclass(frozen=True, slots=True)
class Gauges:
    """The numbers of a moment; `state_saved_at` is None before the first save, `now` of the backends' clock."""

    backends: Iterable[Backend]
    now: float
    in_flight: int
    connections: int
    tasks: int
    routes_loaded: bool
    reloads: int
    reload_failures: int
    loop_lag: float
    access_log_dropped: int
    state_saved_at: float | None
    state_failures: int
    notifications: Mapping[str, int]
    handshakes: Mapping[tuple[str, str], int]


class GatewayCollector(Collector):
    """Everything that begins with `tidegate_`."""

    def __init__(self, metrics: Metrics, gauges: Callable[[], Gauges]) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        gauges = self._gauges()
        yield from self._counters()
        yield from self._histograms()
        yield from _backends(gauges)
        yield from _process(gauges)

    def _counters(self) -> Iterable[Metric]:
        metrics = self._metrics
        yield _counter(
            "requests",
            "Requests by how they ended for the user.",
            ("model", "version", "class", "endpoint", "outcome"),
            metrics.requests(),
        )
        yield _counter(
            "attempts",
            "Attempts at backends by how they ended.",
            ("backend", "pool", "version", "outcome"),
            metrics.attempts,
        )
        yield _counter(
            "tokens",
            "Tokens by direction and by who counted.",
            ("model", "version", "direction", "source"),
            metrics.tokens(),
        )
        yield _counter(
            "cost",
            "What attempts cost, in the currency of the pools' prices: time held, times the price of a slot.",
            _BY_VERSION,
            metrics.costs,
        )
        retries = {(end,): count for end, count in metrics.retries.items()}
        yield _counter("retries", "Attempts followed by another, by how they ended.", ("reason",), retries)

    def _histograms(self) -> Iterable[Metric]:
        metrics = self._metrics
        streams = metrics.streams()
        yield _histogram(
            "time_to_first_token_seconds",
            "From the request being received to its first content event being written.",
            _BY_VERSION,
            {key: series.ttft for key, series in streams},
        )
        yield _histogram(
            "inter_token_latency_seconds",
            "Between content events, as they arrive.",
            _BY_VERSION,
            {key: series.itl for key, series in streams},
        )
        yield _histogram(
            "time_per_output_token_seconds",
            "From the first content event to the last, per output token after the first.",
            _BY_VERSION,
            {key: series.tpot for key, series in streams},
        )
        yield _histogram(
            "request_duration_seconds",
            "Of complete answers, to the last byte.",
            ("model", "version"),
            metrics.durations(),
        )
        queue = {(name,): histogram for name, histogram in metrics.queue.items()}
        yield _histogram("queue_seconds", "Time spent queued.", ("class",), queue)
        yield _histogram(
            "overhead_seconds", "Time neither queued nor in a backend's hands.", (), {(): metrics.overhead}
        )


def registry(*own: Collector) -> CollectorRegistry:
    """Return a registry with the gateway's own collectors and the process's."""
    collectors = CollectorRegistry(auto_describe=False)
    for collector in own:
        collectors.register(collector)
    ProcessCollector(registry=collectors)
    PlatformCollector(registry=collectors)
    GCCollector(registry=collectors)
    return collectors


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Metric:
    family = CounterMetricFamily(f"tidegate_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"tidegate_{name}", text, labels=labels)
    for key, histogram in values.items():
        family.add_metric(key, buckets=histogram.cumulative(), sum_value=histogram.total)
    return family


def _backends(gauges: Gauges) -> Iterable[Metric]:
    labels = ("backend", "pool")
    state = GaugeMetricFamily("tidegate_backend_state", "1 for the state a backend is in.", labels=(*labels, "state"))
    in_flight = GaugeMetricFamily("tidegate_backend_in_flight", "Requests in progress.", labels=labels)
    idle = GaugeMetricFamily("tidegate_backend_idle_connections", "Connections kept for reuse.", labels=labels)
    opened = CounterMetricFamily("tidegate_backend_connections", "Connections opened.", labels=labels)
    for backend in gauges.backends:
        names = (backend.id, backend.spec.pool)
        for each in State:
            state.add_metric((*names, each), float(backend.readiness.state is each))
        in_flight.add_metric(names, backend.in_flight)
        idle.add_metric(names, backend.pool.idle)
        opened.add_metric(names, backend.pool.opened)
    yield from (state, in_flight, idle, opened)
    yield from _engines(gauges)


def _engines(gauges: Gauges) -> Iterable[Metric]:
    """Yield what engines report about themselves, without what is unknown or stale."""
    labels, now = ("backend", "pool"), gauges.now
    running = GaugeMetricFamily("tidegate_engine_running", "Requests that the engine runs.", labels=labels)
    waiting = GaugeMetricFamily("tidegate_engine_waiting", "Requests that wait in the engine.", labels=labels)
    usage = GaugeMetricFamily("tidegate_engine_kv_usage_ratio", "Share of its KV cache in use.", labels=labels)
    for backend in gauges.backends:
        engine = backend.engine.fresh(now)
        if engine is None:
            continue
        for family, value in ((running, engine.running), (waiting, engine.waiting), (usage, engine.kv_usage)):
            if value is not None:
                family.add_metric((backend.id, backend.spec.pool), value)
    yield from (running, waiting, usage)


def _process(gauges: Gauges) -> Iterable[Metric]:
    yield GaugeMetricFamily("tidegate_in_flight", "Requests in progress.", gauges.in_flight)
    yield GaugeMetricFamily("tidegate_client_connections", "Client connections open.", gauges.connections)
    yield GaugeMetricFamily("tidegate_tasks", "Tasks of the event loop.", gauges.tasks)
    yield GaugeMetricFamily("tidegate_routes_loaded", "1 when the last load was good.", float(gauges.routes_loaded))
    yield CounterMetricFamily("tidegate_reloads", "Good loads of the routes after the first.", gauges.reloads)
    yield CounterMetricFamily("tidegate_reload_failures", "Loads refused.", gauges.reload_failures)
    yield GaugeMetricFamily(
        "tidegate_loop_lag_seconds", "Longest delay of the event loop in the last 10 s.", gauges.loop_lag
    )
    yield CounterMetricFamily(
        "tidegate_access_log_dropped", "Lines dropped for a slow sink.", gauges.access_log_dropped
    )
    if gauges.state_saved_at is not None:
        yield GaugeMetricFamily(
            "tidegate_state_saved_timestamp_seconds", "When state was last saved.", gauges.state_saved_at
        )
    yield CounterMetricFamily("tidegate_state_save_failures", "Saves that failed.", gauges.state_failures)
    yield _counter("tls_handshakes", "TLS handshakes by how they ended.", ("listener", "result"), gauges.handshakes)
    results = {(result,): count for result, count in gauges.notifications.items()}
    yield _counter("alert_notifications", "Alerts for the webhook, by what became of them.", ("result",), results)
    build = GaugeMetricFamily("tidegate_build_info", "Always 1.", labels=("version", "python"))
    build.add_metric((_VERSION, platform.python_version()), 1)
    yield build
