"""The loop that saves: it loses nothing, doubles nothing, and holds nobody up."""

import asyncio
import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.control.persistence import LEADER, Flusher, PersistedState
from gateway.policy.routing.ejection import Finding
from gateway.policy.slo.series import Kind, SeriesKey, SlotCounts
from gateway.policy.slo.windows import FINE
from gateway.state.sqlite import SqliteStore
from gateway.state.store import (
    BackendFinding,
    Batch,
    Document,
    Ejection,
    Member,
    Members,
    MemoryStore,
    Reply,
    StateError,
)
from tests.e2e.harness import ask, chat, gateway, routes
from tests.e2e.processes import engine, serving
from tests.state.engines import SqliteEngine
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


def counting() -> Callable[[], list[SlotCounts]]:
    """Return what counts three good events and a bad one with each call, in one slot."""
    calls = itertools.count(1)
    key = SeriesKey("model", "m", "o", "ttft")
    return lambda: [SlotCounts(key, 60.0, 0, 3 * (call := next(calls)), call, 5.0, 6.0)]


@dataclass
class Shelf(MemoryStore):
    """A store that fails or hangs when told to."""

    where = "shelf"
    broken: bool = False
    reason: str = "the disk is full"
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[Batch] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def save(self, batch: Batch) -> Reply:
        self.gate.wait(10)
        if self.broken:
            raise StateError(self.reason)
        self.batches.append(batch)
        return super().save(batch)

    def close(self) -> None:
        self.closed = True


def flusher(shelf: Shelf, counts: Callable[[], list[SlotCounts]] | None = None) -> Flusher:
    return Flusher(shelf, counts or counting(), list[Ejection], lambda: 7.0, interval=0.005)


async def test_each_reason_why_nothing_is_saved_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(broken=True)
    saving = flusher(shelf)
    for shelf.reason in ("the disk is full", "the disk is gone", "the disk is full", "the disk is gone (5)"):
        await saving.flush()
    assert [each.reason for each in caplog.records if "state is not saved" in each.message] == [  # type: ignore[attr-defined]
        "the disk is full",
        "the disk is gone",
    ]
    shelf.broken = False
    await saving.flush()
    shelf.broken = True
    await saving.flush()
    assert caplog.text.count("state is not saved") == 3
    await saving.close()


