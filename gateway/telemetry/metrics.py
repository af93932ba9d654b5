"""What the data plane counts: plain numbers in plain containers, turned into Prometheus metrics only at a scrape."""

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Final

from gateway.backends.backend import Backend
from gateway.config.table import RouteTable
from gateway.exchange import SERVED, AttemptEnd, Exchange, Outcome
from gateway.observers import Observer
from gateway.policy.slo import buckets
from gateway.policy.slo.buckets import Bounds
from gateway.telemetry.histogram import Histogram
from gateway.wire.slices import Work, finish

_USUAL: Final = Bounds()
COLD_START: Final[tuple[float, ...]] = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0)
"""Seconds: from an engine that sleeps to one whose machine has to be started."""


class Series:
    """What is counted of one (model, version, pool, endpoint); `outcomes` by (class, outcome).

    `failures` are how long it took until requests ended in another way than well: those are not in `duration`.
    """

    __slots__ = (
        "bounds",
        "duration",
        "failures",
        "itl",
        "outcomes",
        "output_estimated",
        "output_tokens",
        "prompt_tokens",
        "tpot",
        "ttft",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.outcomes: dict[tuple[str, Outcome], int] = {}
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.output_estimated = 0
        self.rebucket(bounds)

    def rebucket(self, bounds: Bounds) -> None:
        """Restart the histograms with other bounds; to Prometheus that is a restart of these counters."""
        self.bounds = bounds
        self.ttft = Histogram(bounds.ttft)
        self.itl = Histogram(bounds.itl)
        self.tpot = Histogram(bounds.tpot)
        self.duration = Histogram(bounds.duration)
        self.failures: dict[Outcome, Histogram] = {}

    def failed(self, outcome: Outcome, seconds: float) -> None:
        """Count how long a request took that ended so."""
        histogram = self.failures.get(outcome)
        if histogram is None:
            histogram = self.failures[outcome] = Histogram(self.bounds.duration)
        histogram.observe(seconds)


MOST_ATTEMPTS: Final = 10_000
"""Series of attempts from which those of backends that are gone are forgotten."""


class Metrics(Observer):
    """Keys are tuples of configured names and closed sets, so that their number is bounded.

    `cold_starts` are how long requests were held until an engine was there, by model: such are in no other histogram.
    `costs` are what attempts cost, by (model, version, pool), in the currency of the pools' prices.
    """

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str, str], Series] = {}
        self.attempts: dict[tuple[str, str, str, AttemptEnd], int] = {}
        self.costs: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self.retries: Counter[AttemptEnd] = Counter()
        self.queue: dict[str, Histogram] = {}
        self.cold_starts: dict[str, Histogram] = {}
        self.overhead = Histogram(buckets.OVERHEAD)
        self._bounds: dict[str, Bounds] = {}

    def forget_gone(self, backends: Collection[str]) -> None:
        """Forget attempts at all but these backends, once there are many: those that are found have ever new names."""
        if len(self.attempts) > MOST_ATTEMPTS:
            self.attempts = {key: count for key, count in self.attempts.items() if key[0] in backends}

    def follow(self, table: RouteTable) -> None:
        """Give every model's histograms the bounds that its objectives need."""
        self.adopt(finish(self.prepare(table)))
        finish(self.rebucketing())

    def prepare(self, table: RouteTable) -> Work[dict[str, Bounds]]:
        """Return these bounds by model, found in small pieces."""
        bounds: dict[str, Bounds] = {}
        for name, spec in table.models.items():
            found = buckets.bounds_for(spec.objectives)
            usual = self._bounds.get(name, found)
            bounds[name] = usual if usual == found else found
            yield
        return bounds

    def adopt(self, bounds: dict[str, Bounds]) -> None:
        """Count in other bounds from now on; `rebucketing` has to follow."""
        self._bounds = bounds

    def rebucketing(self) -> Work[None]:
        """Have what is counted already go on in these bounds, in small pieces."""
        for (model, _, _, _), series in list(self.series.items()):
            found = self._bounds.get(model, series.bounds)
            if found is not series.bounds and found != series.bounds:
                series.rebucket(found)
            yield

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Count an attempt."""
        ended = (backend.id, exchange.pool, exchange.version, end)
        self.attempts[ended] = self.attempts.get(ended, 0) + 1
        cost = exchange.attempt_cost
        if cost:
            self.costs[exchange.model, exchange.version, exchange.pool] += cost

    def on_retried(self, _exchange: Exchange, end: AttemptEnd) -> None:
        """Count a retry by what made it necessary."""
        self.retries[end] += 1

    def on_settled(self, exchange: Exchange) -> None:
        """Count a request and, where it was answered whole, how long it took."""
        key = (exchange.model, exchange.version, exchange.pool, exchange.endpoint)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(self._bounds.get(exchange.model, _USUAL))
        outcome = exchange.outcome
        ended = (exchange.service_class, outcome)
        series.outcomes[ended] = series.outcomes.get(ended, 0) + 1
        self.overhead.observe(exchange.overhead)
        if exchange.prompt_tokens is not None:
            series.prompt_tokens += exchange.prompt_tokens
        if exchange.output_tokens is not None:
            series.output_tokens += exchange.output_tokens
        else:
            series.output_estimated += exchange.content_events
        if exchange.held:
            self._observe_cold_start(exchange)
            return
        if outcome is not SERVED:
            series.failed(outcome, exchange.ended - exchange.received)
            return
        series.duration.observe(exchange.ended - exchange.received)
        queue = self.queue.get(exchange.service_class)
        if queue is None:
            queue = self.queue[exchange.service_class] = Histogram(buckets.DURATION)
        queue.observe(exchange.queued)
        if exchange.stream:
            _observe_stream(series, exchange)

    def _observe_cold_start(self, exchange: Exchange) -> None:
        """Keep a wait for an engine apart: it says nothing of how quick those are that run."""
        held = self.cold_starts.get(exchange.model)
        if held is None:
            held = self.cold_starts[exchange.model] = Histogram(COLD_START)
        held.observe(exchange.held)


def _observe_stream(series: Series, exchange: Exchange) -> None:
    ttft, tpot = exchange.ttft, exchange.tpot
    if ttft is not None:
        series.ttft.observe(ttft)
    if tpot is not None:
        series.tpot.observe(tpot)
    if exchange.itl:
        series.itl.merge(exchange.itl, exchange.itl_sum, exchange.itl_bounds)
