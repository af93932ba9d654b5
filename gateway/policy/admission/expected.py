"""How many slots come free within some time: the sum of every held slot's own chance."""

from collections.abc import Iterable
from itertools import islice
from math import ceil, log2
from typing import Final

from gateway.claim import Claim
from gateway.policy.admission.headroom import Holders

MOST: Final = 64
"""Slots that are looked at; of more, an even sample stands for all."""
FRESH: Final = 0.05
"""Seconds for which what was reckoned holds: in a flood of refusals each costs a look at a table."""
SLOW: Final = 5.0
"""Times the usual from which what holds a slot, or its kind of late, looks slow."""
_STEPS: Final = 8
"""Steps of time in each doubling."""


class Expected:
    """Called with seconds, it returns how many slots come free in that time, on average; time is rounded up a little.

    `is_known` says whether enough is known of every kind that holds a slot; `pace` is how many slots would come free in
    a second, of those that look slow, if they were as usual.
    """

    __slots__ = ("_ages", "_at", "_scale", "_table", "is_known", "pace")

    def __init__(self) -> None:
        self.is_known = False
        self.pace = 0.0
        self._ages: list[tuple[Claim, float]] = []
        self._scale = 1.0
        self._at = float("-inf")
        self._table: dict[int, float] = {}

    def look(self, holders: Iterable[Holders], now: float) -> None:
        """Look at who holds slots now."""
        if now - self._at < FRESH:
            return
        self._at = now
        self._table.clear()
        every = [(claim, now - since) for each in holders for claim, since in each.held.items()]
        self.is_known = bool(every) and all(claim.kind.is_known for claim, _ in every)
        step = max(1, ceil(len(every) / MOST))
        self._ages = list(islice(every, 0, None, step))
        self._scale = len(every) / max(1, len(self._ages))
        rows = [(claim.kind.usual, max(claim.kind.mean, age)) for claim, age in self._ages]
        self.pace = self._scale * sum(1 / usual for usual, seconds in rows if seconds > SLOW * usual > 0)

    def __call__(self, seconds: float) -> float:
        """Return the mean number of slots that come free within so many seconds, above 0."""
        place = ceil(_STEPS * log2(seconds))
        found = self._table.get(place)
        if found is None:
            rounded = 2.0 ** (place / _STEPS)
            total = sum(claim.kind.ends_within(age, rounded) for claim, age in self._ages)
            found = self._table[place] = total * self._scale
        return found
