"""Prometheus metrics, built when somebody scrapes. Every name here has a row in docs/metrics.md."""

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics_latest

from gateway.backends.backend import Backend
from gateway.policy.routing.readiness import State
from gateway.telemetry.families import (
    Collector,
    HistogramFamily,
    Piece,
    counter,
    gauge,
    rendered,
    single,
    with_histograms,
    with_samples,
)
from gateway.telemetry.histogram import Histogram, together
from gateway.telemetry.metrics import Metrics, Series
from gateway.wire.slices import Slices, Work

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
    spans_dropped: int
    metric_exports_failed: int
    state_saved_at: float | None
    state_failures: int
    notifications: Mapping[str, int]
    handshakes: Mapping[tuple[str, str], int]


class GatewayCollector:
    """Everything that begins with `tidegate_`."""

    def __init__(self, metrics: Metrics, gauges: Callable[[], Work[Gauges]]) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        gauges = yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()
        yield from _backends(gauges)
        yield from _process(gauges)

    def _counters(self) -> Iterator[Piece]:
        metrics = self._metrics
        yield from self._requests()
        labels = ("backend", "pool", "version", "outcome")
        attempts = counter("attempts", "Attempts at backends by how they ended.", labels)
        yield from with_samples(attempts, metrics.attempts)
        yield from self._tokens()
        cost = counter(
            "cost",
            "What attempts cost, in the currency of the pools' prices: their shares of what engines cost.",
            _BY_VERSION,
        )
        yield from with_samples(cost, metrics.costs)
        retries = {(end,): count for end, count in metrics.retries.items()}
        family = counter("retries", "Attempts followed by another, by how they ended.", ("reason",))
        yield from with_samples(family, retries)

    def _requests(self) -> Iterator[Piece]:
        totals: Counter[tuple[str, str, str, str, str]] = Counter()
        for (model, of, _, endpoint), series in list(self._metrics.series.items()):
            for (service_class, outcome), count in series.outcomes.items():
                totals[model, of, service_class, endpoint, outcome] += count
            yield None
        labels = ("model", "version", "class", "endpoint", "outcome")
        yield from with_samples(counter("requests", "Requests by how they ended for the user.", labels), totals)

    def _tokens(self) -> Iterator[Piece]:
        totals: Counter[tuple[str, str, str, str]] = Counter()
        for (model, of, _, _), series in list(self._metrics.series.items()):
            totals[model, of, "prompt", "usage"] += series.prompt_tokens
            totals[model, of, "output", "usage"] += series.output_tokens
            totals[model, of, "output", "estimated"] += series.output_estimated
            yield None
        labels = ("model", "version", "direction", "source")
        yield from with_samples(counter("tokens", "Tokens by direction and by who counted.", labels), totals)

    def _histograms(self) -> Iterator[Piece]:
        yield from self._streams()
        yield from self._durations()
        queue = {(name,): histogram for name, histogram in self._metrics.queue.items()}
        yield from with_histograms(HistogramFamily("tidegate_queue_seconds", "Time spent queued.", ("class",)), queue)
        overhead = HistogramFamily("tidegate_overhead_seconds", "Time neither queued nor in a backend's hands.")
        yield from with_histograms(overhead, {(): self._metrics.overhead})

    def _streams(self) -> Iterator[Piece]:
        ttft = HistogramFamily(
            "tidegate_time_to_first_token_seconds",
            "From the request being received to its first content event being written.",
            _BY_VERSION,
        )
        itl = HistogramFamily(
            "tidegate_inter_token_latency_seconds", "Between content events, as they arrive.", _BY_VERSION
        )
        tpot = HistogramFamily(
            "tidegate_time_per_output_token_seconds",
            "From the first content event to the last, per output token after the first.",
            _BY_VERSION,
        )
        parts: dict[tuple[str, str, str], list[Series]] = {}
        for (model, of, pool, _), series in self._metrics.series.items():
            parts.setdefault((model, of, pool), []).append(series)
        for key, found in parts.items():
            streamed = [series for series in found if any(series.ttft.counts)]
            if streamed:
                ttft.add_histogram(key, together([series.ttft for series in streamed]))
                itl.add_histogram(key, together([series.itl for series in streamed]))
                tpot.add_histogram(key, together([series.tpot for series in streamed]))
            yield None
        yield from (ttft, itl, tpot)

    def _durations(self) -> Iterator[Piece]:
        """Sum up what the pools of one version did."""
        parts: dict[tuple[str, str], list[Histogram]] = {}
        for (model, of, _, _), series in self._metrics.series.items():
            parts.setdefault((model, of), []).append(series.duration)
        text = "Of complete answers, to the last byte."
        family = HistogramFamily("tidegate_request_duration_seconds", text, ("model", "version"))
        for key, found in parts.items():
            family.add_histogram(key, together(found))
            yield None
        yield family


