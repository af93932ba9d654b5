"""Slots, queues and whom they turned away, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.routing.pool_state import PoolState

_BACKEND = ("backend", "pool")
_CLASS = ("model", "version", "class")


@dataclass(frozen=True, slots=True)
class Queued:
    """The queue of one version: how many wait, by class, and how many were turned away, by class and reason.

    `held` are the classes that are held back.
    """

    model: str
    version: str
    waiting: Mapping[str, int]
    shed: Mapping[tuple[str, str], int]
    held: Collection[str] = ()


class AdmissionCollector(Collector):
    """What admission holds and lets through; `estimates` are errors of prompt estimates, by model."""

    def __init__(
        self,
        pools: Callable[[], Iterable[PoolState]],
        queues: Callable[[], Iterable[Queued]],
        estimates: Callable[[], Mapping[str, float | None]],
    ) -> None:
        self._pools = pools
        self._queues = queues
        self._estimates = estimates

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        depth = GaugeMetricFamily("tidegate_queue_depth", "Requests that wait for a slot.", labels=_CLASS)
        shed = CounterMetricFamily("tidegate_shed", "Requests turned away for overload.", labels=(*_CLASS, "reason"))
        held = GaugeMetricFamily("tidegate_queue_held", "1 while a class is held back in the queue.", labels=_CLASS)
        for queue in self._queues():
            for name, waiting in queue.waiting.items():
                depth.add_metric((queue.model, queue.version, name), waiting)
                held.add_metric((queue.model, queue.version, name), name in queue.held)
            for (name, reason), count in queue.shed.items():
                shed.add_metric((queue.model, queue.version, name, reason), count)
        yield from (depth, held, shed)
        yield from self._slots()
        error = GaugeMetricFamily(
            "tidegate_prompt_estimate_error_ratio",
            "Mean absolute percentage error of prompt lengths estimated from bytes.",
            labels=("model",),
        )
        for model, value in self._estimates().items():
            if value is not None:
                error.add_metric((model,), value)
        yield error

    def _slots(self) -> Iterable[Metric]:
        limit = GaugeMetricFamily("tidegate_backend_limit", "Requests that it may have at once.", labels=_BACKEND)
        kv = GaugeMetricFamily(
            "tidegate_backend_kv_tokens", "Tokens that its requests may come to, answers included.", labels=_BACKEND
        )
        for peers in self._pools():
            for health in peers.members.values():
                names = (health.id, peers.pool)
                kv.add_metric(names, health.slots.kv)
                if health.slots.limit < UNLIMITED:
                    limit.add_metric(names, health.slots.limit)
        yield from (limit, kv)
