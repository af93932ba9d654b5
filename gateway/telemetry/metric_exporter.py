"""Sends histograms to an OTLP collector now and then: one that is down or slow costs exports, never requests."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from gateway.clock import Clock, next_turn, wall
from gateway.config.table import ModelSpec
from gateway.telemetry import otlp, otlp_metrics
from gateway.telemetry.histogram import Histogram, together
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp import Attribute
from gateway.telemetry.otlp_client import OtlpClient
from gateway.telemetry.otlp_settings import OtlpSettings
from gateway.threads import in_thread
from gateway.wire.endpoints import OPERATIONS
from gateway.wire.slices import Slices, Work

_log = logging.getLogger(__name__)
CLOSE_SECONDS = 2.0
_OPERATION: Final = Attribute("gen_ai.operation.name")
_MODEL: Final = Attribute("gen_ai.request.model")
_SERVED: Final = Attribute("gen_ai.response.model")
_ERROR: Final = Attribute("error.type")
DURATION: Final = "gen_ai.server.request.duration"
TTFT: Final = "gen_ai.server.time_to_first_token"
TPOT: Final = "gen_ai.server.time_per_output_token"
_DESCRIPTIONS: Final = {
    DURATION: "From a request being received to the last byte of its answer.",
    TTFT: "From a request being received to its first token being sent.",
    TPOT: "From the first token to the last, per output token after the first.",
}
Found = dict[str, dict[bytes, list[Histogram]]]


class MetricExporter:
    """Exports what `Metrics` has counted since this process started. `failed` counts exports that were not taken."""

    def __init__(
        self,
        url: str,
        settings: OtlpSettings,
        metrics: Metrics,
        models: Callable[[], Mapping[str, ModelSpec]],
        slices: Slices,
        *,
        resource: bytes,
        server: bytes,
        settle: Callable[[], None],
        epoch: Clock = wall,
    ) -> None:
        """Take the models of the routes in force, and the attributes of this process and of its listener."""
        self.failed = 0
        self._settings = settings
        self._metrics = metrics
        self._models = models
        self._slices = slices
        self._resource = resource
        self._server = server
        self._settle = settle
        self._epoch = epoch
        self._collected = otlp.nanoseconds(epoch())
        self._begun: dict[tuple[str, bytes], tuple[tuple[float, ...], int]] = {}
        self._failing = False
        self._stopping = threading.Event()
        self._client = OtlpClient(url, settings, self._stopping.wait)

    def __repr__(self) -> str:
        return f"<MetricExporter {self.failed} exports failed>"

    async def run(self) -> None:
        """Export until cancelled."""
        while True:
            await next_turn(self._settings.delay)
            await self.export(self._settings.timeout)

    async def finish(self) -> None:
        """Export for the last time, for at most two seconds."""
        self._stopping.set()
        await self.export(min(CLOSE_SECONDS, self._settings.timeout))
        self._client.close()

    def writing(self) -> Work[bytes]:
        """Return a request with all histograms that have counted something, "" without any, made in small pieces."""
        found = yield from self._found()
        now, metrics = otlp.nanoseconds(self._epoch()), []
        for name, by_attributes in found.items():
            points = []
            for attributes, histograms in by_attributes.items():
                histogram = together(histograms)
                if any(histogram.counts):
                    start = self._start(name, attributes, histogram.bounds)
                    points.append(otlp_metrics.point(histogram, attributes, start, now))
                yield
            if points:
                metrics.append(otlp_metrics.metric(name, _DESCRIPTIONS[name], points))
        self._collected = now
        return otlp.request(self._resource, metrics) if metrics else b""

    async def export(self, within: float) -> None:
        """Send what was counted so far, within so many seconds."""
        self._settle()
        body = await self._slices.do(self.writing())
        if not body:
            return
        try:
            why = await in_thread(partial(self._client.send, body, within), "metrics")
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next export is made
            why = type(error).__name__
        if why:
            self.failed += 1
        if why and not self._failing:
            words = "metrics could not be sent to the OTLP collector; with OTEL_METRICS_EXPORTER=none none are sent"
            _log.error(words, extra={"reason": why})
        elif self._failing and not why:
            _log.info("metrics are sent to the OTLP collector again", extra={"failed": self.failed})
        self._failing = bool(why)

    def _found(self) -> Work[Found]:
        """Return the histograms of each metric by their attributes; what has the same ones is told together."""
        found: Found = {DURATION: {}, TTFT: {}, TPOT: {}}
        models = self._models()
        for (model, version, _, endpoint), series in list(self._metrics.series.items()):
            operation = OPERATIONS.get(endpoint)
            if operation is not None:
                attributes = self._attributes(operation, model, _served(models, model, version))
                _add(found[DURATION], attributes, series.duration)
                _add(found[TTFT], attributes, series.ttft)
                _add(found[TPOT], attributes, series.tpot)
                for outcome, histogram in series.failures.items():
                    _add(found[DURATION], attributes + _ERROR.known(outcome), histogram)
            yield
        return found

    def _attributes(self, operation: str, model: str, served: str) -> bytes:
        known = _OPERATION.known(operation) + _MODEL.known(model)
        return known + (_SERVED.known(served) if served else b"") + self._server

    def _start(self, name: str, attributes: bytes, bounds: tuple[float, ...]) -> int:
        """Return since when these counts are: a reload that changes bounds has them begin anew."""
        known = self._begun.get((name, attributes))
        if known is None or known[0] != bounds:
            known = self._begun[name, attributes] = bounds, self._collected
        return known[1]


def _add(found: dict[bytes, list[Histogram]], attributes: bytes, histogram: Histogram) -> None:
    found.setdefault(attributes, []).append(histogram)


def _served(models: Mapping[str, ModelSpec], model: str, version: str) -> str:
    """Return what engines call a version of a model, "" where the routes do not say any more."""
    spec = models.get(model)
    found = None if spec is None else spec.versions.get(version)
    return "" if found is None else found.served_model
