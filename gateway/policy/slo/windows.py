"""Sliding counts of good and bad events over ten windows at once, from ten seconds to the SLO window.

An event is one addition to `good` or `bad`, which `advance` folds into one running total every quarter of a second.
Tiers are rings of slots of one width each, which remember that total as it was when each slot began: a window is a
subtraction, whatever its length. It is exact to one of its slots, and no slot is longer than a thirtieth of any window
that is read from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.series import SeriesKey

TICK = 0.25
"""Seconds between two calls of `advance`: the width of the finest slots."""
MINUTE, HOUR = 60.0, 3600.0
LAYOUT: tuple[tuple[float, tuple[float, ...]], ...] = (
    (TICK, (10.0,)),
    (2.0, (MINUTE, 5 * MINUTE)),
    (MINUTE, (30 * MINUTE, HOUR, 2 * HOUR)),
    (720.0, (6 * HOUR, DAY, 3 * DAY)),
)
"""(width of a slot, windows read from it) in seconds; the SLO window has a tier of its own, with three-hour slots."""
_DAYS = 3
SLO_SLOT = 3 * HOUR
SHORT_WINDOWS = tuple(length for _, lengths in LAYOUT for length in lengths)
LASTING = (MINUTE, 720.0, SLO_SLOT)
"""Widths whose slots are worth keeping over a restart: those of the windows of half an hour and longer."""


@dataclass(frozen=True, slots=True)
class KeptSlot:
    """What was counted of one series in one slot: `width` seconds from `slot * width` of the epoch."""

    series: SeriesKey
    width: float
    slot: int
    good: int
    bad: int


class Tier:
    """A ring of slots of one width, each with what had been counted when it began; the newest lasts `until` then.

    A window is the difference between what is counted now and what was when its oldest slot began.
    """

    __slots__ = ("_bad", "_good", "_head", "_lengths", "_size", "seconds", "until", "width")

    def __init__(self, width: float, windows: Sequence[float], now: float) -> None:
        self.width = width
        self.seconds = tuple(windows)
        self._lengths = [round(window / width) for window in windows]
        self._size = max(self._lengths)
        self._good = [0] * self._size
        self._bad = [0] * self._size
        self._head = int(now // width)
        self.until = (self._head + 1) * width

    def advance(self, now: float, good: int, bad: int) -> None:
        """Move on to the slot of `now`; `good` and `bad` are all that was counted until then."""
        slot = int(now // self.width)
        size = self._size
        for passing in range(max(self._head + 1, slot - size + 1), slot + 1):
            self._good[passing % size] = good
            self._bad[passing % size] = bad
        self._head = max(self._head, slot)
        self.until = (self._head + 1) * self.width

    def before(self, index: int) -> tuple[int, int]:
        """Return the good and bad that had been counted when the window of this index began."""
        at = (self._head - self._lengths[index] + 1) % self._size
        return self._good[at], self._bad[at]

    def restore(self, slots: Mapping[int, tuple[int, int]]) -> None:
        """Count into older slots, as far as they are still held; one from the future is none of ours."""
        good = bad = 0
        for slot in range(self._head, self._head - self._size, -1):
            if slot in slots:
                good += slots[slot][0]
                bad += slots[slot][1]
            self._good[slot % self._size] -= good
            self._bad[slot % self._size] -= bad


class Windows:
    """Good and bad events of one subject and SLI over every window.

    `good` and `bad` are what came since the last `advance`; whoever counts adds to them. Times are seconds since the
    epoch, read from a clock that never jumps.
    """

    __slots__ = ("_all_bad", "_all_good", "_saved", "_tiers", "bad", "good", "slo")

    def __init__(self, now: float, slo_window: float = 28 * DAY) -> None:
        self.good = 0
        self.bad = 0
        self.slo = slo_window
        self._tiers = [Tier(width, windows, now) for width, windows in (*LAYOUT, (SLO_SLOT, (slo_window,)))]
        self._all_good = 0
        self._all_bad = 0
        self._saved = (0, 0)

    def __repr__(self) -> str:
        counts = self.count(10.0)
        return f"<Windows {counts.good} good {counts.bad} bad in 10 s>"

    def advance(self, now: float) -> None:
        """Let time pass, and fold in what was counted since the last call; it happened now, to within a tick."""
        for tier in self._tiers:
            if now >= tier.until:
                tier.advance(now, self._all_good, self._all_bad)
        self._all_good += self.good
        self._all_bad += self.bad
        self.good = self.bad = 0

    def count(self, window: float) -> Counts:
        """Return what the window of so many seconds held at the last `advance`; KeyError for an unknown window."""
        for length, counts in self.items():
            if length == window:
                return counts
        raise KeyError(window)

    def items(self) -> Iterator[tuple[float, Counts]]:
        """Return every window, in seconds, shortest first, with its counts."""
        for tier in self._tiers:
            for index, seconds in enumerate(tier.seconds):
                good, bad = tier.before(index)
                yield seconds, Counts(self._all_good - good, self._all_bad - bad)

    @property
    def spotless(self) -> bool:
        """Whether three days went by without a bad event: no alert looks further back."""
        _, bad = self._tiers[_DAYS].before(-1)
        return bad == self._all_bad

    @property
    def recent(self) -> tuple[int, int, int, int]:
        """Good and bad of the last minute, then of the last ten seconds."""
        good, bad = self._all_good, self._all_bad
        minute, ten = self._tiers[1].before(0), self._tiers[0].before(0)
        return good - minute[0], bad - minute[1], good - ten[0], bad - ten[1]

    def unsaved(self) -> tuple[int, int]:
        """Return good and bad folded since the last call: what a store has not been given yet."""
        good, bad = self._saved
        self._saved = self._all_good, self._all_bad
        return self._all_good - good, self._all_bad - bad

    def restore(self, width: float, slots: Mapping[int, tuple[int, int]]) -> None:
        """Take back what was kept over a restart: good and bad by slot of the given width (one of `LASTING`)."""
        next(tier for tier in self._tiers if tier.width == width).restore(slots)
