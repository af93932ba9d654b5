"""Many counts of slots in little memory: columns of numbers for each series and width, in the order of time."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import STORED


class SlotTable:
    """Counts by series, width and slot."""

    def __init__(self, counts: Iterable[SlotCounts] = ()) -> None:
        self._columns: dict[tuple[SeriesKey, float], _Columns] = {}
        for each in counts:
            self.put(each)

    def __repr__(self) -> str:
        return f"<SlotTable of {len(self._columns)} series and widths>"

    def __iter__(self) -> Iterator[SlotCounts]:
        for (series, width), columns in self._columns.items():
            for row in zip(columns.slots, columns.good, columns.bad, columns.first, columns.last, strict=True):
                yield SlotCounts(series, width, *row)

    def get(self, series: SeriesKey, width: float, slot: int) -> tuple[int, int]:
        """Return good and bad of one slot."""
        columns = self._columns.get((series, width))
        return (0, 0) if columns is None else columns.get(slot)

    def put(self, counts: SlotCounts) -> None:
        """Set the counts of one slot."""
        self._of(counts).put(counts)

    def add(self, counts: SlotCounts) -> None:
        """Add to the counts of one slot."""
        good, bad = self.get(counts.series, counts.width, counts.slot)
        self._of(counts).put(counts._replace(good=good + counts.good, bad=bad + counts.bad))

    def less(self, counts: SlotCounts) -> SlotCounts:
        """Return counts without what is here of their slot; nothing of one that was forgotten."""
        good, bad = self.get(counts.series, counts.width, counts.slot)
        columns = self._columns.get((counts.series, counts.width))
        if columns is not None and counts.slot < columns.floor:
            good, bad = counts.good, counts.bad
        return counts._replace(good=counts.good - good, bad=counts.bad - bad)

    def rest(self, counts: Iterable[SlotCounts]) -> Iterator[SlotCounts]:
        """Yield what is left of counts without what is here, where something is."""
        return (left for left in map(self.less, counts) if left.good > 0 or left.bad > 0)

    def forget(self) -> None:
        """Forget what no window holds any more when it holds the newest slot: clocks may be wrong."""
        for (_, width), columns in self._columns.items():
            columns.forget(columns.slots[-1] - int(STORED[width] // width) - 1)

    def _of(self, counts: SlotCounts) -> "_Columns":
        key = counts.series, counts.width
        columns = self._columns.get(key)
        if columns is None:
            columns = self._columns[key] = _Columns()
        return columns


class _Columns:
    """The slots of one series and width, 40 bytes each; those before `floor` are forgotten."""

    __slots__ = ("bad", "first", "floor", "good", "last", "slots")

    def __init__(self) -> None:
        self.floor = 0
        self.slots = array("q")
        self.good = array("q")
        self.bad = array("q")
        self.first = array("d")
        self.last = array("d")

    def get(self, slot: int) -> tuple[int, int]:
        at = bisect_left(self.slots, slot)
        return (self.good[at], self.bad[at]) if at < len(self.slots) and self.slots[at] == slot else (0, 0)

    def put(self, counts: SlotCounts) -> None:
        if counts.slot < self.floor:
            return
        at = bisect_left(self.slots, counts.slot)
        if at == len(self.slots) or self.slots[at] != counts.slot:
            self.slots.insert(at, counts.slot)
            self.good.insert(at, counts.good)
            self.bad.insert(at, counts.bad)
            self.first.insert(at, counts.first)
            self.last.insert(at, counts.last)
            return
        self.good[at], self.bad[at] = counts.good, counts.bad
        self.first[at] = min(self.first[at], counts.first)
        self.last[at] = max(self.last[at], counts.last)

    def forget(self, before: int) -> None:
        self.floor = max(self.floor, before)
        at = bisect_left(self.slots, before)
        if at:
            del self.slots[:at], self.good[:at], self.bad[:at], self.first[:at], self.last[:at]
