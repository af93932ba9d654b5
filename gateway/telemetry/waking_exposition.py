"""Cold starts, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from gateway.policy.routing.pool_state import PoolState
from gateway.telemetry.families import HistogramFamily, Piece, counter, gauge, with_histograms
from gateway.telemetry.histogram import Histogram

_POOL = ("pool",)


class WakingCollector:
    """Requests that are held, and engines that were woken for them, by pool; only pools that scale from zero."""

    def __init__(
        self,
        pools: Callable[[], Iterable[PoolState]],
        wants: Callable[[str], int],
        calls: Mapping[tuple[str, str], int],
        cold_starts: Mapping[str, Histogram],
    ) -> None:
        """Take how many engines are wanted, how asking for them went, and how long requests were held, by model."""
        self._pools = pools
        self._wants = wants
        self._calls = calls
        self._cold_starts = cold_starts

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        held = gauge("held_requests", "Requests that wait until a pool has an engine.", _POOL)
        refused = counter("held_refused", "Requests that were not held because too many were.", _POOL)
        wanted = gauge("wake_wanted", "1 while this gateway wants an engine for requests that are held.", _POOL)
        wakes = counter("wakes", "Times that a pool without an engine was woken, by result.", (*_POOL, "result"))
        calls = counter("wake_calls", "Times that an engine was asked for, by how that went.", (*_POOL, "result"))
        for pool in self._pools():
            waking = pool.waking
            if waking is None:
                continue
            labels = (pool.pool,)
            held.add(labels, waking.held)
            refused.add(labels, waking.refused)
            wanted.add(labels, self._wants(pool.pool))
            wakes.add((*labels, "served"), waking.served)
            wakes.add((*labels, "failed"), waking.failed)
            yield None
        for (name, result), count in sorted(self._calls.items()):
            calls.add((name, result), count)
        yield from (held, refused, wanted, wakes, calls)
        cold = HistogramFamily("tidegate_cold_start_seconds", "Time that requests were held.", ("model",))
        yield from with_histograms(cold, {(name,): each for name, each in self._cold_starts.items()})
