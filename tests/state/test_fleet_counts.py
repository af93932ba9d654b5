"""Any interleaving of processes, losses, restarts, wrong clocks and emptied stores gives the sums of one process."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import FINE, SLO_SLOT
from gateway.state.fleet_counts import FleetCounts, Merged
from gateway.state.store import Batch, Document, Reply, StateError, Store
from tests.state.counts import slots
from tests.state.engines import Engine, Make, RedisEngine, engines
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
    """One process, whose clock may be hours off."""

    def __init__(self, engine: Engine, skew: float) -> None:
        self.store = Losing(engine.open(f"clock {skew}"))
        self.at = NOW + skew
        self.counts = FleetCounts(self.store)
        self.counts.loaded(self.store.load(self.at), self.at)
        self.counted: Counted = Counter()
        self.acknowledged: Counted = Counter()
        self._waiting: set[tuple[SeriesKey, float]] = set()

    def count(self, series: SeriesKey, when: float, *, good: bool) -> None:
        self.counted[series, when, good] += 1
        self._waiting.add((series, when))

    def flush(self, *, loses: bool = False) -> Merged | None:
        self.store.loses = loses
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
        waiting = tuple(found[key] for key in touched)  # like the loop that saves: only slots that were counted in
        try:
            merged = self.counts.save(Batch(self.at, waiting))
        except StateError:
            return None
        if merged.saved:
            self.acknowledged = Counter(self.counted)
            self._waiting.clear()
        return merged

    def saves(self) -> bool:
        merged = self.flush()
        return merged is not None and merged.saved


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    with engines(request.param, tmp_path_factory) as made:
        yield made


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emptied store waits for a moment."""
    monkeypatch.setattr("gateway.state.store.RECOVERY_SECONDS", 0.4)


steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("start", "count", "count", "count", "flush", "flush", "lose", "kill", "settle"),
                *("forget", "empty", "copy", "fall-back"),
            ]
        ),
        st.integers(0, 3),
        st.sampled_from(SERIES),
        st.sampled_from([0.0, -40.0, -100.0]),
        st.booleans(),
    ),
    max_size=30,
)


