"""What counting and deciding cost in microseconds, on real objects: no network, one core."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from time import perf_counter

from gateway.backends.registry import Registry
from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, VersionSpec
from gateway.control.outlier_detection import OutlierDetector
from gateway.exchange import AttemptEnd, AttemptRecord, Exchange, Outcome, Verdict
from gateway.lateness import Lateness
from gateway.policy.routing.choose import choose
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.windows import TICK, Windows
from gateway.proxy.tracing import Tracing, carried
from gateway.telemetry import otlp
from gateway.telemetry.request_traces import RequestTraces
from gateway.telemetry.slo_recorder import SloRecorder, follow
from gateway.wire.outbox import Outbox

_ROUNDS = 5
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of the report; `limit` in microseconds where there is one."""

    what: str
    microseconds: float
    limit: float | None = None

    @property
    def held(self) -> bool:
        """Whether it is within its limit."""
        return self.limit is None or self.microseconds <= self.limit


def report() -> list[Cost]:
    """Measure everything; takes a few seconds."""
    costs = [
        Cost("count an event", _count_event()),
        Cost("fold counted events into all ten windows of a series", _fold(), limit=2.0),
        Cost("settle a streamed request: 3 SLIs of its model, version, pool and backend", _Plane(1).settlement()),
        Cost("trace a request: ids, two spans, their bytes in a batch", _Plane(1).tracing()),
    ]
    for backends in (4, 50):
        plane = _Plane(backends)
        costs.append(Cost(f"choose one of {backends} backends", plane.choice()))
        costs.append(Cost(f"judge {backends} backends at 8,000 requests/s (4 times a second)", plane.judgement()))
    return costs


def _best(action: Callable[[], object], times: int) -> float:
    """Return microseconds of one call in the best round: what others do on the machine only adds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = perf_counter()
        for _ in range(times):
            action()
        best = min(best, perf_counter() - began)
    return best / times * 1e6


def _count_event() -> float:
    windows = Windows(0.0)

    def count() -> None:
        windows.good += 1

    return _best(count, 200_000)


def _fold() -> float:
    windows = Windows(0.0)
    now = 0.0

    def fold() -> None:
        nonlocal now
        now += TICK
        windows.good += 1
        windows.advance(now)

    return _best(fold, 20_000)


class _Plane:
    """One pool and whatever judges it, on a clock that is moved by hand."""

    def __init__(self, backends: int) -> None:
        pool = PoolSpec("gpu", tuple(BackendSpec("gpu", f"http://e{n}:80", f"e{n}", 80) for n in range(backends)))
        model = ModelSpec("m", {"v1": VersionSpec("v1", ("gpu",), "m")}, (("v1", 1.0),))
        table = RouteTable({"gpu": pool}, {"m": model}, {"m": model})
        self._now = 1.0
        self._rng = Random(1)
        self._registry = Registry(Outbox(), self._clock, Lateness())
        self._registry.reconcile(table)
        self._ledger = SloLedger(self._now)
        follow(self._ledger, table, self._now)
        self._recorder = SloRecorder(self._ledger)
        self._detector = OutlierDetector(
            self._ledger, self._registry, clock=self._clock, epoch=self._clock, rng=self._rng
        )
        self._backends = list(self._registry)

    def _clock(self) -> float:
        return self._now

    def choice(self) -> float:
        return _best(lambda: choose(self._backends, 200, self._now, self._rng), 20_000)

    def settlement(self) -> float:
        backend, exchange = self._backends[0], self._answered()

        def settle() -> None:
            self._recorder.on_attempt_ended(exchange, backend, AttemptEnd.OK)
            self._recorder.on_settled(exchange)

        return _best(settle, 50_000)

    def tracing(self) -> float:
        spans: list[bytes] = []
        sampled, traces, exchange = Tracing(1.0, self._rng), RequestTraces(spans.extend), self._answered()

        def trace() -> None:
            exchange.trace, _, _ = carried(None, sampled)
            traces.on_settled(exchange)
            if len(spans) >= _BATCH:
                otlp.request(b"", spans)
                spans.clear()

        return _best(trace, 20_000)

    def judgement(self, rate: float = 8000.0) -> float:
        """Return what one tick takes after a quarter second of traffic, evenly spread."""
        best = float("inf")
        for _ in range(_ROUNDS * 4):
            for number in range(int(rate * TICK)):
                self._serve(number % len(self._backends))
            self._now += TICK
            began = perf_counter()
            self._detector.detect()
            best = min(best, perf_counter() - began)
        return best * 1e6

    def _serve(self, at: int) -> None:
        backend, exchange = self._backends[at], self._answered()
        exchange.backend = backend.id
        lease = backend.health.lease(200)
        backend.health.began(lease, 0.05 + 0.01 * self._rng.random())
        lease.release()
        backend.health.ended(lease, Verdict.GOOD, self._now, self._rng, tpot=0.02)
        self._recorder.on_attempt_ended(exchange, backend, AttemptEnd.OK)
        self._recorder.on_settled(exchange)

    def _answered(self) -> Exchange:
        exchange = Exchange("r", "/v1/chat/completions", self._now)
        exchange.model, exchange.version, exchange.pool, exchange.backend = "m", "v1", "gpu", self._backends[0].id
        exchange.stream, exchange.outcome, exchange.output_tokens = True, Outcome.OK, 100
        exchange.first_content, exchange.last_content = self._now + 0.1, self._now + 1.0
        attempt = AttemptRecord(exchange.backend, exchange.pool, self._now)
        exchange.attempts, exchange.ended = [attempt], self._now + 1.0
        attempt.ended_at = exchange.ended
        return exchange
