"""Every window equals a list of events, to within one of its slots, whatever the order of events and time."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.slots import Saved, Slot, merged
from gateway.policy.slo.time_in_use import HOUR, LONG, TimeInUse
from gateway.policy.slo.windows import LASTING, LAYOUT, SLO_SLOT, TICK, Windows

START = 1_700_000_000.0
SLOTS = {length: width for width, lengths in (*LAYOUT, (SLO_SLOT, (28 * DAY,))) for length in lengths}
pauses = (
    st.sampled_from([0.0, TICK, 1.0, 3.7, 59.9, 600.0, 4000.0, 90_000.0, 40 * DAY])
    | st.floats(0, 20)
    | st.floats(0, 3 * DAY)
)
steps = st.lists(st.tuples(pauses, st.integers(0, 5), st.integers(0, 5)), max_size=40)


def naive(events: list[tuple[float, int, int]], now: float, length: float) -> Counts:
    """What a list of events says of the last `length` seconds."""
    inside = [(good, bad) for at, good, bad in events if now - at < length]
    return Counts(sum(good for good, _ in inside), sum(bad for _, bad in inside))


def test_no_slot_is_longer_than_a_thirtieth_of_its_window() -> None:
    assert all(width <= length / 30 for length, width in SLOTS.items())
    assert sorted(SLOTS) == [10, 60, 300, 1800, 3600, 7200, 21_600, DAY, 3 * DAY, 28 * DAY]


@given(steps)
@settings(max_examples=300)
def test_a_window_equals_a_list_of_events_to_within_one_slot(rows: list[tuple[float, int, int]]) -> None:
    now = START
    windows = Windows(now)
    events: list[tuple[float, int, int]] = []
    for pause, good, bad in rows:
        now += pause
        windows.good += good
        windows.bad += bad
        windows.advance(now)
        events.append((now, good, bad))
        for length, counts in windows.items():
            least, most = naive(events, now, length - SLOTS[length]), naive(events, now, length + SLOTS[length])
            assert least.good <= counts.good <= most.good
            assert least.bad <= counts.bad <= most.bad
    assert windows.recent == (
        windows.count(60.0).good,
        windows.count(60.0).bad,
        windows.count(10.0).good,
        windows.count(10.0).bad,
    )


@given(steps, steps)
def test_counts_of_two_processes_add_up(
    mine: list[tuple[float, int, int]], theirs: list[tuple[float, int, int]]
) -> None:
    merged, apart = Windows(START), (Windows(START), Windows(START))
    now = START
    for pair in zip(mine, theirs, strict=False):
        now += pair[0][0]
        for windows, (_, good, bad) in zip(apart, pair, strict=True):
            windows.good += good
            windows.bad += bad
            merged.good += good
            merged.bad += bad
        for windows in (*apart, merged):
            windows.advance(now)
    for length in SLOTS:
        assert apart[0].count(length) + apart[1].count(length) == merged.count(length)


@given(steps, st.floats(0, 5 * DAY))
def test_what_was_saved_each_second_is_there_again(rows: list[tuple[float, int, int]], later: float) -> None:
    """Kept slots restored into new windows give what the old ones would show, in every window that lasts."""
    now = START
    windows = Windows(now)
    kept: dict[tuple[float, int], Slot] = {}
    for pause, good, bad in rows:
        now += pause
        windows.good, windows.bad = good, bad
        windows.advance(now)
        unsaved = windows.unsaved()
        assert unsaved[:2] == (good, bad)
        for width in LASTING if good or bad else ():
            assert unsaved[2:] == (now, now)
            key = (width, int(now // width))
            kept[key] = merged(kept[key], unsaved) if key in kept else unsaved
    now += later
    windows.advance(now)
    again = Windows(now)
    kept[60.0, int(now // 60.0) + 1] = 99, 99, now + 60, now + 60
    for width in LASTING:
        again.restore(width, {at: slot for (of, at), slot in kept.items() if of == width})
    for length, width in SLOTS.items():
        expected = windows.count(length) if width in LASTING else Counts()
        assert again.count(length) == expected
    assert (again.first, again.last) == (windows.first, windows.last)
    for long in LONG:
        # A slot of twelve minutes keeps when its events began and ended, not the gaps between them.
        assert again.weight(long) == pytest.approx(windows.weight(long), abs=0.04)


@pytest.mark.parametrize("slo", [7.1 * DAY, 169 * 3600.0, 28 * DAY, 30 * DAY, 90 * DAY])
def test_the_slo_window_may_have_any_length(slo: float) -> None:
    windows = Windows(START, slo)
    windows.bad = 3
    assert windows.spotless
    windows.advance(START)
    assert windows.count(slo) == Counts(0, 3)
    assert windows.failures == 3
    assert not windows.spotless


def test_what_is_saved_is_told_once() -> None:
    saved = Saved()
    saved.fresh = START
    assert saved.save(3, 1, START + 5.0) == (3, 1, START, START + 5.0)
    assert saved.save(4, 1, START + 9.0) == (1, 0, inf, START + 9.0)
    assert repr(saved) == "<Saved 4 good 1 bad>"


def test_a_long_gap_is_time_in_use_of_windows_that_bridge_it() -> None:
    use = TimeInUse()
    use.add_short(30.0)
    use.add_long(HOUR, 600.0)
    assert use.all() == [use.seconds(index) for index in range(len(LONG))] == [30.0, 630.0, 630.0, 630.0]
    assert repr(use) == "<TimeInUse 30 s and [0.0, 600.0, 600.0, 600.0]>"


def test_time_that_runs_back_changes_nothing() -> None:
    windows = Windows(START)
    windows.good = 1
    windows.advance(START)
    before = dict(windows.items())
    windows.advance(START - 100)
    assert dict(windows.items()) == before


def test_an_unknown_window_is_an_error() -> None:
    windows = Windows(START)
    with pytest.raises(KeyError):
        windows.count(7.0)
    assert repr(windows) == "<Windows 0 good 0 bad in 10 s>"


def steady(windows: Windows, seconds: float, every: float = 1.0) -> None:
    """Let a good event come every so many seconds."""
    for _ in range(round(seconds / every)):
        windows.good += 1
        windows.advance(windows.now + every)


def test_a_window_weighs_what_was_lived_of_it() -> None:
    windows = Windows(START)
    assert [windows.weight(long) for long in LONG] == [0.0] * 4
    assert (windows.age, windows.weekly) == (0.0, 0.0)
    steady(windows, 20.0)
    assert windows.weight(HOUR) == pytest.approx(19 / 3600)
    assert windows.weight(3 * DAY) == pytest.approx(19 / (3 * DAY))
    steady(windows, 3 * HOUR)
    assert windows.weight(HOUR) == pytest.approx(1.0, abs=1 / 60)
    assert windows.weight(6 * HOUR) == pytest.approx(0.5, abs=1 / 30)
    assert windows.weekly == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("long", LONG)
def test_a_gap_of_a_quarter_of_the_window_is_bridged_and_a_longer_one_is_a_pause(long: float) -> None:
    for gap, used in ((long / 4, long / 4), (long / 4 + 1, 0.0)):
        windows = Windows(START)
        windows.good += 1
        windows.advance(START)
        windows.good += 1
        windows.advance(START + gap)
        assert windows.weight(long) == pytest.approx(used / long)


def test_the_quiet_after_dense_traffic_counts_as_use_for_a_minute_at_most() -> None:
    windows = Windows(START)
    steady(windows, 600.0)
    windows.advance(windows.now + 800.0)
    steady(windows, 1.0)
    assert windows.weight(HOUR) == pytest.approx((599 + 60) / HOUR)
    for _ in range(100):
        steady(windows, 300.0, every=300.0)
    assert windows.weight(6 * HOUR) > 0.85, "slow traffic is traffic"


def test_the_quiet_after_dense_traffic_counts_the_same_over_a_restart() -> None:
    windows = Windows(START)
    slots: dict[int, Slot] = {
        int((START - 900) // 60): (600, 0, START - 900, START - 850),
        int((START - 100) // 60): (5, 0, START - 100, START - 90),
    }
    windows.restore(60.0, slots)
    assert windows.weight(HOUR) == pytest.approx((50 + 60 + 10) / HOUR)


def test_a_service_with_few_busy_hours_is_not_made_light_of() -> None:
    """All of a day's events in ten minutes: the hour holds them all, though it was hardly in use."""
    windows = Windows(START)
    for _ in range(3):
        steady(windows, 600.0)
        windows.advance(windows.now + DAY - 600.0)
    steady(windows, 600.0)
    assert windows.weight(HOUR) == 1.0
    assert 0.02 < windows.weight(3 * DAY) <= 1.0
    windows.advance(windows.now + 40 * DAY)
    assert windows.weight(HOUR) == 0.0