class Fleet:
    """Processes on one store, and what they have counted: at least `least`, and at most `most` of it is there."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.living = [Process(engine, 0.0)]
        self.dead: list[Process] = []
        self.copied: tuple[object, dict[Process, Counted]] | None = None

    def step(self, what: str, which: int, series: SeriesKey, when: float, *, good: bool) -> None:
        process = self.living[which % len(self.living)]
        if what == "start" and len(self.living) < 4:
            # On one machine, which is all that a file serves, processes read one clock.
            skew = (-3600.0, 0.0, 3600.0)[which % 3] if isinstance(self.engine, RedisEngine) else 0.0
            self.living.append(Process(self.engine, skew))
        elif what == "count":
            process.count(series, NOW + when, good=good)
        elif what in {"flush", "lose"}:
            process.flush(loses=what == "lose")
        elif what == "kill" and len(self.living) > 1:
            self.living.remove(process)
            self.dead.append(process)
        elif what == "settle":
            self.copied = None  # a process is settled after ten minutes: no replica is so far behind
            token = process.store.lead(process.counts.incarnation, process.at, 5.0)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("gateway.state.store.SILENT_SECONDS", -1e9)  # silence of any length
                process.store.settle(process.counts.incarnation, token, process.at)
        elif what == "forget" and process.saves():
            self.engine.forget(process.counts.incarnation)
        elif what == "empty":
            for each in self.living:
                each.saves()
            self.copied = None
            self.engine.empty()
            self.settled()
        elif what == "copy":
            self.copied = self.engine.copy(), {each: each.acknowledged for each in (*self.living, *self.dead)}
        elif what == "fall-back" and self.copied is not None:
            copy, acknowledged = self.copied
            self.engine.put_back(copy)
            for each in self.dead:
                each.acknowledged = acknowledged.get(each, Counter())

    def settled(self) -> None:
        """Wait until all have saved all, and read all of the others."""
        for _ in range(2):
            waiting = list(self.living)
            until(lambda waiting=waiting: [each for each in waiting if not each.saves()] == [], "a store that recovers")  # type: ignore[misc]

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
        for process in (each for each in self.living if each.at == NOW):
            known: Counter[SeriesKey] = Counter()
            for table in (process.counts._own, process.counts._others):  # noqa: SLF001 - what it makes of the others
                for each in table:
                    known[each.series] += (each.width == SLO_SLOT) * (each.good + 1000 * each.bad)
            assert all(found[name] <= known[name] <= most[name] for name in SERIES), (found, known, most)
            assert self.copied or +known == +found


def of(counted: Counted) -> Counter[SeriesKey]:
    found: Counter[SeriesKey] = Counter()
    for (series, _, good), number in counted.items():
        found[series] += number * (1 if good else 1000)
    return found


@given(steps)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_the_sums_are_those_of_one_process(make: Make, steps: list[tuple[str, int, SeriesKey, float, bool]]) -> None:
    fleet = Fleet(make())
    for what, which, series, when, good in steps:
        fleet.step(what, which, series, when, good=good)
    fleet.check()


def test_a_process_whose_clock_is_ahead_restores_an_emptied_store_only_once(make: Make) -> None:
    fleet = Fleet(make())
    skew = 3600.0 if isinstance(fleet.engine, RedisEngine) else 0.0
    fleet.living.append(Process(fleet.engine, skew))  # saves last, so it has read most
    fleet.step("count", 0, SERIES[0], 0.0, good=False)
    fleet.step("empty", 0, SERIES[0], 0.0, good=False)
    fleet.check()


@pytest.mark.parametrize("skew", [0.0, 3600.0])
def test_a_store_that_goes_back_to_before_it_was_emptied_gets_what_is_missing_and_nothing_twice(
    make: Make, *, skew: float
) -> None:
    """As when a server was started without its file, and is started again with it."""
    fleet = Fleet(make())
    for _ in range(2):
        fleet.living.append(Process(fleet.engine, skew if isinstance(fleet.engine, RedisEngine) else 0.0))
    for number, series in enumerate((*SERIES, SERIES[0])):
        fleet.step("count", number, series, 0.0, good=True)
    for process in fleet.living:
        process.saves()
    fleet.step("kill", 0, SERIES[0], 0.0, good=True)
    copy = fleet.engine.copy()
    fleet.step("empty", 0, SERIES[0], 0.0, good=True)
    fleet.step("count", 0, SERIES[1], 0.0, good=False)
    fleet.settled()
    fleet.engine.put_back(copy)
    fleet.check()


def test_a_process_that_was_silent_knows_what_it_counted_once(make: Make) -> None:
    """It reads all that is there, its own settled rows among them, and takes another id."""
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    fleet.step("count", 0, SERIES[0], 0.0, good=True)
    fleet.settled()
    fleet.step("settle", 1, SERIES[0], 0.0, good=True)
    fleet.living[0].at += 300.0
    assert fleet.living[0].saves()
    fleet.living[0].at -= 300.0
    fleet.check()


@pytest.mark.parametrize("before", [True, False], ids=["read before", "started while it was away"])
def test_what_the_leader_wrote_while_nothing_was_read_comes_with_the_next_batch(make: Make, *, before: bool) -> None:
    engine = make()
    leader, other = engine.open(), engine.open()
    counts = FleetCounts(other)
    if before:
        counts.loaded(other.load(NOW), NOW)
        assert counts.save(Batch(NOW)).saved
    token = leader.lead("leader", NOW, 5.0)
    written = Document("drained", "gpu/e:1", "true")
    leader.save(Batch(NOW, documents=(written,), token=token, incarnation="leader", sequence=1))
    assert counts.save(Batch(NOW + 300.0)).reply.documents == (written,)


leads = st.lists(st.tuples(st.sampled_from(["lead", "wait", "resign"]), st.integers(0, 2)), max_size=40)


@given(leads)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_one_leads_at_a_time_whatever_the_clocks(make: Make, steps: list[tuple[str, int]]) -> None:
    """The three clocks are an hour apart, and run on alike; a lease that no one renews is over after its length."""
    engine = make()
    stores = [engine.open(f"clock {number}") for number in range(3)]
    passed, tokens, leader, renewed = 0.0, [0], -1, 0.0
    for what, who in steps:
        if what == "wait":
            passed += 2.0
            if isinstance(engine, RedisEngine) and passed - renewed >= 5.0:
                engine.end_lease()
        elif what == "resign":
            stores[who].resign(str(who))
            leader = -1 if who == leader else leader
        else:
            token = stores[who].lead(str(who), NOW + 3600.0 * (who - 1) + passed, 5.0)
            if token:
                assert who == leader or leader < 0 or passed - renewed >= 5.0
                assert token > tokens[-1] or (who == leader or token == tokens[-1])
                tokens.append(max(token, tokens[-1]))
                leader, renewed = who, passed
