"""Only what was counted in is folded, and whoever asks learns what failed."""

import pytest

from gateway.policy.slo.folding import Folding
from gateway.policy.slo.moment import Followed, Moment
from gateway.policy.slo.objective import DEFAULT, Sli
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import Windows

START = 1_700_000_000.0


def series(name: str, moment: Moment) -> Series:
    key = SeriesKey(Kind.MODEL, name, DEFAULT.name, Sli.AVAILABILITY)
    return Series(key, DEFAULT.targets[Sli.AVAILABILITY], Windows(moment.now, moment=moment))


def test_what_failed_is_told_once_and_after_a_restore_that_may_be_any() -> None:
    moment, folding = Moment(START), Folding()
    one, other, stranger = (series(name, moment) for name in ("one", "other", "stranger"))
    folding.follow({each.windows: each for each in (one, other)})
    assert folding.take_failed() is None
    folding.count(one, good=0, bad=1)
    folding.count(other, good=1, bad=0)
    folding.count(stranger, good=0, bad=1)
    moment.now += 0.25
    assert len(list(folding.advancing(moment.now))) == 3
    assert folding.take_failed() == [one]
    assert folding.take_failed() == []
    folding.restored()
    assert folding.take_failed() is None


def test_windows_that_nothing_is_counted_for_follow_the_time_when_they_are_read() -> None:
    moment = Moment(START)
    windows = Windows(START, moment=moment)
    windows.bad += 1
    windows.advance(START)
    for _ in range(4):
        moment.now += 20.0
        assert windows.now == moment.now
    assert windows.recent == (0, 0, 0, 0)
    assert windows.count(300.0).bad == 1


def test_before_the_first_event_every_window_is_empty() -> None:
    windows = Windows(START)
    windows.advance(START + 1e6)
    assert not any(counts.total for _, counts in windows.items())
    assert windows.spotless
    assert windows.weekly == windows.weight(3600.0) == 0.0
    with pytest.raises(KeyError):
        windows.count(7.0)


def test_they_say_what_they_hold() -> None:
    moment = Moment(2.0)
    assert repr(moment) == "<Moment 2.00>"
    assert repr(Followed(1.0, moment)) == "<Followed to 1.00 of 2.00>"
    assert repr(Folding()) == "<Folding 0 counted>"


def test_what_is_followed_no_more_has_not_changed() -> None:
    moment, folding = Moment(START), Folding()
    one, stranger = series("one", moment), series("stranger", moment)
    folding.follow({one.windows: one})
    for each in (one, stranger):
        folding.count(each, good=1, bad=0)
    assert len(list(folding.advancing(moment.now))) == 2
    assert list(folding.changing()) == [one]
    folding.count(one, good=0, bad=0)
    assert list(folding.advancing(moment.now)) == []