class Exposition:
    """Everything that a scrape is told, made in slices of the loop's time; a thread asks the system of the process."""

    def __init__(self, collectors: Sequence[Collector], slices: Slices) -> None:
        self._collectors = collectors
        self._slices = slices
        self._process = CollectorRegistry(auto_describe=False)
        for each in (ProcessCollector, PlatformCollector, GCCollector):
            each(registry=self._process)

    async def text(self, *, open_metrics: bool) -> list[bytes]:
        """Return it in blocks."""
        blocks = await self._slices.do(rendered(self._collectors, open_metrics=open_metrics))
        encode = open_metrics_latest if open_metrics else generate_latest
        return [*blocks, await asyncio.to_thread(encode, self._process)]


def _backends(gauges: Gauges) -> Iterator[Piece]:
    labels = ("backend", "pool")
    state = gauge("backend_state", "1 for the state a backend is in.", (*labels, "state"))
    in_flight = gauge("backend_in_flight", "Requests in progress.", labels)
    idle = gauge("backend_idle_connections", "Connections kept for reuse.", labels)
    opened = counter("backend_connections", "Connections opened.", labels)
    for backend in list(gauges.backends):
        names = (backend.id, backend.spec.pool)
        for each in State:
            state.add((*names, each), float(backend.readiness.state is each))
        in_flight.add(names, backend.in_flight)
        idle.add(names, backend.pool.idle)
        opened.add(names, backend.pool.opened)
        yield None
    yield from (state, in_flight, idle, opened)
    yield from _engines(gauges)


def _engines(gauges: Gauges) -> Iterator[Piece]:
    """Yield what engines report about themselves, without what is unknown or stale."""
    labels, now = ("backend", "pool"), gauges.now
    running = gauge("engine_running", "Requests that the engine runs.", labels)
    waiting = gauge("engine_waiting", "Requests that wait in the engine.", labels)
    usage = gauge("engine_kv_usage_ratio", "Share of its KV cache in use.", labels)
    for backend in list(gauges.backends):
        engine = backend.engine.fresh(now)
        if engine is None:
            continue
        for family, value in ((running, engine.running), (waiting, engine.waiting), (usage, engine.kv_usage)):
            if value is not None:
                family.add((backend.id, backend.spec.pool), value)
    yield from (running, waiting, usage)


def _process(gauges: Gauges) -> Iterator[Piece]:
    yield single(gauge("in_flight", "Requests in progress."), gauges.in_flight)
    yield single(gauge("client_connections", "Client connections open."), gauges.connections)
    yield single(gauge("tasks", "Tasks of the event loop."), gauges.tasks)
    yield single(gauge("routes_loaded", "1 when the last load was good."), float(gauges.routes_loaded))
    yield single(counter("reloads", "Good loads of the routes after the first."), gauges.reloads)
    yield single(counter("reload_failures", "Loads refused."), gauges.reload_failures)
    yield single(gauge("loop_lag_seconds", "Longest delay of the event loop in the last 10 s."), gauges.loop_lag)
    yield single(counter("access_log_dropped", "Lines dropped for a slow sink."), gauges.access_log_dropped)
    yield single(counter("spans_dropped", "Spans dropped: the trace collector is slow or down."), gauges.spans_dropped)
    text = "Exports of metrics that the OTLP collector did not take."
    yield single(counter("metric_exports_failed", text), gauges.metric_exports_failed)
    if gauges.state_saved_at is not None:
        yield single(gauge("state_saved_timestamp_seconds", "When state was last saved."), gauges.state_saved_at)
    yield single(counter("state_save_failures", "Saves that failed."), gauges.state_failures)
    handshakes = counter("tls_handshakes", "TLS handshakes by how they ended.", ("listener", "result"))
    yield from with_samples(handshakes, gauges.handshakes)
    results = {(result,): count for result, count in gauges.notifications.items()}
    alerts = counter("alert_notifications", "Alerts for the webhook, by what became of them.", ("result",))
    yield from with_samples(alerts, results)
    build = gauge("build_info", "Always 1.", ("version", "python"))
    build.add((_VERSION, platform.python_version()), 1)
    yield build
