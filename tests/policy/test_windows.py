"""Every window equals a list of events, to within one of its slots, whatever the order of events and time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY
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
    kept: dict[tuple[float, int], list[int]] = {}
    for pause, good, bad in rows:
        now += pause
        windows.good, windows.bad = good, bad
        windows.advance(now)
        unsaved = windows.unsaved()
        assert unsaved == (good, bad)
        for width in LASTING:
            slot = kept.setdefault((width, int(now // width)), [0, 0])
            slot[0] += good
            slot[1] += bad
    now += later
    windows.advance(now)
    again = Windows(now)
    kept[60.0, int(now // 60.0) + 1] = [99, 99]
    for width in LASTING:
        again.restore(width, {at: (good, bad) for (of, at), (good, bad) in kept.items() if of == width})
    for length, width in SLOTS.items():
        expected = windows.count(length) if width in LASTING else Counts()
        assert again.count(length) == expected


@pytest.mark.parametrize("slo", [7.1 * DAY, 169 * 3600.0, 28 * DAY, 30 * DAY, 90 * DAY])
def test_the_slo_window_may_have_any_length(slo: float) -> None:
    windows = Windows(START, slo)
    windows.bad = 3
    assert windows.spotless
    windows.advance(START)
    assert windows.count(slo) == Counts(0, 3)
    assert not windows.spotless


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
