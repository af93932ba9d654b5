"""Sliding counts of good and bad events over ten windows at once, from ten seconds to the SLO window.

An event is one addition to `good` or `bad`. Every quarter of a second `advance` folds those into the tiers: rings of
slots of one width each, whose windows are running sums over the newest slots. A window is exact to one of its slots,
and no slot is longer than a thirtieth of any window that is read from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY

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
SLO_SLOT = 3 * HOUR
SHORT_WINDOWS = tuple(length for _, lengths in LAYOUT for length in lengths)
LASTING = (MINUTE, 720.0, SLO_SLOT)
"""Widths whose slots are worth keeping over a restart: those of the windows of half an hour and longer."""


@dataclass(frozen=True, slots=True)
class KeptSlot:
    """What was counted of one SLI of one subject in one slot: `width` seconds from `slot * width` of the epoch."""

    kind: str
    name: str
    sli: str
    width: float
    slot: int
    good: int
    bad: int


class Tier:
    """A ring of slots of one width, and the running sums of the windows that are read from it."""

    __slots__ = ("_bad", "_good", "_head", "_size", "bad", "good", "lengths", "seconds", "width")

    def __init__(self, width: float, windows: Sequence[float], now: float) -> None:
        self.width = width
        self.seconds = tuple(windows)
        self.lengths = [round(window / width) for window in windows]
        self.good = [0] * len(windows)
        self.bad = [0] * len(windows)
        self._size = max(self.lengths) + 1
        self._good = [0] * self._size
        self._bad = [0] * self._size
        self._head = int(now // width)

    def advance(self, now: float) -> None:
        """Move on to the slot of `now`, letting go of what has left each window. Time that runs back does nothing."""
        slot = int(now // self.width)
        if slot <= self._head:
            return
        if slot - self._head >= self._size:
            self._clear()
            self._head = slot
            return
        while self._head < slot:
            self._step()

    def add(self, good: int, bad: int) -> None:
        """Count into the newest slot."""
        at = self._head % self._size
        self._good[at] += good
        self._bad[at] += bad
        for index in range(len(self.lengths)):
            self.good[index] += good
            self.bad[index] += bad

    def restore(self, slot: int, good: int, bad: int) -> None:
        """Count into an older slot, as far as it is still held; one from the future is none of ours."""
        age = self._head - slot
        if not 0 <= age < self._size:
            return
        self._good[slot % self._size] += good
        self._bad[slot % self._size] += bad
        for index, length in enumerate(self.lengths):
            if age < length:
                self.good[index] += good
                self.bad[index] += bad

    def _step(self) -> None:
        head = self._head = self._head + 1
        size, goods, bads = self._size, self._good, self._bad
        for index, length in enumerate(self.lengths):
            leaving = (head - length) % size
            self.good[index] -= goods[leaving]
            self.bad[index] -= bads[leaving]
        goods[head % size] = bads[head % size] = 0

    def _clear(self) -> None:
        self._good[:] = self._bad[:] = [0] * self._size
        self.good[:] = self.bad[:] = [0] * len(self.lengths)


class Windows:
    """Good and bad events of one subject and SLI over every window.

    `good` and `bad` are what came since the last `advance`; whoever counts adds to them. Times are seconds since the
    epoch, read from a clock that never jumps.
    """

    __slots__ = (
        "_days",
        "_lasting",
        "_minute",
        "_ten_seconds",
        "_tiers",
        "_unsaved_bad",
        "_unsaved_good",
        "bad",
        "good",
        "slo",
    )

    def __init__(self, now: float, slo_window: float = 28 * DAY) -> None:
        self.good = 0
        self.bad = 0
        self.slo = slo_window
        layout = (*LAYOUT, (SLO_SLOT, (slo_window,)))
        self._tiers = [Tier(width, windows, now) for width, windows in layout]
        self._ten_seconds, self._minute, _, self._days, _ = self._tiers
        self._lasting = {tier.width: tier for tier in self._tiers if tier.width in LASTING}
        self._unsaved_good = 0
        self._unsaved_bad = 0

    def __repr__(self) -> str:
        counts = self.count(10.0)
        return f"<Windows {counts.good} good {counts.bad} bad in 10 s>"

    def advance(self, now: float) -> None:
        """Let time pass, and fold in what was counted since the last call; it happened now, to within a tick."""
        good, bad = self.good, self.bad
        if not good and not bad:
            for tier in self._tiers:
                tier.advance(now)
            return
        self.good = self.bad = 0
        self._unsaved_good += good
        self._unsaved_bad += bad
        for tier in self._tiers:
            tier.advance(now)
            tier.add(good, bad)

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
                yield seconds, Counts(tier.good[index], tier.bad[index])

    @property
    def spotless(self) -> bool:
        """Whether three days went by without a bad event: no alert looks further back."""
        return not self._days.bad[-1]

    @property
    def recent(self) -> tuple[int, int, int, int]:
        """Good and bad of the last minute, then of the last ten seconds."""
        minute, ten = self._minute, self._ten_seconds
        return minute.good[0], minute.bad[0], ten.good[0], ten.bad[0]

    def unsaved(self) -> tuple[int, int]:
        """Return good and bad folded since the last call: what a store has not been given yet."""
        taken = self._unsaved_good, self._unsaved_bad
        self._unsaved_good = self._unsaved_bad = 0
        return taken

    def restore(self, width: float, slot: int, good: int, bad: int) -> None:
        """Take back a slot of the given width (one of `LASTING`) that was kept over a restart."""
        self._lasting[width].restore(slot, good, bad)
