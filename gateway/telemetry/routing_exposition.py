"""What routing believes of each backend, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from gateway.policy.routing.ejection import Cause, State
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState
from gateway.telemetry.families import Piece, counter, gauge

_BACKEND = ("backend", "pool")


class RoutingCollector:
    """Weights, standings and models of every pool, and what ejections there were."""

    def __init__(
        self,
        pools: Callable[[], Iterable[PoolState]],
        ejections: Mapping[tuple[str, str, Cause], int],
        refused_retries: Callable[[], Iterable[tuple[str, int]]],
    ) -> None:
        self._pools = pools
        self._ejections = ejections
        self._refused_retries = refused_retries

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        yield from self._standings()
        yield from self._models()
        ejections = counter("ejections", "Backends taken out of service.", (*_BACKEND, "reason"))
        for key, count in list(self._ejections.items()):
            ejections.add(key, count)
            yield None
        yield ejections
        refused = counter("retries_refused", "Retries that the retry budget did not allow.", ("model",))
        for model, count in self._refused_retries():
            refused.add((model,), count)
            yield None
        yield refused

    def _members(self) -> Iterable[tuple[tuple[str, str], Health]]:
        for peers in list(self._pools()):
            for health in list(peers.members.values()):
                yield (health.id, peers.pool), health

    def _standings(self) -> Iterator[Piece]:
        weight = gauge("backend_weight", "Share of its due that it gets, 0.02 to 1.", _BACKEND)
        burn = gauge("backend_routing_burn", "The burn rate that its weight follows.", _BACKEND)
        standing = gauge("backend_ejection", "1 for where a backend stands.", (*_BACKEND, "state"))
        panic = gauge("pool_panic", "1 while ejections are ignored.", ("pool",))
        for names, health in self._members():
            weight.add(names, health.outlier.weight)
            burn.add(names, health.symptoms.signal.burn)
            for state in State:
                standing.add((*names, state), float(health.outlier.ejection.state is state))
            yield None
        for peers in list(self._pools()):
            panic.add((peers.pool,), float(peers.panic))
        yield from (weight, burn, standing, panic)

    def _models(self) -> Iterator[Piece]:
        error = gauge(
            "backend_prediction_error_ratio",
            "Median absolute percentage error of the last hundred TTFTs predicted.",
            _BACKEND,
        )
        residual = gauge("backend_residual_ratio", "TTFT over that of its peers at the same work.", _BACKEND)
        prefilling = gauge("backend_prefill_tokens", "Prompt tokens of requests without a first token yet.", _BACKEND)
        for names, health in self._members():
            prefilling.add(names, health.latency.prefilling)
            for family, value in ((error, health.latency.ttft.error), (residual, health.residual_ratio)):
                if value is not None:
                    family.add(names, value)
            yield None
        yield from (error, residual, prefilling)
