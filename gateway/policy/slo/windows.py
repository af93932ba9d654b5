"""Sliding counts of good and bad events over ten windows at once, from ten seconds to the SLO window.

An event is one addition to `good` or `bad`, which `advance` folds into one running total every quarter of a second.
Tiers are rings of slots of one width each, which remember that total as it was when each slot began: a window is a
subtraction, whatever its length. It is exact to one of its slots, and no slot is longer than a thirtieth of any window
that is read from it.

Beside the counts go the seconds of the four long alert windows that were *used*: the gaps between events that follow
each other within a quarter of the window; a gap far beyond the usual counts only in part. An alert weighs a
burn rate by them, so that a minute of traffic is not taken for three days of it.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import inf
from typing import Final

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.moment import Followed, Moment
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.slots import Saved, Slot
from gateway.policy.slo.time_in_use import BRIDGED, HOUR, LONG, TimeInUse

TICK: Final = 0.25
"""Seconds between two calls of `advance`: the width of the finest slots."""
MINUTE: Final = 60.0
FINE: Final = 2.0
LAYOUT: Final[tuple[tuple[float, tuple[float, ...]], ...]] = (
    (TICK, (10.0,)),
    (FINE, (MINUTE, 5 * MINUTE)),
    (MINUTE, (30 * MINUTE, HOUR, 2 * HOUR)),
    (720.0, (6 * HOUR, DAY, 3 * DAY)),
)
"""(width of a slot, windows read from it) in seconds; the SLO window has a tier of its own, with three-hour slots."""
_SHORT_GAP: Final = MINUTE
_USUAL_GAPS: Final = 10
"""A gap counts as time in use up to a minute, or up to so many times the mean gap of the last day: the quiet that
follows dense traffic is no use of that kind."""
WEEK: Final = 7 * DAY
_MINUTES: Final = 2
_DAYS: Final = 3
_SLO: Final = 4
SLO_SLOT: Final = 3 * HOUR
STORED: Final = {
    FINE: 5 * MINUTE + FINE,
    MINUTE: 2 * HOUR + MINUTE,
    720.0: 3 * DAY + 720.0,
    SLO_SLOT: 90 * DAY + SLO_SLOT,
}
"""For how many seconds slots are stored, by their width: as long as some window holds them."""
LASTING = (FINE, MINUTE, 720.0, SLO_SLOT)
"""Widths whose slots outlive a restart: those of every window that an alert reads, and of the SLO window."""


class Tier:
    """A ring of slots of one width each, with what had been counted when each began; the newest lasts `until` then.

    A window is the difference between what is counted now and what was when its oldest slot began. `longs` are those
    of its windows whose used seconds are counted, `LONG[offset:]`.
    """

    __slots__ = (
        "_bad",
        "_good",
        "_head",
        "_lengths",
        "_offset",
        "_size",
        "_used",
        "longs",
        "seconds",
        "until",
        "width",
    )

    def __init__(self, width: float, windows: Sequence[float], now: float) -> None:
        self.width = width
        self.seconds = tuple(windows)
        self._lengths = [round(window / width) for window in windows]
        self._size = max(self._lengths)
        self._good = array("q", bytes(8 * self._size))
        self._bad = array("q", bytes(8 * self._size))
        self.longs = [window for window in windows if window in LONG]
        self._offset = LONG.index(self.longs[0]) if self.longs else 0
        self._used = [array("d", bytes(8 * self._size)) for _ in self.longs]
        self._head = int(now // width)
        self.until = (self._head + 1) * width

    def advance(self, now: float, good: int, bad: int, used: Sequence[float]) -> None:
        """Move on to the slot of `now`; `good`, `bad` and `used` (by long window) are all that was until then."""
        slot = int(now // self.width)
        size = self._size
        for passing in range(max(self._head + 1, slot - size + 1), slot + 1):
            at = passing % size
            self._good[at] = good
            self._bad[at] = bad
            for index, seconds in enumerate(self._used, self._offset):
                seconds[at] = used[index]
        self._head = max(self._head, slot)
        self.until = (self._head + 1) * self.width

    def before(self, index: int) -> tuple[int, int]:
        """Return the good and bad that had been counted when the window of this index began."""
        at = (self._head - self._lengths[index] + 1) % self._size
        return self._good[at], self._bad[at]

    def add(self, at: float, good: int, bad: int) -> None:
        """Learn of events that came a while ago: every slot that began after them had them already."""
        for slot in range(max(int(at // self.width) + 1, self._head - self._size + 1), self._head + 1):
            place = slot % self._size
            self._good[place] += good
            self._bad[place] += bad

    def used_before(self, long: int) -> float:
        """Return the seconds that had been used when `LONG[long]` began."""
        length = round(LONG[long] / self.width)
        return self._used[long - self._offset][(self._head - length + 1) % self._size]

    def holding(self, events: int, within: float, total: int) -> tuple[int, int]:
        """Return the good and bad that had been counted before the newest slots that hold so many events.

        `total` is all that was counted. None of the slots began longer than `within` seconds ago.
        """
        head, size, good, bad = self._head, self._size, self._good, self._bad
        at = head % size
        for slot in range(head, head - round(within / self.width), -1):
            at = slot % size
            if total - good[at] - bad[at] >= events:
                break
        return good[at], bad[at]

    def slots_before(self, seconds: float) -> int:
        """Return how many events had been counted so many seconds ago."""
        at = (self._head - round(seconds / self.width) + 1) % self._size
        return self._good[at] + self._bad[at]

    def restore(self, slots: Mapping[int, Slot]) -> None:
        """Count into older slots, as far as they are still held; one from the future is left out."""
        spent = dict(self._used_by_slot(slots))
        good = bad = 0
        used = [0.0 for _ in self.longs]
        for slot in range(self._head, self._head - self._size, -1):
            if slot in slots:
                good += slots[slot][0]
                bad += slots[slot][1]
                used = [total + seconds for total, seconds in zip(used, spent[slot], strict=True)]
            at = slot % self._size
            self._good[at] -= good
            self._bad[at] -= bad
            for column, seconds in zip(self._used, used, strict=True):
                column[at] -= seconds

    def _used_by_slot(self, slots: Mapping[int, Slot]) -> Iterator[tuple[int, list[float]]]:
        """Return what each slot's events used of each long window: the gaps within it, and the one before its first."""
        order = sorted(slots)
        before, oldest, events = -inf, 0, 0
        for slot in order:
            good, bad, first, last = slots[slot]
            while slots[order[oldest]][2] < first - DAY:
                events -= sum(slots[order[oldest]][:2])
                oldest += 1
            bridged = _bridged(min(DAY, first - slots[order[0]][2]), events)
            within, gap = min(last - first, self.width), max(0.0, first - before)
            yield slot, [within + (min(gap, bridged) if gap <= long / BRIDGED else 0.0) for long in self.longs]
            before, events = last, events + good + bad


