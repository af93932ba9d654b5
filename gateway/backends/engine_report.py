"""What an engine says of itself, for as long as that is news."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from gateway.backends.exposed import EngineMetrics
from gateway.policy.capacity.want import EngineLoad

STALE_AFTER: Final = 3.0
_INTERVALS: Final = 2.5
"""Intervals after which metrics are stale that are read more seldom."""


class EngineReport:
    """The latest `metrics` of one engine, None before the first, as of `read_at` (seconds of the clock).

    `progressed` is when they were last seen to change as those of an engine at work do, `queued` how many looks in a
    row found its own queue filled. They are stale after `lasts` seconds. `load` is what an engine of any
    kind says of its load, as of `load_at`, where its pool wants to know.
    """

    __slots__ = ("_looked_at", "lasts", "load", "load_at", "metrics", "progressed", "queued", "read_at")

    def __init__(self) -> None:
        self.metrics: EngineMetrics | None = None
        self.read_at = 0.0
        self.progressed = float("-inf")
        self.queued = 0
        self.lasts = STALE_AFTER
        self.load: EngineLoad | None = None
        self.load_at = 0.0
        self._looked_at = 0.0

    def __repr__(self) -> str:
        return f"<EngineReport of {self.read_at:.1f}: {self.metrics}>"

    def take(self, metrics: EngineMetrics, contexts: Iterable[int | None], now: float, *, every: float = 1.0) -> None:
        """Take what the engine says, `every` so many seconds; its models have these contexts in tokens, where known.

        A KV cache that cannot hold one request of the longest context is none that is counted in tokens.
        """
        longest = max((each for each in contexts if each is not None), default=0)
        if metrics.kv_capacity is not None and metrics.kv_capacity < longest:
            metrics = replace(metrics, kv_capacity=None)
        if self.metrics is not None and metrics.progress != self.metrics.progress:
            self.progressed = now
        self.metrics, self.read_at = metrics, now
        self.lasts = max(STALE_AFTER, _INTERVALS * every)

    def take_load(self, load: EngineLoad, now: float, *, every: float = 1.0) -> None:
        """Take what the engine says of its load, `every` so many seconds."""
        self.load, self.load_at = load, now
        self.lasts = max(STALE_AFTER, _INTERVALS * every)

    def fresh_load(self, now: float) -> EngineLoad | None:
        """Return what the engine says of its load; None once that is too old."""
        return self.load if now - self.load_at <= self.lasts else None

    def fresh(self, now: float) -> EngineMetrics | None:
        """Return what the engine says of itself; None once that is too old: stale means unknown."""
        return self.metrics if now - self.read_at <= self.lasts else None

    def look(self, now: float) -> float:
        """Look whether it queues; return how many requests it works on while none waits, 0 where it says nothing new.

        What is stale says nothing.
        """
        metrics, running = self.fresh(now), 0.0
        if metrics is None:
            self.queued = 0
        elif self.read_at != self._looked_at:
            self.queued = self.queued + 1 if metrics.waiting else 0
            if metrics.waiting == 0:
                running = metrics.running or 0.0
        self._looked_at = self.read_at
        return running
