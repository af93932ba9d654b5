"""What every engine of the store does, on a file and on a real redis-server."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.policy.routing.ejection import Finding
from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import FINE, LASTING
from gateway.state.store import (
    FREE,
    MEMBER_SECONDS,
    BackendFinding,
    Batch,
    Document,
    Ejection,
    Record,
    Recovery,
    Response,
    Saved,
)
from tests.redis_server import RedisServer, redis_server
from tests.state.counts import slots
from tests.state.engines import Engine, RedisEngine, SqliteEngine
from tests.waiting import until

M = SeriesKey("model", "m", "interactive", "ttft", "")
B = SeriesKey("backend", "gpu/e:1", "interactive", "ttft", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(params=["sqlite", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        of_file = SqliteEngine(tmp_path / "state.sqlite")
        yield of_file
        of_file.close()
    else:
        of_server = RedisEngine(request.getfixturevalue("server"))
        yield of_server
        of_server.close()


@pytest.fixture
def now() -> float:
    """The time as it is: a server measures some things on its own clock."""
    return float(int(time.time()))


def totals(saved: Saved | tuple[SlotCounts, ...]) -> Counter[tuple[str, float, int]]:
    found = saved.slots if isinstance(saved, Saved) else saved
    return Counter({(each.series.name, each.width, each.slot): each.good + 1000 * each.bad for each in found})


def counted(now: float, good: int, bad: int = 0, who: str = "one", number: int = 0, **more: object) -> Batch:
    return Batch(now, slots(M, good, bad, now), incarnation=who, sequence=number, **more)  # type: ignore[arg-type]


def expected(now: float, good: int, bad: int = 0) -> Counter[tuple[str, float, int]]:
    return Counter({("m", width, int(now // width)): good + 1000 * bad for width in LASTING})


class TestCounts:
    def test_a_process_writes_all_that_it_counted_and_sums_are_over_processes(self, engine: Engine, now: float) -> None:
        one, two = engine.open(), engine.open()
        for number, good in enumerate((1, 2, 2), 1):
            one.save(counted(now, good, 1, "one", number))
        assert totals(two.load(now)) == expected(now, 2, 1)
        two.save(counted(now, 5, 0, "two", 1))
        assert totals(one.load(now)) == expected(now, 7, 1)
        assert totals(one.load(now, "two")) == expected(now, 2, 1)
        assert totals(one.load(now, "one")) == expected(now, 5, 0)

    def test_first_and_last_are_those_of_all(self, engine: Engine, now: float) -> None:
        store = engine.open()
        at = now // 60 * 60
        for who, first, last in (("one", at + 5, at + 9), ("two", at + 3, at + 7)):
            store.save(Batch(now, (SlotCounts(M, 60.0, int(at // 60), 1, 0, first, last),), incarnation=who))
        (slot,) = store.load(now).slots
        assert (slot.good, slot.first, slot.last) == (2, at + 3, at + 9)

    def test_a_batch_that_comes_after_a_later_one_changes_nothing(self, engine: Engine, now: float) -> None:
        store = engine.open()
        store.save(counted(now, 5, number=2))
        reply = store.save(counted(now, 3, number=1))
        assert reply.sequence == 2
        assert totals(store.load(now)) == expected(now, 5)

    def test_the_last_number_is_told_so_that_a_stale_fail_over_shows(self, engine: Engine, now: float) -> None:
        store = engine.open()
        assert [store.save(counted(now, good, number=good)).sequence for good in (1, 2, 3)] == [0, 1, 2]
        engine.forget("one")
        assert store.save(counted(now, 4, number=4)).sequence == 2

    def test_others_are_told_what_changed_in_the_finest_slots(self, engine: Engine, now: float) -> None:
        one, two = engine.open(), engine.open()
        seen = two.save(counted(now, 7, who="two", number=1)).version
        assert totals(one.save(counted(now, 1, 1, number=1)).others) == {("m", FINE, int(now // FINE)): 7}
        reply = two.save(Batch(now, incarnation="two", sequence=2, seen=seen))
        assert totals(reply.others) == {("m", FINE, int(now // FINE)): 1001}
        again = two.save(Batch(now, incarnation="two", sequence=3, seen=reply.version))
        assert again.others == ()
        one.save(counted(now - 20, 4, number=2))
        reply = two.save(Batch(now, incarnation="two", sequence=4, seen=again.version))
        assert totals(reply.others)["m", FINE, int((now - 20) // FINE)] == 4

    def test_what_comes_after_a_stale_fail_over_is_told_to_those_that_had_seen_more(
        self, engine: Engine, now: float
    ) -> None:
        one, two = engine.open(), engine.open()
        seen = two.save(Batch(now, incarnation="two", sequence=1)).version + 1000
        reply = two.save(Batch(now, incarnation="two", sequence=2, seen=seen))
        assert reply.version > seen
        one.save(counted(now, 3))
        told = two.save(Batch(now, incarnation="two", sequence=3, seen=reply.version)).others
        assert totals(told) == {("m", FINE, int(now // FINE)): 3}

    def test_what_backends_did_is_kept_and_not_merged(self, engine: Engine, now: float) -> None:
        one, two = engine.open(), engine.open()
        one.save(Batch(now, slots(B, 1, 0, now), incarnation="one", sequence=1))
        assert two.save(Batch(now, incarnation="two", sequence=1)).others == ()
        assert len(two.load(now).slots) == len(LASTING)

    def test_what_no_window_holds_any_more_is_not_given_back(self, engine: Engine, now: float) -> None:
        store = engine.open()
        store.save(counted(now, 1))
        assert {each.width for each in store.load(now + 400).slots} == {60, 720, 10_800}
        assert {each.width for each in store.load(now + 3 * HOUR).slots} == {720, 10_800}


def found(now: float, backend: str = "p/a:80", left: float = 30.0) -> BackendFinding:
    return BackendFinding(backend, Finding(now + left, "5 failures in a row", share=0.5, since=now - 2.0, in_row=True))


class TestFindings:
    def test_others_are_told_once_what_a_process_found(self, engine: Engine, now: float) -> None:
        one, two = engine.open(), engine.open()
        seen = two.save(Batch(now, incarnation="two", sequence=1)).version
        reply = one.save(Batch(now, incarnation="one", sequence=1, findings=(found(now), found(now, "p/b:80"))))
        assert reply.findings == ()
        first = two.save(Batch(now, incarnation="two", sequence=2, seen=seen))
        assert [each.backend for each in first.findings] == ["p/a:80", "p/b:80"]
        told = first.findings[0].finding
        assert (told.reason, told.slow, told.share, told.in_row) == ("5 failures in a row", False, 0.5, True)
        assert (told.until, told.since) == pytest.approx((now + 30.0, now - 2.0), abs=20.0)
        assert told.until - told.since == pytest.approx(32.0)
        assert told.until <= now + 30.0
        assert two.save(Batch(now, incarnation="two", sequence=3, seen=first.version)).findings == ()
        assert one.save(Batch(now, incarnation="one", sequence=2, seen=seen)).findings == ()

    def test_they_last_as_long_as_was_left_whatever_the_clocks_of_two_processes_say(
        self, engine: Engine, now: float
    ) -> None:
        one, two = engine.open(), engine.open()
        late, early = now + 3600.0, now - 3600.0
        one.save(Batch(late, incarnation="one", sequence=1, findings=(found(late),)))
        two.save(Batch(early, incarnation="two", sequence=1, findings=(found(early),)))
        for at, who in ((early, "two"), (late, "one")):
            (each,) = engine.open().save(Batch(at, incarnation=who, sequence=2)).findings
            assert at + 10.0 < each.finding.until <= at + 30.0

    def test_what_is_over_is_not_told(self, engine: Engine, now: float) -> None:
        one, two = engine.open(), engine.open()
        old = (found(now, left=0.0), found(now, left=-5.0), found(now, left=0.01), found(now, left=float("inf")))
        seen = one.save(Batch(now, incarnation="one", sequence=1, findings=old)).version
        until(lambda: two.save(Batch(now, incarnation="two", sequence=0)).findings == (), "the one that still held")
        later = Batch(now + 40.0, incarnation="one", sequence=2, findings=(found(now),))
        assert one.save(later).version > seen, "it waited until it was over"
        assert two.save(Batch(now, incarnation="two", sequence=0, seen=seen)).findings == ()


class TestSettling:
    def test_rows_of_a_silent_process_are_settled_and_it_learns_so(
        self, engine: Engine, now: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = engine.open()
        store.save(counted(now, 3, 1, "silent", 1))
        token = store.lead("leader", now, 5.0)
        assert store.settle("leader", token, now) == 0
        monkeypatch.setattr("gateway.state.store.SILENT_SECONDS", -1.0)
        assert store.settle("another", token, now) == 0
        assert store.settle("leader", token, now) == 1
        assert totals(store.load(now)) == expected(now, 3, 1)
        reply = store.save(counted(now, 9, 9, "silent", 2))
        assert (reply.ended, reply.sequence) == (True, 1)
        assert totals(store.load(now)) == expected(now, 3, 1)
        assert not store.save(counted(now, 1, 0, "silent again", 1)).ended
        assert totals(store.load(now)) == expected(now, 4, 1)


class TestAnEmptiedStore:
    def test_what_ended_processes_had_is_restored_once_by_whoever_read_most(
        self, engine: Engine, now: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.state.store.RECOVERY_SECONDS", 0.3)
        store = engine.open()
        dead, old, new = counted(now, 1, 1, "dead", 1), counted(now, 2, 0, "old", 1), counted(now, 4, 0, "new", 1)
        for each in (dead, old, new):
            before = store.save(each)
        engine.empty()
        for each in (old, new):
            reply = store.save(Batch(now, each.counts, incarnation=each.incarnation, sequence=2, epoch=before.epoch))
            assert reply.epoch != before.epoch
            assert store.load(now) == Saved()
        for each, seen in ((old, 7), (new, 8)):
            back = Batch(
                now,
                each.counts,
                incarnation=each.incarnation,
                sequence=3,
                epoch=reply.epoch,
                seen=seen,
                returning=before.epoch,
            )
            assert not store.save(back).ended
        assert store.recovery("never seen") is Recovery.WAIT
        assert {store.recovery("old"), store.recovery("new")} == {Recovery.WAIT}
        until(lambda: store.recovery("old") and store.recovery("new") is Recovery.RESTORE, "the recovery")
        assert store.recovery("old") is Recovery.WAIT
        returned = store.returned(dead.counts)
        assert totals(returned.counts) == expected(now, 6)
        assert not store.restore("new", dead.counts, returned.arrivals - 1, {}), "one came back meanwhile"
        assert store.restore("new", dead.counts, returned.arrivals, {"old": 2})
        assert [store.restored_from(each) for each in ("old", "new")] == [2, 0]
        assert not store.restore("old", dead.counts, returned.arrivals, {})
        assert [store.recovery(each) for each in ("old", "new", "late")] == [
            Recovery.DONE,
            Recovery.DONE,
            Recovery.LATE,
        ]
        assert totals(store.load(now)) == expected(now, 7, 1)
        late = Batch(
            now, dead.counts, incarnation="late", sequence=1, epoch=reply.epoch, seen=9, returning=before.epoch
        )
        assert store.save(late).ended
        assert totals(store.load(now)) == expected(now, 7, 1)
        others = store.save(Batch(now, incarnation="fresh", sequence=1)).others
        assert totals(others) == {("m", FINE, int(now // FINE)): 1007}


class TestMembers:
    def test_those_that_saved_lately_are_alive_and_one_of_them_leads(self, engine: Engine, now: float) -> None:
        one, two = engine.open(), engine.open()
        assert one.members(now).alive == 0
        one.save(counted(now, 1, who="one", number=1))
        two.lead("two", now, 5.0)
        two.save(Batch(now, incarnation="two", sequence=1))
        for store in (one, two):
            found = store.members(now)
            assert (found.alive, found.leader) == (2, "two")
            assert {each.incarnation for each in found.latest} == {"one", "two"}
            assert all(0.0 <= each.seconds < MEMBER_SECONDS for each in found.latest)

    def test_one_that_is_silent_or_settled_is_not_alive(
        self, engine: Engine, now: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = engine.open()
        store.save(Batch(now, incarnation="one", sequence=1))
        monkeypatch.setattr("gateway.state.store.MEMBER_SECONDS", 0.05)
        until(lambda: store.members(now + 1.0).alive == 0, "the silence")
        store.save(Batch(now + 1.0, incarnation="two", sequence=1))
        until(lambda: store.members(now + 2.0).alive == 0, "the silence")

    def test_of_many_those_that_wrote_last_are_named(
        self, engine: Engine, now: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.state.store.MEMBERS_NAMED", 3)
        store = engine.open()
        for number in range(5):
            store.save(Batch(now + number / 100, incarnation=f"p{number}", sequence=1))
        found = store.members(now + 0.05)
        assert found.alive == 5
        assert [each.incarnation for each in found.latest] == ["p4", "p3", "p2"]


class TestTheLease:
    def test_one_owner_leads_at_a_time_with_a_token_above_all_before(self, engine: Engine, now: float) -> None:
        old, new = engine.open(), engine.open()
        assert old.lead("old", now, 5.0) == 1
        assert new.lead("new", now + 4.9, 5.0) == 0
        assert old.lead("old", now + 4.9, 5.0) == 1, "renewed"
        assert new.lead("new", now + 5.1, 5.0) == 0
        engine.end_lease()
        assert new.lead("new", now + 10.0, 5.0) == 2
        assert old.lead("old", now + 11.0, 5.0) == 0
        old.resign("old")
        new.resign("new")
        assert old.lead("old", now + 11.0, 5.0) == 3

    def test_an_owner_whose_lease_ended_goes_on_when_no_other_led(self, engine: Engine, now: float) -> None:
        store = engine.open()
        assert store.lead("one", now, 5.0) == 1
        engine.end_lease()
        assert store.lead("one", now + 60.0, 5.0) == 1

    def test_a_leader_that_was_paused_writes_no_document(self, engine: Engine, now: float) -> None:
        old, new = engine.open(), engine.open()
        first = old.lead("old", now, 5.0)
        old.save(Batch(now, documents=(Document("rollout", "m", "1"),), token=first, incarnation="old", sequence=1))
        engine.end_lease()
        second = new.lead("new", now + 10.0, 5.0)
        late = Batch(now + 10, documents=(Document("rollout", "m", "late"),), token=first, incarnation="old")
        old.save(late)
        assert new.load(now).documents == (Document("rollout", "m", "1"),)
        new.save(Batch(now + 10, documents=(Document("rollout", "m", "2"),), token=second, incarnation="new"))
        assert old.save(late).documents == (Document("rollout", "m", "2"),), "so it learns what was decided"
        assert new.load(now).documents == (Document("rollout", "m", "2"),)

    @pytest.mark.parametrize("kind", sorted(FREE))
    def test_what_is_free_is_written_by_any_and_told_to_all(self, engine: Engine, now: float, kind: str) -> None:
        leader, other = engine.open(), engine.open()
        token = leader.lead("leader", now, 5.0)
        seen = leader.save(Batch(now, token=token, incarnation="leader", sequence=1)).version
        rollback = Document(kind, "m", '{"started": 1.0}')
        asked = Batch(now, documents=(rollback, Document("rollout", "m", "2")), incarnation="other", sequence=1)
        assert not other.save(asked).led
        reply = leader.save(Batch(now, token=token, incarnation="leader", sequence=2, seen=seen))
        assert reply.led
        assert reply.documents == leader.load(now).documents == (rollback,)

    def test_those_that_do_not_lead_are_told_what_the_leader_wrote(self, engine: Engine, now: float) -> None:
        leader, other = engine.open(), engine.open()
        token = leader.lead("leader", now, 5.0)
        written = Document("drained", "gpu/e:1", "true")
        seen = other.save(Batch(now, incarnation="other", sequence=1)).version
        leader.save(Batch(now, documents=(written,), token=token, incarnation="leader", sequence=1))
        reply = other.save(Batch(now, incarnation="other", sequence=2, seen=seen))
        assert reply.documents == (written,)
        assert other.save(Batch(now, incarnation="other", sequence=3, seen=reply.version)).documents == ()


def test_all_else_is_given_back_and_once(engine: Engine, now: float) -> None:
    store = engine.open()
    token = store.lead("one", now, 5.0)
    document = Document("rollout", "m", '{"of": "é \\" {}"}')
    record = Record(now, "ann", "pause", "rollout of m", "lunch: ü")
    ejection = Ejection("gpu/e:1", now, now + 30, "five in a row")
    response = Response(now, "digest", "gpu/e:1", "m", "v1", "acme", '"m"')
    store.save(
        Batch(
            now,
            documents=(document,),
            records=(record,),
            ejections=(ejection,),
            responses=(response,),
            token=token,
            incarnation="one",
            sequence=1,
        )
    )
    saved = engine.open().load(now + 1)
    assert (saved.documents, saved.records, saved.ejections, saved.responses) == (
        (document,),
        (record,),
        (ejection,),
        (response,),
    )
    assert saved.epoch
    assert abs(store.wall() - time.time()) < 60.0
