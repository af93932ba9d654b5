"""How much of the long windows of alerts was in use: the gaps between events that follow each other closely enough."""

from typing import Final

from gateway.policy.slo.objective import DAY

HOUR: Final = 3600.0
LONG = (HOUR, 6 * HOUR, DAY, 3 * DAY)
"""The long windows of alerts, whose used seconds are counted."""
BRIDGED: Final = 4
"""A gap of up to this fraction of a long window may be time in use; a longer one is a pause."""


class TimeInUse:
    """The seconds of each of the `LONG` windows that were used since the beginning: the gaps between events.

    A gap of more than a minute counts only for windows that are long enough to bridge it.
    """

    __slots__ = ("_long_gaps", "_short_gaps")

    def __init__(self) -> None:
        self._short_gaps = 0.0
        self._long_gaps = [0.0] * len(LONG)

    def __repr__(self) -> str:
        return f"<TimeInUse {self._short_gaps:.0f} s and {self._long_gaps}>"

    def add_short(self, gap: float) -> None:
        """Count a gap of up to a minute."""
        self._short_gaps += gap

    def add_long(self, gap: float, bridged: float) -> None:
        """Count a longer one, at most `bridged` seconds of it."""
        for index, long in enumerate(LONG):
            if gap <= long / BRIDGED:
                self._long_gaps[index] += min(gap, bridged)

    def seconds(self, index: int) -> float:
        """Return those of `LONG[index]`."""
        return self._short_gaps + self._long_gaps[index]

    def all(self) -> list[float]:
        """Return those of each."""
        return [self._short_gaps + long for long in self._long_gaps]
