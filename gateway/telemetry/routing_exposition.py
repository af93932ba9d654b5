"""What routing believes of each backend, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.policy.routing.ejection import Cause, State
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState

_BACKEND = ("backend", "pool")


class RoutingCollector(Collector):
    """Weights, standings and models of every pool, and what ejections there were."""

    def __init__(
        self,
        pools: Callable[[], Iterable[PoolState]],
        ejections: Mapping[tuple[str, str, Cause], int],
        refused_retries: Callable[[], Mapping[str, int]],
    ) -> None:
        self._pools = pools
        self._ejections = ejections
        self._refused_retries = refused_retries

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        yield from self._standings()
        yield from self._models()
        ejections = CounterMetricFamily(
            "tidegate_ejections", "Backends taken out of service.", labels=(*_BACKEND, "reason")
        )
        for key, count in self._ejections.items():
            ejections.add_metric(key, count)
        yield ejections
        refused = CounterMetricFamily(
            "tidegate_retries_refused", "Retries that the retry budget did not allow.", labels=("model",)
        )
        for model, count in self._refused_retries().items():
            refused.add_metric((model,), count)
        yield refused

    def _members(self) -> Iterable[tuple[tuple[str, str], Health]]:
        for peers in self._pools():
            for health in peers.members.values():
                yield (health.id, peers.pool), health

    def _standings(self) -> Iterable[Metric]:
        weight = GaugeMetricFamily(
            "tidegate_backend_weight", "Share of its due that it gets, 0.02 to 1.", labels=_BACKEND
        )
        burn = GaugeMetricFamily(
            "tidegate_backend_routing_burn", "The burn rate that its weight follows.", labels=_BACKEND
        )
        standing = GaugeMetricFamily(
            "tidegate_backend_ejection", "1 for where a backend stands.", labels=(*_BACKEND, "state")
        )
        panic = GaugeMetricFamily("tidegate_pool_panic", "1 while ejections are ignored.", labels=("pool",))
        for names, health in self._members():
            weight.add_metric(names, health.outlier.weight)
            burn.add_metric(names, health.symptoms.signal.burn)
            for state in State:
                standing.add_metric((*names, state), float(health.outlier.ejection.state is state))
        for peers in self._pools():
            panic.add_metric((peers.pool,), float(peers.panic))
        yield from (weight, burn, standing, panic)

    def _models(self) -> Iterable[Metric]:
        error = GaugeMetricFamily(
            "tidegate_backend_prediction_error_ratio",
            "Median absolute percentage error of the last hundred TTFTs predicted.",
            labels=_BACKEND,
        )
        residual = GaugeMetricFamily(
            "tidegate_backend_residual_ratio", "TTFT over that of its peers at the same work.", labels=_BACKEND
        )
        prefilling = GaugeMetricFamily(
            "tidegate_backend_prefill_tokens", "Prompt tokens of requests without a first token yet.", labels=_BACKEND
        )
        for names, health in self._members():
            prefilling.add_metric(names, health.latency.prefilling)
            for family, value in ((error, health.latency.ttft.error), (residual, health.residual_ratio)):
                if value is not None:
                    family.add_metric(names, value)
        yield from (error, residual, prefilling)
