"""The loop behind admission: limits that follow what engines bear, classes turned away, slots that time has freed."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.limit import QUEUED_SCRAPES, AdaptiveLimit, Seen
from gateway.policy.routing.health import UNLIMITED
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.burn import MIN_BAD, burn
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.windows import MINUTE, TICK
from gateway.proxy.line import Line
from gateway.proxy.live import LiveModel, LiveTable
from gateway.telemetry.admission_exposition import Queued
from gateway.telemetry.slo import Kind, SloBook, Tracked

_log = logging.getLogger(__name__)
_LATENCIES = frozenset((Sli.TTFT, Sli.TPOT, Sli.ITL))


class Admitter:
    """Keeps every backend's limit and every model's shedding; `limits` are the adaptive ones, by backend."""

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
        for model in self._table():
            self._shed(model, now)
            for line in _lines(model):
                line.tick(max(elapsed, TICK / 10))
                if line.queue.size:
                    line.freed(now)

    def _limit(self, backend: Backend, now: float) -> None:
        health, fixed = backend.health, backend.spec.max_concurrency
        engine = backend.engine_now(now)
        if engine is not None:
            health.kv_capacity = engine.kv_capacity or UNLIMITED
        if fixed is not None:
            self.limits.pop(backend.id, None)
            health.relimited(fixed)
        else:
            limit = self.limits.setdefault(backend.id, AdaptiveLimit())
            queued = QUEUED_SCRAPES if health.saturated else self._queued(backend)
            limit.tick(Seen(health.peak, queued, health.begun, health.late), now)
            health.relimited(int(limit.value))
        health.looked_at()

    def _queued(self, backend: Backend) -> int:
        """Return how many looks in a row found the engine's own queue filled."""
        at, streak = self._streaks.get(backend.id, (0.0, 0))
        if backend.engine_read != at:
            waiting = backend.engine.waiting if backend.engine is not None else None
            streak = streak + 1 if waiting else 0
            self._streaks[backend.id] = backend.engine_read, streak
        return streak

    def _shed(self, model: LiveModel, now: float) -> None:
        before = model.memory.shedding.away
        burning = any(_pages(each) for each in self._book.get(Kind.MODEL, model.name) if each.sli in _LATENCIES)
        model.memory.shedding.tick(self._classes().values(), now, burning=burning)
        away = model.memory.shedding.away
        if away == before:
            return
        _log.warning("classes turned away: %s", ", ".join(sorted(away)) or "none any more", extra={"model": model.name})
        for line in _lines(model):
            line.away = away


def queued(models: Iterable[LiveModel]) -> Iterator[Queued]:
    """Return every version's queue."""
    for model in models:
        for version in model.versions.values():
            waiting: Counter[str] = Counter()
            shed: Counter[tuple[str, str]] = Counter()
            for line in version.lines:
                waiting.update(dict(line.queue.sizes()))
                shed.update(line.sheds)
            yield Queued(model.name, version.name, waiting, shed)


def _lines(model: LiveModel) -> Iterable[Line]:
    """Return every queue, that of whoever began under other routes among them."""
    return model.memory.lines.values()


def _pages(tracked: Tracked) -> bool:
    """Whether a latency burns at page rate over five minutes and over one: what is refused cannot make it worse."""
    factor = FASTEST.factor(tracked.windows.slo)
    for window in (5 * MINUTE, MINUTE):
        counts = tracked.windows.count(window)
        if counts.bad < MIN_BAD or (burn(counts, tracked.target.budget) or 0.0) < factor:
            return False
    return True
