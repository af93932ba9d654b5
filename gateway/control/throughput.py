"""The loop that looks at queues for objectives of throughput, and counts the slots that were judged.

Processes that share a store tell each other their parts of a slot as they tell other counts: by series of their own,
in the finest slots. The one that leads counts what was judged.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from gateway.clock import Clock, next_turn
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.limits import queued
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import THROUGHPUT
from gateway.policy.slo.series import Kind, SeriesKey, SlotCounts
from gateway.policy.slo.throughput import STEPS, Part, ThroughputMeter
from gateway.policy.slo.windows import FINE
from gateway.proxy.current import CurrentTable
from gateway.telemetry.throughput_recorder import ThroughputRecorder

INTERVAL = 1.0
WAITING, DONE = "throughput waiting", "throughput done"
"""Series of parts: how few requests waited and how many processes looked, and tokens and thousandths of requests."""


class ThroughputController:
    """Looks at the queues of this process, of which there are so many `alive`, 0 where that is not known."""

    def __init__(
        self,
        current: CurrentTable,
        ledger: SloLedger,
        recorder: ThroughputRecorder,
        *,
        clock: Clock,
        alive: Callable[[], int],
        leads: Callable[[], bool],
    ) -> None:
        """Take the clock of requests."""
        self._current = current
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock
        self._alive = alive
        self._leads = leads
        self._routes: RouteTable | None = None
        self._untold: list[tuple[SeriesKey, Part]] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await next_turn(INTERVAL)
            self.look()

    def look(self) -> None:
        """Look once."""
        self._follow()
        now, alive, leads = self._clock() + self._recorder.offset, self._alive(), self._leads()
        waiting: dict[str, Counter[str]] = {}
        for (model, objective), meter in self._recorder.meters.items():
            if model not in waiting:
                waiting[model] = self._waiting(self._current.routes.models[model])
            meter.look(now, waiting[model][objective], alive)
            key = SeriesKey(Kind.MODEL, model, objective, THROUGHPUT)
            self._untold += ((key, part) for part in meter.over(now))
            found = meter.judge(now)
            for series in self._ledger.get(Kind.MODEL, model) if found.total and leads else ():
                if series.key == key:
                    self._ledger.count(series, good=found.good, bad=found.bad)

    def unsaved(self) -> Iterator[SlotCounts]:
        """Yield the parts of this process since the last call, as they are told to others."""
        untold, self._untold = self._untold, []
        for key, part in untold:
            first = part.slot * STEPS
            for step, fewest in enumerate(part.waiting, first):
                if fewest >= 0:
                    yield _told(key, WAITING, step, fewest, 1)
            yield _told(key, DONE, first, part.tokens, part.requests)

    def merging(self, changes: Iterable[SlotCounts]) -> Iterator[None]:
        """Count what other processes have counted meanwhile, in small pieces: their parts here, all else there."""
        return self._ledger.merging(self._taking(changes))

    def _taking(self, changes: Iterable[SlotCounts]) -> Iterator[SlotCounts]:
        for each in changes:
            if each.series.sli not in {WAITING, DONE}:
                yield each
                continue
            meter = self._recorder.meters.get((each.series.name, each.series.objective))
            if meter is None:
                continue
            if each.series.sli == WAITING:
                meter.waited(each.slot, each.good, each.bad)
            else:
                meter.done(each.slot // STEPS, each.good, each.bad)

    def _follow(self) -> None:
        """Take the objectives of other routes; what is measured for one that stays goes on."""
        routes = self._current.routes
        if routes is self._routes:
            return
        self._routes = routes
        known = dict(self._recorder.meters)
        self._recorder.meters.clear()
        for model in routes.models.values():
            for objective in model.objectives:
                if objective.throughput is not None:
                    key = (model.name, objective.name)
                    before = known.get(key)
                    lag = model.timeouts.total
                    if before is None or (before.objective, before.lag) != (objective.throughput, lag):
                        before = ThroughputMeter(objective.throughput, lag)
                    self._recorder.meters[key] = before

    def _waiting(self, model: ModelSpec) -> Counter[str]:
        """Return how many requests of a model wait, by the objective of their class."""
        found: Counter[str] = Counter()
        for queue in queued([self._current.table.model(model.name)]):
            for name, count in queue.waiting.items():
                found[model.objective_by_class.get(name, model.objective).name] += count
        return found


def _told(key: SeriesKey, sli: str, step: int, good: int, bad: int) -> SlotCounts:
    return SlotCounts(key._replace(sli=sli), FINE, step, good, bad, step * FINE, step * FINE)
