"""What the gateway has measured, read from its metrics as any Prometheus would."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from gateway.cli.demo.exposition import Buckets, Samples, buckets_of, sum_by

_BAD = frozenset(("no_backend", "backend_error", "timeout", "truncated", "internal", "shed"))
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class BackendReading:
    """One engine at one moment; `attempts` since the gateway began."""

    name: str
    pool: str
    state: str
    in_flight: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One scrape, `at` seconds on the monotonic clock. All but states and in flight are counts since it began."""

    at: float
    outcomes: Mapping[str, float]
    ttft: Mapping[str, Buckets]
    itl: Buckets
    in_flight: int
    backends: tuple[BackendReading, ...]


@dataclass(frozen=True, slots=True)
class BackendFigures:
    """One engine over a while: attempts a second, its share of all (0 to 1), its pool's TTFT in seconds."""

    name: str
    pool: str
    state: str
    in_flight: int
    rate: float
    share: float | None
    pool_ttft_p50: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All over `seconds`: requests settled and a second, quantiles in seconds, availability from 0 to 1.

    None stands for what there is not: quantiles of nothing, availability without requests.
    """

    seconds: float
    requests: int
    rate: float
    availability: float | None
    in_flight: int
    ttft_p50: float | None
    ttft_p99: float | None
    itl_p99: float | None
    backends: tuple[BackendFigures, ...]


def read(samples: Samples, at: float) -> Reading:
    """Return what the gateway's metrics say."""
    ttft = samples.get("tidegate_time_to_first_token_seconds_bucket", {})
    return Reading(
        at=at,
        outcomes=sum_by(samples.get("tidegate_requests_total", {}), "outcome"),
        ttft={
            pool: buckets_of({labels: count for labels, count in ttft.items() if ("pool", pool) in labels})
            for pool in sum_by(ttft, "pool")
        },
        itl=buckets_of(samples.get("tidegate_inter_token_latency_seconds_bucket", {})),
        in_flight=int(samples.get("tidegate_in_flight", {}).get((), 0.0)),
        backends=_backends(samples),
    )


def compare(now: Reading, before: Reading) -> Figures:
    """Return the figures of the time between two readings."""
    seconds = now.at - before.at
    outcomes = less(now.outcomes, before.outcomes)
    requests, bad = sum(outcomes.values()), sum(outcomes.get(outcome, 0.0) for outcome in _BAD)
    judged = outcomes.get("ok", 0.0) + bad
    pools = {pool: less(buckets, before.ttft.get(pool, {})) for pool, buckets in now.ttft.items()}
    ttft: dict[float, float] = {}
    for buckets in pools.values():
        for bound, count in buckets.items():
            ttft[bound] = ttft.get(bound, 0.0) + count
    earlier = {backend.name: backend.attempts for backend in before.backends}
    attempts = {backend.name: backend.attempts - earlier.get(backend.name, 0) for backend in now.backends}
    everything = sum(attempts.values())
    return Figures(
        seconds=seconds,
        requests=int(requests),
        rate=_rate(requests, seconds),
        availability=1 - bad / judged if judged else None,
        in_flight=now.in_flight,
        ttft_p50=quantile(ttft, 0.5),
        ttft_p99=quantile(ttft, 0.99),
        itl_p99=quantile(less(now.itl, before.itl), 0.99),
        backends=tuple(
            BackendFigures(
                name=backend.name,
                pool=backend.pool,
                state=backend.state,
                in_flight=backend.in_flight,
                rate=_rate(attempts[backend.name], seconds),
                share=attempts[backend.name] / everything if everything else None,
                pool_ttft_p50=quantile(pools.get(backend.pool, {}), 0.5),
            )
            for backend in now.backends
        ),
    )


def quantile(buckets: Buckets, q: float) -> float | None:
    """Return the q-quantile by linear interpolation within its bucket, as PromQL's histogram_quantile does."""
    total = max(buckets.values(), default=0.0)
    if not total:
        return None
    rank, below, lower = q * total, 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= rank and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound
    return lower


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def less(now: Mapping[_Key, float], before: Mapping[_Key, float]) -> dict[_Key, float]:
    """Return how much each count grew."""
    return {key: count - before.get(key, 0.0) for key, count in now.items()}


def _backends(samples: Samples) -> tuple[BackendReading, ...]:
    attempts = sum_by(samples.get("tidegate_attempts_total", {}), "backend")
    states = {
        dict(labels)["backend"]: dict(labels)["state"]
        for labels, value in samples.get("tidegate_backend_state", {}).items()
        if value
    }
    return tuple(
        BackendReading(
            name=dict(labels)["backend"],
            pool=dict(labels)["pool"],
            state=states.get(dict(labels)["backend"], "unknown"),
            in_flight=int(value),
            attempts=int(attempts.get(dict(labels)["backend"], 0)),
        )
        for labels, value in sorted(samples.get("tidegate_backend_in_flight", {}).items())
    )
