"""A model of processes that share a store: what each has counted, and so what has to be there."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest

from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import FINE, SLO_SLOT
from gateway.state.fleet_counts import FleetCounts, Merged
from gateway.state.store import Batch, Reply, StateError, Store
from tests.state.counts import slots
from tests.state.engines import Engine, RedisEngine
from tests.waiting import until

NOW = float(int(time.time() // FINE * FINE))
SERIES = [SeriesKey("model", name, "interactive", "ttft", "") for name in "ab"]


class Losing:
    """A store whose answers get lost when told so, after it did what it was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.loses = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def save(self, batch: Batch) -> Reply:
        reply = self._store.save(batch)
        if self.loses:
            raise StateError("the answer got lost")
        return reply


Counted: TypeAlias = Counter[tuple[SeriesKey, float, bool]]


class Process:
    """One process, whose clock may be hours off. It is `exact` unless it may know what the store has lost."""

    def __init__(self, engine: Engine, skew: float) -> None:
        self.store = Losing(engine.open(f"clock {skew}"))
        self.at = NOW + skew
        self.counts = FleetCounts(self.store)
        self.counts.loaded(self.store.load(self.at), self.at)
        self.counted: Counted = Counter()
        self.acknowledged: Counted = Counter()
        self.exact = True
        self._waiting: set[tuple[SeriesKey, float]] = set()

    def count(self, series: SeriesKey, when: float, *, good: bool) -> None:
        self.counted[series, when, good] += 1
        self._waiting.add((series, when))

    def waiting(self) -> tuple[SlotCounts, ...]:
        """Return what is to be saved: like the loop that saves, only slots that were counted in."""
        found: dict[tuple[SeriesKey, float, int], SlotCounts] = {}
        for (series, when, good), number in self.counted.items():
            for each in slots(series, number * good, number * (not good), when):
                key = each.series, each.width, each.slot
                known = found.get(key)
                found[key] = (
                    each if known is None else each._replace(good=each.good + known.good, bad=each.bad + known.bad)
                )
        touched = {
            (series, each.width, each.slot) for series, when in self._waiting for each in slots(series, 1, 0, when)
        }
        return tuple(found[key] for key in touched)

    def flush(self, *, loses: bool = False) -> Merged | None:
        self.store.loses = loses
        try:
            merged = self.counts.save(Batch(self.at, self.waiting()))
        except StateError:
            return None
        if merged.saved:
            self.acknowledged = Counter(self.counted)
            self._waiting.clear()
        return merged

    def saves(self) -> bool:
        merged = self.flush()
        return merged is not None and merged.saved


class Fleet:
    """Processes on one store, and what they have counted: at least `least`, and at most `most` of it is there."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.living = [Process(engine, 0.0)]
        self.living[0].saves()  # else a file has no epoch, and that it is emptied goes unnoticed
        self.dead: list[Process] = []
        self.copied: tuple[object, dict[Process, Counted]] | None = None
        self.unsettled = False
        self.knowing: set[Process] = set()
        """Those that know what a store that was emptied, and not settled yet, had: one of them has to stay."""
        self.fallen: dict[Process, Counted] | None = None

    def step(self, what: str, which: int, series: SeriesKey, when: float, *, good: bool) -> None:
        process = self.living[which % len(self.living)]
        if self.unsettled and what not in {"start", "count", "flush", "lose", "kill", "recover"}:
            self.settled()  # the rest takes longer than that
        if what == "start" and len(self.living) < 4:
            # On one machine, which is all that a file serves, processes read one clock.
            skew = (-3600.0, 0.0, 3600.0)[which % 3] if isinstance(self.engine, RedisEngine) else 0.0
            self.living.append(Process(self.engine, skew))
        elif what == "count":
            process.count(series, NOW + when, good=good)
        elif what in {"flush", "lose"}:
            process.flush(loses=what == "lose")
        elif what == "recover":  # some go on before others, which may end before that
            self._end_recovery()
            process.flush()
        elif what == "kill" and len(self.living) > 1 and self.knowing != {process}:
            self._kill(process)
        elif what == "settle":
            self._settle(process)
        elif what == "forget" and process.saves():
            self.engine.forget(process.counts.incarnation)
        elif what in {"empty", "lose and empty"}:
            self._empty(partial(process.count, series, NOW + when, good=good) if what != "empty" else None, process)
        elif what == "copy":
            self.copied = self.engine.copy(), {each: each.acknowledged for each in (*self.living, *self.dead)}
        elif what == "fall-back" and self.copied is not None:
            self._fall_back(*self.copied)

    def _kill(self, process: Process) -> None:
        self.living.remove(process)
        self.dead.append(process)
        self.knowing.discard(process)
        if self.fallen is not None:  # it has not written again yet what the store has forgotten
            process.acknowledged = self.fallen.get(process, Counter())

    def _settle(self, process: Process) -> None:
        self.engine.end_lease()
        token = process.store.lead(process.counts.incarnation, process.at, 5.0)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("gateway.state.store.SILENT_SECONDS", -1e9)  # silence of any length
            process.store.settle(process.counts.incarnation, token, process.at)

    def _empty(self, counts: Callable[[], None] | None, process: Process) -> None:
        """Empty it when all have read all; where a process counts, also what it was not answered."""
        for each in (*self.living, *self.living):
            each.saves()
        if counts is not None:
            counts()
            process.flush(loses=True)
            for each in self.living:
                assert each is process or each.saves()
        self.copied = None
        self.engine.empty()
        self.unsettled = True
        self.knowing = set(self.living)

    def _fall_back(self, copy: object, acknowledged: dict[Process, Counted]) -> None:
        self.engine.put_back(copy)
        self.unsettled = True
        self.fallen = acknowledged
        for each in self.living:
            each.exact = False
        for each in self.dead:
            each.acknowledged = acknowledged.get(each, Counter())

    def settled(self) -> None:
        """Wait until all have saved all, and read all of the others."""
        for _ in range(2):  # the second time, all of them have come back to an emptied store
            for each in self.living:
                each.saves()
        self._end_recovery()
        for _ in range(2):
            waiting = list(self.living)
            until(lambda waiting=waiting: [each for each in waiting if not each.saves()] == [], "a store that recovers")  # type: ignore[misc]
        self.unsettled, self.knowing, self.fallen = False, set(), None

    def _end_recovery(self) -> None:
        self.engine.end_recovery({each.counts.incarnation for each in self.living})

    def check(self) -> None:
        self.settled()
        living = sum((of(each.counted) for each in self.living), Counter[SeriesKey]())
        least = sum((of(each.acknowledged) for each in self.dead), living)
        most = sum((of(each.counted) for each in self.dead), living)
        found: Counter[SeriesKey] = Counter()
        for each in self.engine.open("any").load(NOW).slots:
            if each.width == SLO_SLOT:
                found[each.series] += each.good + 1000 * each.bad
        assert all(least[name] <= found[name] <= most[name] for name in SERIES), (least, found, most)
        for process in self.living:
            known: Counter[SeriesKey] = Counter()
            for table in (process.counts._own, process.counts._others):  # noqa: SLF001 - what it makes of the others
                for each in table:
                    known[each.series] += (each.width == SLO_SLOT) * (each.good + 1000 * each.bad)
            assert all(found[name] <= known[name] <= most[name] for name in SERIES), (found, known, most)
            assert not process.exact or +known == +found, (found, known)


def of(counted: Counted) -> Counter[SeriesKey]:
    found: Counter[SeriesKey] = Counter()
    for (series, _, good), number in counted.items():
        found[series] += number * (1 if good else 1000)
    return found
