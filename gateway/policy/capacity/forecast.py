"""The load to expect when a replica asked for now is warm: what it was then, at the level of now.

Seasonal-naive (Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 5.2): the same minutes of the week
before, or of the day before, times how much more there is now than there was then. Without history it is what there is
now. The upper bound adds what the load of late was above its forecasts.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, inf
from typing import Final

from gateway.policy.capacity.want import Forecast

MINUTE: Final = 60.0
DAY: Final = 1440
WEEK: Final = 10080
"""Minutes."""
AROUND: Final = 2
"""Minutes on either side that a past minute is averaged with: a single one is mostly chance."""
LEVEL: Final = 15
"""Minutes from which the level of now is taken, where there is a season to hold it against."""
LATEST: Final = 2
"""Minutes from which it is taken where there is none."""
MOST: Final = 4.0
"""Times that the level may be above what it was then, or below it: more would be another kind of day."""
QUANTILE: Final = 0.9
"""The upper bound is exceeded in one of ten minutes."""
RESIDUALS: Final = 60
ENOUGH: Final = 10
"""Residuals, of the last so many minutes, from which on they say something."""
KEPT: Final = WEEK + DAY
"""Minutes."""
FADES: Final = 1 - 1 / DAY
"""What an error counts for, a minute later."""


class LoadForecast:
    """The load of one pool, in requests per second by minute, and what it is expected to be `ahead` seconds from now.

    Times are seconds since some midnight (those of Unix): the minute of the day and of the week counts. `mase` and
    `pinball` hold its forecasts of about the last day against what came: see there.
    """

    __slots__ = ("_asked", "_errors", "_minutes", "_next", "_residuals", "_values", "ahead")

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        # Each value by its minute modulo `KEPT`, and which minute that is: a clock that is wrong for a while, in either
        # direction, takes the place of as many minutes only.
        self._values: list[float] = [-1.0] * KEPT
        self._minutes: list[int] = [-1] * KEPT
        self._next = -1
        self._asked: dict[int, tuple[float, float, float]] = {}
        self._residuals: deque[float] = deque(maxlen=RESIDUALS)
        self._errors = [0.0, 0.0, 0.0, 0.0, 0.0]

    def __repr__(self) -> str:
        return f"<LoadForecast of {len(self.state()['rates'])} minutes>"

    def observe(self, minute: int, rate: float) -> None:
        """Learn the mean rate of a whole minute (its number since midnight of day 0); those left out stay unknown.

        The last minute told again, and what no gateway can have seen (below 0 or not finite), are left out. After one
        that is earlier, because the clock was set back, those ahead of it count as unknown until they come.
        """
        if minute < 0 or minute == self._next - 1 or not 0 <= rate < inf:
            return
        if minute < self._next:
            self._asked.clear()
        self._values[minute % KEPT], self._minutes[minute % KEPT] = rate, minute
        self._next = minute + 1
        self._settle(minute, rate)
        due = minute + 1 + ceil(self.ahead / MINUTE)
        middle, upper = self._expected(due)
        self._asked[due] = middle, upper, self._naive(due)

    def expected(self, now: float) -> Forecast | None:
        """Return the load `ahead` seconds from now, None before the first whole minute."""
        if self._next < 0:
            return None
        at = now + self.ahead
        middle, upper = self._expected(floor(at / MINUTE))
        return Forecast(at, middle, upper)

    @property
    def mase(self) -> float | None:
        """The mean absolute error over that of seasonal-naive, None while either is unknown: below 1 is better."""
        own, naive = self._errors[1], self._errors[2]
        return own / naive if naive else None

    @property
    def pinball(self) -> tuple[float, float] | None:
        """The mean pinball loss of the upper bound, and that of seasonal-naive in its place; None before the first."""
        count = self._errors[0]
        return (self._errors[3] / count, self._errors[4] / count) if count else None

    def state(self) -> dict[str, list[float]]:
        """Return what has to be kept over a restart: rates by minute, in runs of minutes without a gap.

        Of each run there is the first minute and the length; the last one ends with the minute that was told last.
        """
        known = sorted([each for each in self._minutes if each >= 0])
        ahead = bisect_left(known, self._next)
        known = known[ahead:] + known[:ahead]
        begins = [at for at, each in enumerate(known) if not at or each != known[at - 1] + 1]
        return {
            "first": [float(known[at]) for at in begins],
            "length": [float(end - at) for at, end in pairwise([*begins, len(known)])],
            "rates": [self._values[each % KEPT] for each in known],
            "residuals": [*self._residuals],
            "errors": [*self._errors],
        }

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Take back what `state` gave; raises KeyError, IndexError, TypeError or ValueError for anything else."""
        rates, first = [float(each) for each in state["rates"]], [float(each) for each in state["first"]]
        length = [float(each) for each in state.get("length", [len(rates)])]
        residuals, errors = [float(each) for each in state["residuals"]], [float(each) for each in state["errors"]]
        numbers = (*rates, *first, *length, *residuals, *errors)
        if len(errors) != len(self._errors) or not all(-inf < each < inf for each in numbers):
            raise ValueError("this is no state of a forecast")
        minutes = [
            minute
            for begin, count in zip(first, length, strict=True)
            for minute in range(int(begin), int(begin) + int(count))
        ]
        if len(minutes) != len(rates) or min(minutes, default=0) < 0:
            raise ValueError("the minutes of these rates are not known")
        for minute, rate in zip(minutes, rates, strict=True):
            if rate >= 0:
                self._values[minute % KEPT], self._minutes[minute % KEPT] = rate, minute
                self._next = minute + 1
        self._residuals.extend(residuals)
        self._errors = errors

    def _settle(self, minute: int, rate: float) -> None:
        """Hold what came against what was expected of it."""
        asked = self._asked.pop(minute, None)
        for each in [each for each in self._asked if each < minute]:
            del self._asked[each]
        if asked is None:
            return
        middle, upper, naive = asked
        self._residuals.append(rate - middle)
        added = [1.0, abs(rate - middle), abs(rate - naive), _pinball(rate, upper), _pinball(rate, naive)]
        self._errors = [old * FADES + new for old, new in zip(self._errors, added, strict=True)]

    def _expected(self, due: int) -> tuple[float, float]:
        middle = self._middle(due)
        if len(self._residuals) < ENOUGH:
            return middle, middle
        ranked = sorted(self._residuals)
        return middle, max(middle, middle + ranked[min(len(ranked) - 1, floor(QUANTILE * len(ranked)))])

    def _middle(self, due: int) -> float:
        now = self._mean(self._next - LATEST, self._next - 1) or 0.0
        period = self._period(due)
        if period:
            recent = self._mean(self._next - LEVEL, self._next - 1)
            then = self._mean(self._next - LEVEL - period, self._next - 1 - period)
            season = self._mean(due - period - AROUND, due - period + AROUND)
            if recent is not None and then is not None and season is not None:
                return season * min(max(recent / then, 1 / MOST), MOST) if then else season + recent
        return now

    def _naive(self, due: int) -> float:
        """Return the load of that minute a week or a day before, or else that of the last minute."""
        period = self._period(due)
        return self._at(due - period) if period else self._at(self._next - 1)

    def _period(self, due: int) -> int:
        """Return the longest season of which that minute is known, 0 without one."""
        return WEEK if self._at(due - WEEK) >= 0 else DAY if self._at(due - DAY) >= 0 else 0

    def _at(self, minute: int) -> float:
        is_known = minute < self._next and self._minutes[minute % KEPT] == minute
        return self._values[minute % KEPT] if is_known else -1.0

    def _mean(self, first: int, last: int) -> float | None:
        """Return the mean of the minutes that are known, None without any."""
        known = [rate for each in range(first, last + 1) if (rate := self._at(each)) >= 0]
        return sum(known) / len(known) if known else None


def _pinball(rate: float, bound: float) -> float:
    """Return the loss of a bound that the rate should stay below in `QUANTILE` of all cases."""
    return QUANTILE * (rate - bound) if rate > bound else (1 - QUANTILE) * (bound - rate)
