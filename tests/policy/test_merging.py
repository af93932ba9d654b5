"""What other processes count is in the windows, and is not saved a second time."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.folding import Folding
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey, SlotCounts
from gateway.policy.slo.slots import Saved
from gateway.policy.slo.windows import FINE, MINUTE, TICK, Windows
from tests.policy.test_ledger import BOTH, POOLS

START = 1_700_000_000.0
events = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=30)


@given(events)
def test_windows_that_merge_hold_what_those_do_that_counted_all(steps: list[tuple[int, int, int, bool]]) -> None:
    all_here, merged = Windows(START), Windows(START)
    now, own = START, [0, 0]
    for seconds, good, bad, elsewhere in steps:
        now += seconds + TICK
        all_here.good, all_here.bad = good, bad
        all_here.advance(now)
        if not elsewhere:
            merged.good, merged.bad = good, bad
            own[0] += good
            own[1] += bad
        merged.advance(now)
        if elsewhere:
            merged.merge(now, good, bad)
    assert [counts for _, counts in merged.items()] == [counts for _, counts in all_here.items()]
    assert list(merged.unsaved()[:2]) == own
    assert merged.first == all_here.first or not any(good + bad for _, good, bad, _ in steps)


def test_what_came_late_is_in_the_windows_that_reach_so_far_and_may_be_taken_back() -> None:
    windows = Windows(START)
    windows.advance(START + 300.0)
    windows.merge(START + 200.0, 3, 1)
    assert windows.count(MINUTE) == Counts(0, 0)
    assert windows.count(5 * MINUTE) == windows.count(28 * DAY) == Counts(3, 1)
    windows.merge(START + 200.0, -3, -1)
    assert windows.count(28 * DAY) == Counts(0, 0)
    windows.merge(START + 100.0, 1, 0)
    assert (windows.first, windows.last) == (START + 100.0, START + 200.0)
    windows.merge(START + 230.0, 1, 0)
    assert windows.last == START + 230.0


def test_a_pause_is_bridged_as_one_of_this_process() -> None:
    windows = Windows(START)
    windows.merge(START, 1, 0)
    windows.advance(START + 600.0)
    windows.merge(START + 600.0, 1, 0)
    assert windows.last == START + 600.0
    assert windows.weight(6 * 3600.0) > 0.0


def test_a_ledger_merges_what_it_follows_and_tells_bad_events() -> None:
    ledger = SloLedger(START)
    ledger.follow((BOTH,), POOLS, START)
    series = ledger.get(Kind.MODEL, "a")[0]
    ledger.advance(START + 10.0)
    ledger.take_failed()
    slot = int((START + 8.0) // FINE)
    changes = [
        SlotCounts(series.key, FINE, slot - 1, 1, 0, START + 6.0, START + 7.0),
        SlotCounts(series.key, FINE, slot, 2, 1, START + 8.0, START + 9.0),
        SlotCounts(series.key._replace(name="gone"), FINE, slot, 2, 1, START + 8.0, START + 9.0),
    ]
    list(ledger.merging(changes))
    assert series.windows.count(MINUTE) == Counts(3, 1)
    assert ledger.take_failed() == [series]
    assert [each for each in ledger.unsaved() if each.series == series.key] == []


def test_a_folding_that_may_hold_any_failure_notes_none() -> None:
    folding, saved = Folding(), Saved()
    key = SeriesKey(Kind.MODEL, "m", "o", "ttft")
    folding.failed(Series(key, Target(0.99), Windows(START)))
    assert folding.take_failed() is None
    saved.skip(2, 1)
    assert saved.save(5, 2, START)[:2] == (3, 1)
