"""What ended processes had comes back to an emptied server in parts, however much it is."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import MINUTE
from gateway.state import redis_store
from gateway.state.fleet_counts import FleetCounts
from gateway.state.redis_store import RedisStore
from gateway.state.slot_table import SlotTable
from gateway.state.store import Batch, Recovery, StateError
from tests.redis_server import RedisServer, redis_server
from tests.state.counts import slots
from tests.waiting import until

NOW = float(int(time.time()))
pytestmark = pytest.mark.usefixtures("of_now")
MANY = 300_000
"""More than the arguments that a script can have."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


@pytest.fixture
def stores(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RedisStore]]:
    monkeypatch.setattr("gateway.state.redis_client.TIMEOUT", 60.0)
    monkeypatch.setattr("gateway.state.store.RECOVERY_SECONDS", 0.2)
    opened = [RedisStore(server.url) for _ in range(3)]
    yield opened
    for store in opened:
        store.close()


def series(number: int) -> SeriesKey:
    return SeriesKey("model", f"m{number}", "interactive", "ttft", "")


def many(rows: int) -> tuple[SlotCounts, ...]:
    """Return so many rows: a minute each, fifty of them in every series."""
    newest = int(NOW // MINUTE)
    return tuple(
        SlotCounts(series(number // 50), MINUTE, newest - number % 50, 1, 2, at, at)
        for number in range(rows)
        for at in [(newest - number % 50) * MINUTE]
    )


def totals(store: RedisStore) -> tuple[int, int]:
    """Return how many rows of a minute there are, and what all of them count together."""
    found = [each for each in store.load(NOW).slots if each.width == MINUTE]
    return len(found), sum(each.good + 1000 * each.bad for each in found)


def come_back(store: RedisStore, *processes: str) -> int:
    """Have processes come back with one count each, and wait for the first to be told to restore; return how many."""
    epoch = store.load(NOW).epoch
    for number, who in enumerate(processes):
        counted = slots(series(MANY + number), 1, 0, NOW)
        seen = len(processes) - number
        assert not store.save(
            Batch(NOW, counted, incarnation=who, sequence=1, epoch=epoch, seen=seen, returning="before")
        ).ended
    until(lambda: store.recovery(processes[0]) is Recovery.RESTORE, "the time in which others may come back")
    return len(processes)


class Counting:
    """Counts what the server does in one call of a store at most, in commands; those in scripts are some too."""

    def __init__(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._client = server.client()
        self._patch = monkeypatch
        self.most = 0

    def _done(self) -> int:
        found = self._client.info("commandstats").values()
        return sum(int(each["calls"]) for each in found)

    def watch(self, store: RedisStore) -> None:
        call: Any = store._call  # noqa: SLF001 - what goes to the server

        def counted(*arguments: Any) -> Any:
            before = self._done()
            answer = call(*arguments)
            self.most = max(self.most, self._done() - before)
            return answer

        self._patch.setattr(store, "_call", counted)


def test_no_call_keeps_the_server_busy_for_long_however_much_there_is(
    server: RedisServer, stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = come_back(stores[0], "one")
    work = Counting(server, monkeypatch)
    work.watch(stores[0])
    assert stores[0].restore("one", many(MANY), arrivals, {f"p{number}": number for number in range(1, 4000)})
    until(lambda: stores[0].recovery("one") is Recovery.DONE, "what is restored")
    assert totals(stores[0]) == (MANY + 1, MANY * 2001 + 1)
    assert work.most < 5 * redis_store._PART  # noqa: SLF001 - some milliseconds
    assert stores[0].restored_from("p7") == 7
    assert [key for key in server.client().scan_iter("*") if "staged" in key or "restor" in key] == []


def test_processes_that_come_back_keep_it_busy_for_as_short(
    server: RedisServer, stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They write what they had, one restores what a third one had, and all read that."""
    for name, parts in (("redis_store._PART", 50), ("fleet_counts._PIECE", 50)):
        monkeypatch.setattr(f"gateway.state.{name}", parts)
    processes = [FleetCounts(store) for store in stores]
    for number, process in enumerate(processes):
        counted = (each for late in range(100) for each in slots(series(number), 1, 0, NOW - 2 * late))
        table = SlotTable()
        for each in counted:
            table.add(each)
        assert process.save(Batch(NOW, tuple(table))).saved
    for process in processes:
        assert process.save(Batch(NOW)).saved
    expected = known(processes[0])
    server.client().flushall()
    work = Counting(server, monkeypatch)
    living = processes[:2]
    for store in stores[:2]:
        work.watch(store)
    until(lambda: [each for each in living if not each.save(Batch(NOW)).saved] == [], "a store that recovers")
    for process in living:
        assert process.save(Batch(NOW)).saved
        assert known(process) == expected
    assert known_there(stores[2]) == expected
    assert work.most < 500


def known_there(store: RedisStore) -> dict[tuple[SeriesKey, float, int], int]:
    return {(each.series, each.width, each.slot): each.good for each in store.load(NOW).slots}


def failing(store: RedisStore, monkeypatch: pytest.MonkeyPatch, call: str, after: int) -> None:
    """Have a store lose its server after so many of its calls, as when its process ends."""
    left = [after]
    done: Any = getattr(store, call)

    def fails(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StateError("gone")
        return done(*arguments)

    monkeypatch.setattr(store, call, fails)


def test_what_a_process_had_staged_when_it_ended_changes_nothing(
    stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = come_back(stores[0], "one", "two")
    with monkeypatch.context() as patched:
        patched.setattr(redis_store, "_PART", 10)
        failing(stores[0], patched, "_call", 8)
        with pytest.raises(StateError):
            stores[0].restore("one", many(100), arrivals, {})
    assert totals(stores[1]) == (2, 2)
    until(lambda: stores[1].recovery("two") is Recovery.RESTORE, "the silence of the other")
    assert stores[1].restore("two", many(100), arrivals, {})
    assert stores[1].recovery("two") is Recovery.DONE
    assert totals(stores[1]) == (102, 100 * 2001 + 2)


@pytest.mark.parametrize("others", [True, False], ids=["another came back", "none did, and one leads"])
def test_what_a_process_was_adding_when_it_ended_another_adds(
    server: RedisServer, stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch, *, others: bool
) -> None:
    arrivals = come_back(stores[0], "one", "two")
    monkeypatch.setattr(redis_store, "_PART", 10)
    assert stores[0].restore("one", many(100), arrivals, {})
    with monkeypatch.context() as patched:
        failing(stores[0], patched, "_run", 4)  # the first one asks what there is to do
        with pytest.raises(StateError):
            stores[0].recovery("one")
    rows, _ = totals(stores[1])
    assert 30 <= rows <= 32
    assert stores[1].recovery("two") is Recovery.WAIT, "the other may go on"
    assert stores[2].recovery("late") is Recovery.LATE, "what it had is in what is being restored"
    server.client().delete("{tidegate}:restorer")
    if others:
        assert stores[1].recovery("two") is Recovery.DONE
    else:
        stores[1].settle("leader", stores[1].lead("leader", NOW, 5.0), NOW)
    assert totals(stores[1]) == (102, 100 * 2001 + 2)
    assert stores[0].recovery("one") is Recovery.DONE


def known(counts: FleetCounts) -> dict[tuple[SeriesKey, float, int], int]:
    table = SlotTable(counts._others)  # noqa: SLF001 - what it makes of the others
    for each in counts._own:  # noqa: SLF001
        table.add(each)
    return {(each.series, each.width, each.slot): each.good for each in table}


def test_a_process_that_starts_amid_it_knows_all_once(
    stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of slots that others go on counting in."""
    arrivals = come_back(stores[0], "one")
    dead: Sequence[SlotCounts] = [each for number in range(5) for each in slots(series(number), 3, 0, NOW)]
    monkeypatch.setattr(redis_store, "_PART", 1)
    monkeypatch.setattr(redis_store, "_MERGE_SECONDS", -1.0)
    assert stores[0].restore("one", dead, arrivals, {})
    started: list[FleetCounts] = []
    live = slots(series(4), 1, 0, NOW)
    sequence = 0
    while not started or stores[0].recovery("one") is Recovery.WAIT:
        started.append(FleetCounts(stores[1]))
        started[-1].loaded(stores[1].load(NOW), NOW)
        sequence += 1
        now_live = tuple(each._replace(good=sequence) for each in live)
        stores[2].save(Batch(NOW, now_live, incarnation="live", sequence=sequence))
        for each in started:
            assert each.save(Batch(NOW)).saved
    assert len(started) > len(dead) / 2
    for each in started:
        assert each.save(Batch(NOW)).saved
    expected = known_there(stores[1])
    for each in started:
        assert known(each) == expected
