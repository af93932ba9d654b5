"""Throughput while there is demand: slots of ten seconds in which requests waited all the time, and what was done then.

Without a queue nothing is judged: a service that nobody asks for more cannot do more, and one request alone cannot keep
engines busy. What an answer brought counts evenly over the time that engines had it, so a slot is judged only once no
answer can still be in progress that had a part in it.
"""

from collections.abc import Sequence
from typing import Final

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import Throughput

SLOT: Final = 10.0
"""Seconds of one slot: one event of the SLI."""
FEWEST_WAITING: Final = 2
"""Requests that wait while there is demand: one alone may wait for a place of its own size."""
FEWEST_LOOKS: Final = 6
"""Looks at the queue that a slot needs at least; they come once a second."""
LONGEST: Final = 900.0
"""Seconds after which a slot is judged at the latest."""


class _Slot:
    """What is known of one slot; `is_idle` once fewer requests waited than demand takes."""

    __slots__ = ("is_idle", "looks", "requests", "tokens")

    def __init__(self) -> None:
        self.looks = 0
        self.is_idle = False
        self.requests = self.tokens = 0.0


class ThroughputMeter:
    """Measures one objective of a model. `now` are seconds of a clock that never jumps.

    A slot is judged `lag` seconds after its end: as long as an answer may take, `LONGEST` at most.
    """

    def __init__(self, objective: Throughput, lag: float) -> None:
        self.objective = objective
        self._lag = min(lag, LONGEST)
        self._slots: dict[int, _Slot] = {}
        self._judged = -1

    def __repr__(self) -> str:
        return f"<ThroughputMeter {len(self._slots)} slots>"

    def look(self, now: float, waiting: int) -> None:
        """Learn how many requests wait, about once a second."""
        slot = self._slot(int(now // SLOT))
        slot.looks += 1
        if waiting < FEWEST_WAITING:
            slot.is_idle = True

    def answered(self, start: float, end: float, tokens: int) -> None:
        """Count an answer that engines worked on from `start` to `end`."""
        first, last = int(start // SLOT), int(end // SLOT)
        length = max(end - start, 1e-9)
        for index in range(max(first, self._judged + 1), last + 1):
            part = 1.0 if first == last else (min(end, (index + 1) * SLOT) - max(start, index * SLOT)) / length
            slot = self._slot(index)
            slot.requests += part
            slot.tokens += part * tokens

    def judge(self, now: float) -> Counts:
        """Return the good and bad slots that nothing can be added to any more, each once."""
        good = bad = 0
        last = int((now - self._lag) // SLOT) - 1
        for index in self._until(last):
            slot = self._slots.pop(index)
            if slot.looks >= FEWEST_LOOKS and not slot.is_idle:
                if self.objective.is_met(slot.tokens / SLOT, slot.requests / SLOT):
                    good += 1
                else:
                    bad += 1
        self._judged = max(self._judged, last)
        return Counts(good, bad)

    def _until(self, last: int) -> Sequence[int]:
        return [index for index in self._slots if index <= last]

    def _slot(self, index: int) -> _Slot:
        slot = self._slots.get(index)
        if slot is None:
            slot = self._slots[index] = _Slot()
        return slot