def test_the_newest_events_stand_in_as_far_back_as_they_may() -> None:
    windows = Windows(START)
    for _ in range(24):
        windows.bad += 1
        windows.advance(windows.now + 600.0)
    assert windows.newest(1, 900.0) == Counts(0, 1)
    assert windows.newest(9, 900.0).bad in {1, 2}
    assert windows.newest(3, 5400.0).bad == 3
    assert windows.newest(30, 5400.0).bad == 9
    assert windows.newest(30, 21_600.0).bad == 24


def test_what_two_processes_kept_of_one_slot_is_one() -> None:
    assert merged((1, 2, 5.0, 9.0), (3, 4, 2.0, 7.0)) == (4, 6, 2.0, 9.0)


def test_an_idle_night_is_a_pause_also_over_a_restart() -> None:
    windows = Windows(START)
    slots: dict[int, Slot] = {
        int((START - 40_000) // 720): (5, 0, START - 40_000, START - 39_900),
        int((START - 100) // 720): (5, 0, START - 100, START - 50),
    }
    windows.restore(720.0, slots)
    assert windows.weight(6 * HOUR) == pytest.approx(50 / (6 * HOUR))
    assert windows.weight(3 * DAY) == pytest.approx((100 + 39_800 + 50) / (3 * DAY))
    windows.good += 1
    windows.advance(START + 60)
    assert windows.weight(6 * HOUR) == pytest.approx((50 + 110) / (6 * HOUR))


def test_what_failed_in_a_row_ends_with_what_did_not() -> None:
    windows = Windows(0.0)
    for now, good, bad, in_a_row in ((1.0, 0, 3, 3), (2.0, 0, 0, 3), (3.0, 0, 2, 5), (4.0, 1, 2, 0), (5.0, 0, 1, 1)):
        windows.good += good
        windows.bad += bad
        windows.advance(now)
        assert windows.bad_in_a_row == in_a_row
