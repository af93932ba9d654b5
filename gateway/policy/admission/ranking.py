"""Items in the order of a number that each has: who is on top is known without looking at the others."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ranking(Generic[Item]):
    """Items by their number, the highest on top; of equal ones that with the lowest `turn`, of which no two have one.

    A sorted list: finding a place takes log n comparisons, and making room there moves the pointers behind it, which
    takes about a microsecond with 10,000 items. A heap would not tell the order of more than the first.
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[tuple[float, int, Item]] = []

    def __repr__(self) -> str:
        return f"<Ranking {[*self]}>"

    def __iter__(self) -> Iterator[Item]:
        """Yield all items, from the top."""
        return (item for _, _, item in reversed(self._rows))

    def top(self) -> Item:
        """Return the item on top; IndexError where there is none."""
        return self._rows[-1][2]

    def add(self, number: float, turn: int, item: Item) -> None:
        """Add an item with a number."""
        insort(self._rows, (number, -turn, item))

    def remove(self, number: float, turn: int, item: Item) -> None:
        """Take out an item that was added with just these."""
        del self._rows[bisect_left(self._rows, (number, -turn, item))]

    def move(self, before: float, number: float, turn: int, item: Item) -> None:
        """Give an item another number than it had before."""
        if len(self._rows) == 1:
            self._rows[0] = (number, -turn, item)
        else:
            self.remove(before, turn, item)
            self.add(number, turn, item)
