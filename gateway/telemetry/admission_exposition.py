"""Slots, queues and whom they turned away, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.routing.pool_state import PoolState
from gateway.telemetry.families import Piece, counter, gauge

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


class AdmissionCollector:
    """What admission holds and lets through; `estimates` are errors of prompt estimates, by model."""

    def __init__(
        self,
        pools: Callable[[], Iterable[PoolState]],
        queues: Callable[[], Iterable[Queued]],
        estimates: Callable[[], Iterable[tuple[str, float | None]]],
    ) -> None:
        self._pools = pools
        self._queues = queues
        self._estimates = estimates

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        depth = gauge("queue_depth", "Requests that wait for a slot.", _CLASS)
        shed = counter("shed", "Requests turned away for overload.", (*_CLASS, "reason"))
        held = gauge("queue_held", "1 while a class is held back in the queue.", _CLASS)
        for queue in self._queues():
            for name, waiting in queue.waiting.items():
                depth.add((queue.model, queue.version, name), waiting)
                held.add((queue.model, queue.version, name), name in queue.held)
            for (name, reason), count in queue.shed.items():
                shed.add((queue.model, queue.version, name, reason), count)
            yield None
        yield from (depth, held, shed)
        yield from self._slots()
        error = gauge(
            "prompt_estimate_error_ratio",
            "Mean absolute percentage error of prompt lengths estimated from bytes.",
            ("model",),
        )
        for model, value in self._estimates():
            if value is not None:
                error.add((model,), value)
            yield None
        yield error

    def _slots(self) -> Iterator[Piece]:
        limit = gauge("backend_limit", "Requests that it may have at once.", _BACKEND)
        kv = gauge("backend_kv_tokens", "Tokens that its requests may come to, answers included.", _BACKEND)
        for peers in list(self._pools()):
            for health in list(peers.members.values()):
                names = (health.id, peers.pool)
                kv.add(names, health.slots.own_kv)
                if health.slots.limit < UNLIMITED:
                    limit.add(names, health.slots.limit)
                yield None
        yield from (limit, kv)
