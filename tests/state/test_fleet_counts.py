"""Any interleaving of processes, losses, restarts, wrong clocks and emptied stores gives the sums of one process."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.slo.series import SeriesKey
from gateway.state.fleet_counts import FleetCounts
from gateway.state.store import Batch, Document
from tests.state.engines import Make, RedisEngine, engines
from tests.state.fleet import NOW, SERIES, Fleet, Process


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    with engines(request.param, tmp_path_factory) as made:
        yield made


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, of_now: None) -> None:  # noqa: ARG001 - a fixture
    """No outcome depends on how long anything takes: the test says when a recovery is over.

    Few rows are many parts.
    """
    monkeypatch.setattr("gateway.state.store.RECOVERY_SECONDS", 1e6)
    monkeypatch.setattr("gateway.state.redis_store._PART", 2)
    monkeypatch.setattr("gateway.state.redis_store._MERGE_SECONDS", -1.0)
    monkeypatch.setattr("gateway.state.redis_client.TIMEOUT", 60.0)


steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("start", "count", "count", "count", "flush", "flush", "lose", "kill", "settle"),
                *("forget", "empty", "lose and empty", "recover", "recover", "copy", "fall-back"),
            ]
        ),
        st.integers(0, 3),
        st.sampled_from(SERIES),
        st.sampled_from([0.0, -40.0, -100.0]),
        st.booleans(),
    ),
    max_size=30,
)


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


@pytest.mark.parametrize("skew", [-3600.0, 3600.0], ids=["behind", "ahead"])
@pytest.mark.parametrize("reads", ["at its start", "later"])
def test_a_process_whose_clock_is_wrong_knows_the_slot_in_progress_once(make: Make, *, skew: float, reads: str) -> None:
    """As one that starts before its machine has the right time, while the server does not tell its own."""
    fleet = Fleet(make())
    other = fleet.living[0]
    other.count(SERIES[0], NOW, good=True)
    assert other.saves()
    wrong = Process(fleet.engine, skew if isinstance(fleet.engine, RedisEngine) else 0.0)
    if reads == "later":
        wrong.counts = FleetCounts(wrong.store)
        assert wrong.saves()
    fleet.living.append(wrong)
    other.count(SERIES[0], NOW, good=True)
    assert other.saves()
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


def test_a_process_that_starts_before_an_earlier_copy_is_put_back_reads_what_others_write_into_that(make: Make) -> None:
    """It has seen more than the copy and the others have, so what these write looks old to it."""
    fleet = Fleet(make())
    other, ended = fleet.living[0], Process(fleet.engine, 0.0)
    assert other.saves()
    copy = fleet.engine.copy()
    for _ in range(5):
        assert ended.saves()
    started = Process(fleet.engine, 0.0)
    fleet.living.append(started)
    fleet.engine.put_back(copy)
    other.count(SERIES[0], NOW, good=True)
    assert other.saves()
    assert started.saves()
    fleet.check()


leads = st.lists(st.tuples(st.sampled_from(["lead", "wait", "resign"]), st.integers(0, 2)), max_size=40)


@given(leads)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
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


def test_what_came_and_was_not_answered_is_counted_once_after_the_store_was_emptied(make: Make) -> None:
    """Others have read it, and one of them restores what it knows of processes that did not come back with it."""
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    fleet.settled()
    fleet.step("lose and empty", 0, SERIES[0], 0.0, good=True)
    fleet.check()


def test_a_process_that_starts_while_the_store_is_away_knows_which_one_it_writes_to(make: Make) -> None:
    """Its first answer is lost, and the store emptied."""
    fleet = Fleet(make())
    fleet.living[0].saves()
    first = Process(fleet.engine, 0.0)
    first.counts = FleetCounts(first.store)  # what was read at start did not come
    fleet.living.append(first)
    first.count(SERIES[0], NOW, good=True)
    first.flush(loses=True)
    fleet.living[0].saves()
    fleet.engine.empty()
    fleet.check()


def test_a_fail_over_to_before_a_process_was_settled_loses_nothing_that_it_counted(make: Make) -> None:
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    for what, which in (
        *(("count", 1), ("flush", 1), ("copy", 0), ("count", 1), ("flush", 1), ("settle", 0)),
        *(("flush", 1), ("count", 1), ("flush", 1), ("fall-back", 0)),
    ):
        fleet.step(what, which, SERIES[0], 0.0, good=True)
    fleet.check()
    for what, which in (("settle", 0), ("flush", 1), ("settle", 0)):
        fleet.step(what, which, SERIES[0], 0.0, good=True)
    fleet.check()


@pytest.mark.parametrize("lost", [1, 2])
def test_a_fail_over_whose_first_answers_are_lost_loses_nothing(make: Make, lost: int) -> None:
    """The answers that would tell a process that its last batches are missing."""
    fleet = Fleet(make())
    for what in ("flush", "copy", "count", "flush", "fall-back", *["lose"] * lost, "flush", "count", "flush"):
        fleet.step(what, 0, SERIES[0], 0.0, good=True)
    fleet.check()


@pytest.mark.parametrize("emptied", [False, True], ids=["fail-over", "emptied"])
def test_a_process_that_starts_before_others_have_written_again_learns_of_what_is_old(
    make: Make, *, emptied: bool
) -> None:
    """Also of slots that are not merged any more: no one holds the finest ones."""
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    copy = fleet.engine.copy()
    for each in fleet.living:
        each.count(SERIES[0], NOW - 2000.0, good=True)
        each.saves()
    fleet.living[1].count(SERIES[0], NOW, good=True)  # so that it forgets the finest slot of the other
    fleet.living[1].at += 100.0
    fleet.living[1].saves()
    if emptied:
        fleet.step("kill", 0, SERIES[0], 0.0, good=True)
        fleet.step("empty", 0, SERIES[0], 0.0, good=True)
    else:
        fleet.engine.put_back(copy)
        fleet.unsettled = True
    fleet.step("start", 1, SERIES[0], 0.0, good=True)
    fleet.check()


def test_a_process_that_writes_in_pieces_what_it_had_is_waited_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.state.fleet_counts._PIECE", 3)
    fleet = Fleet(make())
    for _ in range(2):
        fleet.living.append(Process(fleet.engine, 0.0))
    for number, series in enumerate((*SERIES, SERIES[0])):
        fleet.step("count", number, series, 0.0, good=True)
    fleet.settled()
    fleet.step("kill", 0, SERIES[0], 0.0, good=True)
    fleet.engine.empty()
    slow, quick = fleet.living
    for process in (slow, quick):
        assert not process.saves()
    slow.flush(loses=True)  # one piece comes
    assert not quick.saves()
    fleet.engine.end_recovery({each.counts.incarnation for each in fleet.living})
    assert not quick.saves(), "the other has more"
    fleet.check()


def test_a_process_that_writes_only_a_part_of_what_it_had_is_not_counted_twice(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.state.fleet_counts._PIECE", 3)
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    for number, series in enumerate(SERIES):
        fleet.step("count", number, series, 0.0, good=True)
    fleet.settled()
    fleet.engine.empty()
    slow, quick = fleet.living
    for process in (slow, quick):
        assert not process.saves()
    slow.flush(loses=True)
    assert not quick.saves()
    fleet.engine.end_recovery({quick.counts.incarnation})
    assert quick.saves(), "the other is silent"
    fleet.check()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["it reads first", "it reads then"])
def test_what_was_counted_while_the_store_was_away_is_known_once(make: Make, *, order: tuple[int, ...]) -> None:
    """It was so long that all is read again, and that no one holds the finest slots any more."""
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    fleet.settled()
    fleet.step("count", 0, SERIES[0], -500.0, good=True)
    fleet.step("count", 0, SERIES[0], -1.0, good=True)
    for each in fleet.living:
        each.counts.read_at = NOW - 600.0
    for which in (*order, *order):
        fleet.living[which].saves()
    fleet.check()


def test_what_comes_in_parts_is_known_once_by_those_that_read_in_between(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.state.fleet_counts._AT_ONCE", 3)
    fleet = Fleet(make())
    fleet.living.append(Process(fleet.engine, 0.0))
    fleet.settled()
    one, two = fleet.living
    for when in (0.0, -10.0):
        one.count(SERIES[0], NOW + when, good=True)
    counts = sorted(one.waiting(), key=lambda each: -each.width)
    for at in range(0, len(counts), 3):
        assert one.counts.save(Batch(NOW, tuple(counts[at : at + 3]))).saved
        two.counts.read_at = NOW - 600.0 if at == 0 else NOW  # it reads all once, when the wide slots have come
        assert two.saves()
    fleet.check()
