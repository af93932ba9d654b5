"""Beside how many requests an engine refuses one more, as far as that is no matter of the one that it refused."""

from operator import itemgetter
from typing import Final

RECENT: Final = 10.0
"""Seconds for which a refusal is remembered."""


class Bearing:
    """What the refusals of a busy engine say of how many requests it bears.

    A request may be refused for what it is, time and again: it takes two different ones, and none since that was sent
    beside as many and is worked on. `turn` counts refusals: who was sent later has a turn at least as high. `doubted`
    says that some are remembered. Times are seconds of the caller's clock.
    """

    __slots__ = ("_by", "doubted", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self.doubted = False
        self._by: list[tuple[int, object, int, float]] = []

    def __repr__(self) -> str:
        return f"<Bearing {[beside for beside, *_ in self._by]}>"

    def refused(self, request: object, beside: int, now: float) -> int | None:
        """Learn that a request was refused beside so many; return beside how many two were, None for one alone."""
        self.turn += 1
        least, since = beside, now - RECENT
        rows = []
        for row in self._by:
            if row[1] is request:
                least = min(least, row[0]) if row[3] >= since else least
            elif row[3] >= since:
                rows.append(row)
        rows.append((least, request, self.turn, now))
        rows.sort(key=itemgetter(0))
        self._by = rows[:2]
        self.doubted = True
        return rows[1][0] if len(rows) > 1 else None

    def took(self, turn: int, beside: int) -> None:
        """Learn that one is worked on which was sent in this `turn` beside so many.

        What was refused there was not refused for that.
        """
        self._by = [row for row in self._by if row[0] > beside or row[2] > turn]
        self.doubted = bool(self._by)