async def test_what_could_not_be_saved_is_added_to_what_comes(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(broken=True)
    saving = flusher(shelf)
    for _ in range(3):
        await saving.flush()
    assert (saving.failures, saving.saved_at, saving.failing) == (3, None, "the disk is full")
    assert caplog.text.count("state is not saved") == 1
    shelf.broken = False
    await saving.flush()
    (batch,) = shelf.batches
    assert [(each.good, each.bad) for each in batch.counts] == [(12, 4)]
    assert batch.incarnation == saving.incarnation != flusher(shelf).incarnation
    assert (saving.saved_at, saving.failing) == (7.0, None)
    await saving.close()
    assert shelf.closed


class Fleet(Shelf):
    """A shelf that others share, and that may fail to say who."""

    asked = 0
    silent = False

    def members(self, now: float) -> Members:
        self.asked += 1
        if self.silent:
            raise StateError("no answer")
        return Members(2, "another", (Member("another", 0.5), Member("third", 1.0)))


async def test_who_else_is_alive_is_asked_for_now_and_then_and_what_is_saved_stays_saved_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.control.persistence.MemoryStore", SqliteStore)  # a shelf stands for a real store
    shelf, now = Fleet(), 0.0
    shelf.silent = True
    saving = Flusher(shelf, counting(), list[Ejection], lambda: now, interval=0.005)
    before = saving.fleet()
    assert before is not None
    assert (before.members, before.saved, before.took, before.unsaved) == (None, None, None, 0)
    await saving.flush()
    found = saving.fleet()
    assert found is not None
    assert (found.members, found.saved, found.recovering, saving.failing) == (None, 0.0, False, None)
    shelf.silent = False
    for moment in (1.0, 2.0, 5.9, 6.0):
        now = moment
        await saving.flush()
    found = saving.fleet()
    assert found is not None
    assert found.members is not None
    assert (found.members.alive, found.members.leader, shelf.asked) == (2, "another", 3)
    shelf.broken, now = True, 8.5
    await saving.flush()
    found = saving.fleet()
    assert found is not None
    assert (found.saved, found.unsaved) == (2.5, 1)
    await saving.close()


async def test_an_emptied_store_is_said_to_recover_until_what_it_had_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SqliteEngine(tmp_path / "state.sqlite")
    saving = Flusher(file.open(), counting(), list[Ejection], time.time, interval=0.005)
    recovering = []
    for step in ("saved", "emptied", "waiting", "restored", "saved"):
        if step == "emptied":
            file.empty()
        monkeypatch.setattr("gateway.state.store.RECOVERY_SECONDS", 0.0 if step == "restored" else 1000.0)
        await saving.flush()
        fleet = saving.fleet()
        assert fleet is not None
        recovering.append((fleet.recovering, saving.failing is not None))
    assert recovering == [(False, False), (True, True), (True, True), (False, False), (False, False)]
    await saving.close()


async def test_where_nothing_is_saved_there_is_no_fleet() -> None:
    assert flusher(Shelf()).fleet() is None


async def test_what_waited_through_an_outage_is_saved_piece_by_piece_as_far_as_a_window_holds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.control.persistence._COUNTS_AT_ONCE", 100)
    key, slots = SeriesKey("model", "m", "o", "ttft"), itertools.count()
    now, shelf = 0.0, Shelf(broken=True)
    saving = Flusher(
        shelf, lambda: [SlotCounts(key, 2.0, next(slots), 1, 0, now, now)], list[Ejection], lambda: now, interval=0.005
    )
    for _ in range(1000):
        now += 2.0
        await saving.flush()
    shelf.broken = False
    await saving.close()
    saved = [each.slot for batch in shelf.batches for each in batch.counts]
    assert max(len(batch.counts) for batch in shelf.batches) == 100
    assert saved == sorted(set(saved))
    assert set(range(1000 - 150, 1000)) <= set(saved)
    assert len(saved) < 350, "nothing waits for ever"


async def test_a_store_that_hangs_holds_up_nobody_and_loses_nothing() -> None:
    shelf = Shelf()
    saving = flusher(shelf)
    shelf.gate.clear()
    running = asyncio.create_task(saving.run())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await eventually(lambda: ticks > 1000)
    shelf.gate.set()
    await eventually(lambda: len(shelf.batches) > 2)
    running.cancel()
    ticking.cancel()
    await asyncio.gather(running, ticking, return_exceptions=True)
    await saving.close()


async def test_closing_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.persistence._CLOSE_SECONDS", 0.05)
    shelf = Shelf()
    saving = flusher(shelf)
    shelf.gate.clear()
    async with asyncio.timeout(DEADLINE):
        await saving.close()
    shelf.gate.set()


class Led(Shelf):
    """A store in which another process leads at first; its documents come with the reply to the first batch."""

    written = (Document(LEADER, "", "{}"), Document("drained", "gpu/e:1", "true"))

    def __init__(self, *tokens: int) -> None:
        super().__init__()
        self._tokens = iter(tokens)

    def lead(self, owner: str, now: float, seconds: float) -> int:
        return next(self._tokens, 2)

    def save(self, batch: Batch) -> Reply:
        reply = super().save(batch)
        return replace(reply, documents=self.written) if len(self.batches) == 1 else reply


class Emptied(Shelf):
    """A store that was emptied before the second batch, and whose answer to the first one after that is lost."""

    asked = 0
    token = 2

    def lead(self, owner: str, now: float, seconds: float) -> int:
        return self.token

    def save(self, batch: Batch) -> Reply:
        self.asked += 1
        if self.asked == 4:
            raise StateError("the answer got lost")
        return replace(super().save(batch), epoch="first" if self.asked == 1 else "second")


@pytest.mark.parametrize("leads", [True, False], ids=["it leads", "it leads later"])
async def test_the_leader_writes_its_documents_again_whatever_answers_are_lost(*, leads: bool) -> None:
    store, written = Emptied(), [Document("drained", "gpu/e:1", "true")]
    persisted = PersistedState(documents=lambda: [written.pop()] if written else [])
    saving = Flusher(store, counting(), list[Ejection], lambda: 7.0, persisted=persisted)
    saving.lead()
    await saving.flush()
    store.token = 2 if leads else 0
    for _ in range(4):
        await saving.flush()
    store.token = 2
    for _ in range(2):
        await saving.flush()
    told = [each.name for batch in store.batches for each in batch.documents]
    assert told == ["gpu/e:1"] * 2
    assert saving.failing is None
    await saving.close()


class Unsettled(Shelf):
    """A store that has news, and does not answer who settles rows."""

    asked = 0

    def save(self, batch: Batch) -> Reply:
        super().save(batch)
        news = tuple(each._replace(width=FINE, good=10 * each.good) for each in batch.counts)
        return Reply(batch.epoch, batch.sequence - 1, batch.seen, others=news, led=True)

    def settle(self, owner: str, token: int, now: float) -> int:
        self.asked += 1
        raise StateError("the answer got lost")


async def test_what_others_counted_is_merged_where_rows_cannot_be_settled() -> None:
    store, merged, now = Unsettled(), list[SlotCounts](), 7.0

    def merging(counts: Iterable[SlotCounts]) -> Iterable[None]:
        merged.extend(counts)
        return ()

    saving = Flusher(store, counting(), list[Ejection], lambda: now, persisted=PersistedState(merging=merging))
    saving.lead()
    await saving.flush()
    assert store.asked == 0, "others may have to write first what the store has forgotten"
    merged.clear()
    now += 61.0
    await saving.flush()
    assert store.asked == 1
    assert merged
    assert saving.failing is None
    await saving.close()


@pytest.mark.parametrize("tokens", [(0, 0, 2), (0, 2)])
async def test_a_process_follows_what_the_leader_wrote_and_takes_over_all_of_it(tokens: tuple[int, ...]) -> None:
    heard: dict[str, list[list[Document]]] = {"followed": [], "led": [], "taken over": []}
    persisted = PersistedState(
        followed=lambda documents: heard["followed"].append(list(documents)),
        led=lambda documents: heard["led"].append(list(documents)),
        taken_over=lambda documents: heard["taken over"].append(list(documents)),
    )
    saving = Flusher(Led(*tokens), counting(), list[Ejection], lambda: 7.0, persisted=persisted)
    saving.lead()
    for _ in range(3):
        await saving.flush()
    followed = tokens.count(0) - 1
    assert heard["followed"][0] == list(Led.written)
    assert not any(heard["followed"][1:])
    assert heard["led"] == [[Led.written[0]]] * followed
    assert heard["taken over"] == [list(Led.written)]
    assert saving.leads
    await saving.close()


class Telling(Shelf):
    """One that always has the same news."""

    news = BackendFinding("p/b:80", Finding(99.0, "fails"))

    def save(self, batch: Batch) -> Reply:
        return replace(super().save(batch), findings=(self.news,))


async def test_findings_are_told_once_after_an_outage_too_and_those_of_others_are_taken() -> None:
    shelf, mine = Telling(broken=True), [BackendFinding("p/a:80", Finding(50.0, "fails"))]
    heard: list[BackendFinding] = []

    def take() -> list[BackendFinding]:
        taken, mine[:] = list(mine), []
        return taken

    persisted = PersistedState(findings=take, found=heard.extend)
    saving = Flusher(shelf, counting(), list[Ejection], lambda: 7.0, persisted=persisted)
    await saving.flush()
    assert heard == []
    shelf.broken = False
    await saving.flush()
    await saving.flush()
    assert [[each.backend for each in batch.findings] for batch in shelf.batches] == [["p/a:80"], []]
    assert heard == [Telling.news] * 2
    await saving.close()


def saved(path: Path) -> int:
    """Good availability events of the model in the file, as another process sees them."""
    query = "SELECT sum(good) FROM counts WHERE kind = 'model' AND sli = 'availability' AND width = 60"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchone()[0] or 0


async def test_counts_outlive_a_process_that_was_killed(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    async with engine() as backend:
        async with serving(tmp_path, backend.urls) as first:
            port = int(first.urls[0].rsplit(":", 1)[1])
            for _ in range(5):
                assert (await ask(port, chat(stream=False))).status == 200
            await eventually(lambda: saved(state) == 5)
            first.process.kill()
            await first.ended()
        async with gateway(tmp_path, routes(backend.urls[0]), state=f"sqlite:///{state}") as running:
            (series, *_) = running.app.data.ledger.get(Kind.MODEL, "m")
            held = {seconds: counts.total for seconds, counts in series.windows.items()}
            assert held[3600.0] == held[28 * 86_400.0] == 5
            assert held[300.0] == 5
            assert held[10.0] == 0
            assert running.app.data.ledger.coverage(3600.0) > 0
