"""The loop behind admission: limits that follow what engines bear, classes held back, slots that time has freed."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock, next_turn
from gateway.control.fleet_quotas import FleetQuotas
from gateway.control.shared_limits import SharedLimits
from gateway.policy.admission.hold import held_below
from gateway.policy.admission.limit import QUEUED_SCRAPES
from gateway.policy.slo.alerts import FASTEST, STAYING_BAD
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.windows import FINE, MINUTE, TICK
from gateway.proxy.admission_queue import AdmissionQueue, seen
from gateway.proxy.awaited_slots import holders_of
from gateway.proxy.current import CurrentTable
from gateway.proxy.live import LiveModel
from gateway.telemetry.admission_exposition import Queued
from gateway.wire.slices import Slices, Work, finish

_log = logging.getLogger(__name__)
_PAGED = 5 * MINUTE + 2 * FINE
_LATENCIES = frozenset((Sli.TTFT, Sli.TPOT, Sli.ITL))


class LimitController:
    """Keeps every backend's limit, and what is held back."""

    def __init__(
        self,
        registry: Registry,
        current: CurrentTable,
        ledger: SloLedger,
        *,
        clock: Clock,
        shared: SharedLimits | None = None,
        fleet: FleetQuotas | None = None,
    ) -> None:
        self._shared, self._fleet = shared, fleet
        self._registry = registry
        self._current = current
        self._ledger = ledger
        self._clock = clock
        self._at = clock()
        self._queueing: set[str] = set()

    async def run(self, slices: Slices) -> None:
        """Admit until cancelled, in slices of the loop's time."""
        while True:
            await next_turn(TICK)
            await slices.do(self.admitting())

    def follow(self) -> None:
        """Give every backend its limit, without waiting for the next look."""
        now = self._clock()
        if self._shared is not None:
            self._shared.follow(now)
        if self._fleet is not None:
            self._fleet.follow(now)
        for backend in self._registry:
            self._limit(backend, now)

    def admit(self) -> None:
        """Look once."""
        finish(self.admitting())

    def admitting(self) -> Work[None]:
        """Do so in small pieces."""
        now = self._clock()
        elapsed, self._at = now - self._at, now
        if self._shared is not None:
            self._shared.tick(now)
        if self._fleet is not None:
            self._fleet.tick(now)
        for backend in list(self._registry):
            self._limit(backend, now)
            holders_of(backend.health).tick(now, max(elapsed, 0.0))
            yield
        self._queueing = {backend.id for backend in self._registry if backend.engine.queued >= QUEUED_SCRAPES}
        for model in self._current.table:
            self._hold(model)
            for line in _lines(model):
                if line.queue.size or line.slots.shows:
                    line.freed(self._clock())
            yield

    @staticmethod
    def _limit(backend: Backend, now: float) -> None:
        slots, limit = backend.health.slots, backend.limit
        engine = backend.engine.fresh(now)
        if engine is not None:
            slots.limit_kv_to(engine.kv_capacity)
        running, fixed = backend.engine.look(now), backend.spec.max_concurrency is not None
        limit.tick(seen(backend.health, backend.engine.queued, running=running, fixed=fixed), now)
        slots.limit_to(int(limit.value))
        slots.looked_at()

    def _hold(self, model: LiveModel) -> None:
        """Hold sheddable classes back while a higher one misses its latencies, where that helps it."""
        burning = {
            objective.name
            for objective in model.objectives
            if objective.hold and any(_pages(each) for each in self._latencies(model, objective.name))
        }
        if not burning and all(line.held_below is None for line in _lines(model)):
            return
        classes = self._current.tenants.classes
        priorities = [each.priority for each in classes.values() if model.objectives.of(each.name).name in burning]
        for line in _lines(model):
            before, line.held_below = line.held_below, self._held_below(line, priorities) if priorities else None
            if (before is None) is not (line.held_below is None):
                held = ", ".join(each.name for each in classes.values() if line.holds(each)) or "none any more"
                _log.warning("classes held back: %s", held, extra={"model": model.name})

    def _held_below(self, line: AdmissionQueue, burning: Sequence[int]) -> int | None:
        waiting = line.queue.priorities()
        present = waiting.union(*(holders.priorities for holders in line.slots.holders))
        queues = any(health.id in self._queueing for health in line.slots.healths)
        return held_below(burning, waiting, present, engine_queues=queues)

    def _latencies(self, model: LiveModel, objective: str) -> Iterable[Series]:
        return (
            each
            for each in self._ledger.get(Kind.MODEL, model.name)
            if each.sli in _LATENCIES and each.objective == objective
        )


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


def _lines(model: LiveModel) -> Iterable[AdmissionQueue]:
    """Return every queue, those of requests that began under earlier routes included."""
    return model.memory.lines.values()


def _pages(series: Series) -> bool:
    """Whether a latency burns at page rate over five minutes and over one: what is refused cannot make it worse.

    One without an event in that time has no need to be read.
    """
    if series.windows.last < series.windows.now - _PAGED:
        return False
    factor = FASTEST.factor(series.windows.slo)
    for window in (5 * MINUTE, MINUTE):
        counts = series.windows.count(window)
        if counts.bad < STAYING_BAD or (burn(counts, series.target.budget) or 0.0) < factor:
            return False
    return True
