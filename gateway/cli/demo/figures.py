"""What the gateway has measured, read from its metrics as any Prometheus would."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_BAD = frozenset(("no_backend", "backend_error", "timeout", "truncated", "internal", "shed"))
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BackendFigures:
    """One engine: its state, requests in flight, attempts so far."""

    name: str
    pool: str
    state: str
    in_flight: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts so far, quantiles in seconds (None before there are any), availability from 0 to 1."""

    requests: int = 0
    availability: float | None = None
    in_flight: int = 0
    ttft_p50: float | None = None
    ttft_p99: float | None = None
    itl_p99: float | None = None
    backends: tuple[BackendFigures, ...] = field(default=())


def read(text: str) -> Figures:
    """Return the figures in an exposition of the gateway's metrics."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    outcomes = _sum_by(samples.get("tidegate_requests_total", {}), "outcome")
    bad = sum(count for outcome, count in outcomes.items() if outcome in _BAD)
    judged = outcomes.get("ok", 0.0) + bad
    ttft = _buckets(samples.get("tidegate_time_to_first_token_seconds_bucket", {}))
    itl = _buckets(samples.get("tidegate_inter_token_latency_seconds_bucket", {}))
    return Figures(
        requests=int(sum(outcomes.values())),
        availability=1 - bad / judged if judged else None,
        in_flight=int(sum(samples.get("tidegate_backend_in_flight", {}).values())),
        ttft_p50=quantile(ttft, 0.5),
        ttft_p99=quantile(ttft, 0.99),
        itl_p99=quantile(itl, 0.99),
        backends=_backends(samples),
    )


def quantile(buckets: Mapping[float, float], q: float) -> float | None:
    """Return the q-quantile by linear interpolation within its bucket, as PromQL's histogram_quantile does."""
    total = max(buckets.values(), default=0.0)
    if not total:
        return None
    rank, below, lower = q * total, 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= rank:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / max(count - below, 1e-9)
        below, lower = count, bound
    return lower


def _buckets(samples: Mapping[Labels, float]) -> dict[float, float]:
    return {float(bound): count for bound, count in _sum_by(samples, "le").items()}


def _sum_by(samples: Mapping[Labels, float], label: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for labels, value in samples.items():
        key = dict(labels).get(label, "")
        totals[key] = totals.get(key, 0.0) + value
    return totals


def _backends(samples: Mapping[str, Mapping[Labels, float]]) -> tuple[BackendFigures, ...]:
    attempts = _sum_by(samples.get("tidegate_attempts_total", {}), "backend")
    states = {
        dict(labels)["backend"]: dict(labels)["state"]
        for labels, value in samples.get("tidegate_backend_state", {}).items()
        if value
    }
    return tuple(
        BackendFigures(
            name=dict(labels)["backend"],
            pool=dict(labels)["pool"],
            state=states.get(dict(labels)["backend"], "unknown"),
            in_flight=int(value),
            attempts=int(attempts.get(dict(labels)["backend"], 0)),
        )
        for labels, value in sorted(samples.get("tidegate_backend_in_flight", {}).items())
    )
