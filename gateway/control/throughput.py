"""The loop that looks at queues for objectives of throughput, and counts the slots that were judged."""

from collections import Counter
from collections.abc import Callable

from gateway.clock import Clock, next_turn
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.limits import queued
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import THROUGHPUT
from gateway.policy.slo.series import Kind
from gateway.policy.slo.throughput import ThroughputMeter
from gateway.proxy.current import CurrentTable
from gateway.telemetry.throughput_recorder import ThroughputRecorder

INTERVAL = 1.0


class ThroughputController:
    """Looks while this process is `alone`: of several each sees a part of the answers, and all would seem too slow."""

    def __init__(
        self,
        current: CurrentTable,
        ledger: SloLedger,
        recorder: ThroughputRecorder,
        *,
        clock: Clock,
        alone: Callable[[], bool],
    ) -> None:
        self._current = current
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock
        self._alone = alone
        self._routes: RouteTable | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await next_turn(INTERVAL)
            self.look()

    def look(self) -> None:
        """Look once."""
        self._follow()
        now, alone = self._clock(), self._alone()
        waiting: dict[str, Counter[str]] = {}
        for (model, objective), meter in self._recorder.meters.items():
            if model not in waiting:
                waiting[model] = self._waiting(self._current.routes.models[model])
            meter.look(now, waiting[model][objective] if alone else 0)
            found = meter.judge(now)
            for series in self._ledger.get(Kind.MODEL, model) if found.total else ():
                if (series.objective, series.sli) == (objective, THROUGHPUT):
                    self._ledger.count(series, good=found.good, bad=found.bad)

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
                    if before is None or before.objective != objective.throughput:
                        before = ThroughputMeter(objective.throughput, model.timeouts.total)
                    self._recorder.meters[key] = before

    def _waiting(self, model: ModelSpec) -> Counter[str]:
        """Return how many requests of a model wait, by the objective of their class."""
        found: Counter[str] = Counter()
        for queue in queued([self._current.table.model(model.name)]):
            for name, count in queue.waiting.items():
                found[model.objective_by_class.get(name, model.objective).name] += count
        return found
