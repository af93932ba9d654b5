"""The loop behind admission: limits that follow what engines bear, classes held back, slots that time has freed."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from gateway.backends.backend import Backend
from gateway.backends.exposed import EngineMetrics
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.hold import held_below
from gateway.policy.admission.limit import FIRST, MOST, QUEUED_SCRAPES, AdaptiveLimit
from gateway.policy.slo.alerts import FASTEST, STAYING_BAD
from gateway.policy.slo.burn import burn
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.windows import MINUTE, TICK
from gateway.proxy.line import Line, holders_of, seen
from gateway.proxy.live import LiveModel, LiveTable
from gateway.telemetry.admission_exposition import Queued
from gateway.telemetry.slo import Kind, SloBook, Tracked

_log = logging.getLogger(__name__)
_LATENCIES = frozenset((Sli.TTFT, Sli.TPOT, Sli.ITL))


class Admitter:
    """Keeps every backend's limit, and what is held back; `limits` are the adaptive ones, by backend."""

    def __init__(
        self,
        registry: Registry,
        table: Callable[[], LiveTable],
        book: SloBook,
        *,
        classes: Callable[[], Mapping[str, ServiceClass]],
        clock: Clock,
    ) -> None:
        self.limits: dict[str, AdaptiveLimit] = {}
        self._registry = registry
        self._table = table
        self._classes = classes
        self._book = book
        self._clock = clock
        self._at = clock()
        self._streaks: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        """Admit until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.admit()

    def follow(self) -> None:
        """Give every backend its limit, without waiting for the next look; forget those that are gone."""
        now, here = self._clock(), {backend.id for backend in self._registry}
        self.limits = {each: limit for each, limit in self.limits.items() if each in here}
        self._streaks = {each: streak for each, streak in self._streaks.items() if each in here}
        for backend in self._registry:
            self._limit(backend, now)

    def admit(self) -> None:
        """Look once."""
        now = self._clock()
        elapsed, self._at = now - self._at, now
        for backend in self._registry:
            self._limit(backend, now)
            holders_of(backend.health).tick(now, max(elapsed, 0.0))
        for model in self._table():
            self._hold(model)
            for line in _lines(model):
                if line.queue.size:
                    line.freed(now)

    def _limit(self, backend: Backend, now: float) -> None:
        health, fixed = backend.health, backend.spec.max_concurrency
        engine = backend.engine_now(now)
        if engine is not None:
            health.slots.limit_kv_to(engine.kv_capacity)
        limit, most = self.limits.get(backend.id), MOST if fixed is None else fixed
        if limit is None or limit.most != most:
            limit = self.limits[backend.id] = AdaptiveLimit(FIRST if fixed is None else fixed, most=most)
        queued, running = self._look(backend, engine)
        limit.tick(seen(health, queued, running=running, fixed=fixed is not None), now)
        health.slots.limit_to(int(limit.value))
        health.slots.looked_at()

    def _look(self, backend: Backend, engine: EngineMetrics | None) -> tuple[int, float]:
        """Return how many looks in a row found the engine's own queue filled, and how many requests a new look found
        at work while none waited. What is stale says nothing."""
        at, streak = self._streaks.get(backend.id, (0.0, 0))
        running = 0.0
        if engine is None:
            streak = 0
        elif backend.engine_read != at:
            streak = streak + 1 if engine.waiting else 0
            if engine.waiting == 0:
                running = engine.running or 0.0
        self._streaks[backend.id] = backend.engine_read, streak
        return streak, running

    def _hold(self, model: LiveModel) -> None:
        """Hold sheddable classes back while a higher one misses its latencies, where that helps it."""
        burning = {
            objective.name
            for objective in (model.objective, *model.objective_by_class.values())
            if objective.hold and any(map(_pages, self._latencies(model, objective.name)))
        }
        classes = self._classes()
        priorities = [
            each.priority
            for each in classes.values()
            if model.objective_by_class.get(each.name, model.objective).name in burning
        ]
        for line in _lines(model):
            before, line.held_below = line.held_below, self._held_below(line, priorities) if priorities else None
            if (before is None) is not (line.held_below is None):
                held = ", ".join(each.name for each in classes.values() if line.holds(each)) or "none any more"
                _log.warning("classes held back: %s", held, extra={"model": model.name})

    def _held_below(self, line: Line, burning: Sequence[int]) -> int | None:
        waiting = line.queue.priorities()
        present = waiting.union(*(holders.priorities for holders in line.holders))
        queues = any(self._streak(health.id) >= QUEUED_SCRAPES for health in line.healths)
        return held_below(burning, waiting, present, engine_queues=queues)

    def _latencies(self, model: LiveModel, objective: str) -> Iterable[Tracked]:
        return (
            each
            for each in self._book.get(Kind.MODEL, model.name)
            if each.sli in _LATENCIES and each.objective == objective
        )

    def _streak(self, backend: str) -> int:
        return self._streaks.get(backend, (0.0, 0))[1]


def queued(models: Iterable[LiveModel]) -> Iterator[Queued]:
    """Return every version's queue."""
    for model in models:
        for version in model.versions.values():
            waiting: Counter[str] = Counter()
            shed: Counter[tuple[str, str]] = Counter()
            for line in version.lines:
                waiting.update(dict(line.queue.sizes()))
                shed.update(line.sheds)
            held = frozenset(
                name for line in version.lines for name, each in line.queue.classes().items() if line.holds(each)
            )
            yield Queued(model.name, version.name, waiting, shed, held)


def _lines(model: LiveModel) -> Iterable[Line]:
    """Return every queue, those of requests that began under earlier routes included."""
    return model.memory.lines.values()


def _pages(tracked: Tracked) -> bool:
    """Whether a latency burns at page rate over five minutes and over one: what is refused cannot make it worse."""
    factor = FASTEST.factor(tracked.windows.slo)
    for window in (5 * MINUTE, MINUTE):
        counts = tracked.windows.count(window)
        if counts.bad < STAYING_BAD or (burn(counts, tracked.target.budget) or 0.0) < factor:
            return False
    return True