def _bridged(span: float, events: int) -> float:
    """Return the seconds of a gap that count at most, where so many events came before it within `span` seconds."""
    return max(_SHORT_GAP, _USUAL_GAPS * span / (events + 1))


def _tiers(now: float, slo_window: float) -> list[Tier]:
    return [Tier(width, windows, now) for width, windows in (*LAYOUT, (SLO_SLOT, (slo_window,)))]


@cache
def _blank(slo_window: float) -> list[Tier]:
    """Return the tiers of all windows in which nothing was counted yet: whatever the time, they hold nothing."""
    tiers = _tiers(0.0, slo_window)
    for tier in tiers:
        tier.until = inf
    return tiers


class Windows:
    """Good and bad events of one subject and SLI over every window.

    `good` and `bad` are what came since the last `advance`; the caller adds to them. Times are seconds since the
    epoch, read from a clock that never jumps. `first` and `last` are when the first and the last event was folded in
    (infinite, and minus infinite, before there was one), `now` when time last advanced. `bad_in_a_row` are the bad
    events since the last call of `advance` that found a good one.

    What shares a `Moment` with others follows it whenever it is read, so that time passes for thousands of windows at
    once and only those that are counted in have to be advanced. They have no tiers of their own before the first event.
    """

    __slots__ = (
        "_all_bad",
        "_all_good",
        "_followed",
        "_saved",
        "_tiers",
        "_use",
        "bad",
        "bad_in_a_row",
        "first",
        "good",
        "last",
        "slo",
    )

    def __init__(self, now: float, slo_window: float = 28 * DAY, moment: Moment | None = None) -> None:
        self.good = 0
        self.bad = 0
        self.bad_in_a_row = 0
        self.slo = slo_window
        self.first = inf
        self.last = -inf
        self._followed = Followed(now, moment)
        self._tiers = _blank(slo_window)
        self._all_good = 0
        self._all_bad = 0
        self._use = TimeInUse()
        self._saved = Saved()

    def __repr__(self) -> str:
        counts = self.count(10.0)
        return f"<Windows {counts.good} good {counts.bad} bad in 10 s>"

    @property
    def now(self) -> float:
        """When time last advanced."""
        return self._followed.latest

    def advance(self, now: float) -> None:
        """Let time pass, and fold in what was counted since the last call; it happened now, to within a tick."""
        for tier in self._tiers:
            if now >= tier.until:
                tier.advance(now, self._all_good, self._all_bad, self._use.all() if tier.longs else ())
        self._followed.now = now
        if self.good or self.bad:
            self._begin()
            events, gap = self.good + self.bad, now - self.last
            self._all_good += self.good
            self._all_bad += self.bad
            self.bad_in_a_row = 0 if self.good else self.bad_in_a_row + self.bad
            self.good = self.bad = 0
            self._saved.fresh = min(self._saved.fresh, now)
            if 0.0 < gap <= _SHORT_GAP:
                self._use.add_short(gap)
                self.last = now
            elif gap > 0.0:
                self._paused(gap, events)

    def _begin(self) -> None:
        """Have tiers, if it has none of its own yet."""
        if self._tiers[0].until == inf:
            self._tiers = _tiers(self._followed.now, self.slo)

    def _follow(self) -> None:
        """Let pass what time has passed for all."""
        latest = self._followed.latest
        if latest > self._followed.now:
            self.advance(latest)

    def count(self, window: float) -> Counts:
        """Return what the window of so many seconds holds; KeyError for an unknown window."""
        self._follow()
        for tier in self._tiers:
            if window in tier.seconds:
                good, bad = tier.before(tier.seconds.index(window))
                return Counts(self._all_good - good, self._all_bad - bad)
        raise KeyError(window)

    def items(self) -> Iterator[tuple[float, Counts]]:
        """Return every window, in seconds, shortest first, with its counts."""
        self._follow()
        for tier in self._tiers:
            for index, seconds in enumerate(tier.seconds):
                good, bad = tier.before(index)
                yield seconds, Counts(self._all_good - good, self._all_bad - bad)

    def newest(self, events: int, within: float) -> Counts:
        """Return the newest so many events, or up to a slot's more, none older than `within` seconds.

        Two hours or more are exact to twelve minutes, less to one.
        """
        self._follow()
        tier = self._tiers[_MINUTES if within <= 2 * HOUR else _DAYS]
        good, bad = tier.holding(events, within, self._all_good + self._all_bad)
        return Counts(self._all_good - good, self._all_bad - bad)

    def weight(self, long: float) -> float:
        """Return how much of a long alert window (one of `LONG`) was in use, 0 to 1.

        That is the share of it that was in use, or its events over those of a usual window of that length, once a day
        of history tells what is usual; the higher of both, so that a service with few busy hours is not made light of.
        """
        index = LONG.index(long)
        self._follow()
        tier = self._tiers[_MINUTES if index == 0 else _DAYS]
        used = (self._use.seconds(index) - tier.used_before(index)) / long
        age = self.age
        if used >= 1.0 or age < DAY:
            return min(1.0, used)
        usual = self.count(self.slo).total / min(self.slo, age) * long
        return min(1.0, max(used, self.count(long).total / usual)) if usual else used

    @property
    def age(self) -> float:
        """Seconds since the first event, 0 before there is one."""
        return max(0.0, self.now - self.first)

    @property
    def weekly(self) -> float:
        """Events per second over the last seven days, or since the first event."""
        span = min(WEEK, self.age)
        self._follow()
        total = self._all_good + self._all_bad - self._tiers[_SLO].slots_before(WEEK)
        return total / span if span else 0.0

    @property
    def failures(self) -> int:
        """Bad events since this process began to count."""
        return self._all_bad

    @property
    def spotless(self) -> bool:
        """Whether three days went by without a bad event: no alert looks further back."""
        self._follow()
        _, bad = self._tiers[_DAYS].before(-1)
        return bad == self._all_bad

    @property
    def recent(self) -> tuple[int, int, int, int]:
        """Good and bad of the last minute, then of the last ten seconds."""
        self._follow()
        good, bad = self._all_good, self._all_bad
        minute, ten = self._tiers[1].before(0), self._tiers[0].before(0)
        return good - minute[0], bad - minute[1], good - ten[0], bad - ten[1]

    def merge(self, at: float, good: int, bad: int) -> None:
        """Count what another process counted a while ago, and has saved itself; less than nothing takes it back."""
        self._follow()
        self._begin()
        for tier in self._tiers:
            tier.add(at, good, bad)
        events, gap = good + bad, at - self.last
        self._all_good += good
        self._all_bad += bad
        self._saved.skip(good, bad)
        if events <= 0:
            return
        self.first = min(self.first, at)
        if 0.0 < gap <= _SHORT_GAP:
            self._use.add_short(gap)
            self.last = at
        elif gap > 0.0:
            self.last = at
            self._use.add_long(gap, _bridged(min(DAY, self.age), self.count(DAY).total - events))

    def unsaved(self) -> Slot:
        """Return good and bad folded since the last call, and when the first and last: what no store has yet."""
        return self._saved.save(self._all_good, self._all_bad, self.last)

    def restore(self, width: float, slots: Mapping[int, Slot]) -> None:
        """Take back what outlived a restart: by slot of the given width (one of `LASTING`)."""
        self._follow()
        self._begin()
        next(tier for tier in self._tiers if tier.width == width).restore(slots)
        for _, _, first, last in slots.values():
            if first <= self.now:
                self.first = min(self.first, first)
                self.last = max(self.last, min(last, self.now))

    def _paused(self, gap: float, events: int) -> None:
        """Take so many events after none for so long, or the first of all."""
        self.first = min(self.first, self._followed.now)
        self.last = self._followed.now
        bridged = _bridged(min(DAY, self.age), self.count(DAY).total - events)
        self._use.add_long(gap, bridged)
