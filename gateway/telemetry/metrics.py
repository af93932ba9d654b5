"""What the data plane counts: plain numbers in plain containers, turned into Prometheus metrics only at a scrape."""

from collections import Counter

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.policy.slo import buckets
from gateway.telemetry.histogram import Histogram


class Latency:
    """The latency of one (model, version, pool)."""

    __slots__ = ("itl", "tpot", "ttft")

    def __init__(self) -> None:
        self.ttft = Histogram(buckets.TTFT)
        self.itl = Histogram(buckets.ITL)
        self.tpot = Histogram(buckets.TPOT)


class Metrics:
    """An observer. Keys are tuples of configured names and closed sets, so that their number is bounded."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str, str, Outcome]] = Counter()
        self.attempts: Counter[tuple[str, str, str, AttemptEnd]] = Counter()
        self.retries: Counter[AttemptEnd] = Counter()
        self.tokens: Counter[tuple[str, str, str, str]] = Counter()
        self.latency: dict[tuple[str, str, str], Latency] = {}
        self.duration: dict[tuple[str, str], Histogram] = {}
        self.queue: dict[str, Histogram] = {}
        self.overhead = Histogram(buckets.OVERHEAD)

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Count an attempt."""
        self.attempts[backend.id, backend.spec.pool, exchange.version, end] += 1

    def retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        """Count a retry by what made it necessary."""
        self.retries[end] += 1

    def settled(self, exchange: Exchange) -> None:
        """Count a request and, where it was answered whole, how long it took."""
        model, version, outcome = exchange.model, exchange.version, exchange.outcome
        self.requests[model, version, exchange.service_class, exchange.endpoint, outcome] += 1
        self.overhead.observe(exchange.overhead)
        self._count_tokens(exchange)
        if outcome is not Outcome.OK:
            return
        duration = self.duration.get((model, version))
        if duration is None:
            duration = self.duration[model, version] = Histogram(buckets.DURATION)
        duration.observe(exchange.ended - exchange.received)
        queue = self.queue.get(exchange.service_class)
        if queue is None:
            queue = self.queue[exchange.service_class] = Histogram(buckets.DURATION)
        queue.observe(exchange.queued)
        if exchange.stream:
            self._observe_stream(exchange)

    def _observe_stream(self, exchange: Exchange) -> None:
        key = (exchange.model, exchange.version, exchange.pool)
        latency = self.latency.get(key)
        if latency is None:
            latency = self.latency[key] = Latency()
        ttft, tpot = exchange.ttft, exchange.tpot
        if ttft is not None:
            latency.ttft.observe(ttft)
        if tpot is not None:
            latency.tpot.observe(tpot)
        latency.itl.merge(exchange.itl, exchange.itl_sum)

    def _count_tokens(self, exchange: Exchange) -> None:
        model, version = exchange.model, exchange.version
        if exchange.prompt_tokens:
            self.tokens[model, version, "prompt", "usage"] += exchange.prompt_tokens
        if exchange.output_tokens is not None:
            self.tokens[model, version, "output", "usage"] += exchange.output_tokens
        elif exchange.content_events:
            self.tokens[model, version, "output", "estimated"] += exchange.content_events
