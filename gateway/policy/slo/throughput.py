"""Throughput while there is demand: slots of ten seconds in which requests waited all the time, and what was done then.

Without a queue nothing is judged: a service that nobody asks for more cannot do more, and one request alone cannot keep
engines busy. What an answer brought counts evenly over the time that engines had it, so what a process has of a slot is
known only once no answer can still be in progress that had a part in it. Several processes then tell each other their
parts, and a slot is judged by the sum.
"""

from collections.abc import Iterator
from math import ceil
from typing import Final, NamedTuple

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import Throughput
from gateway.policy.slo.windows import FINE

SLOT: Final = 10.0
"""Seconds of one slot: one event of the SLI."""
STEPS: Final = round(SLOT / FINE)
"""Steps of a slot, each as long as the slots that processes exchange."""
FEWEST_WAITING: Final = 2
"""Requests that wait while there is demand: one alone may wait for a place of its own size."""
LONGEST: Final = 900.0
"""Seconds after which a slot is judged at the latest, but for `SETTLING`."""
SETTLING: Final = 10.0
"""Seconds that processes have to tell each other of their parts."""


class Part(NamedTuple):
    """What one process has of a slot, once that is known for good. It is told in the slot in which it became known.

    `waiting` is how few requests waited in each step, -1 where the process did not look. `requests` are thousandths.
    """

    slot: int
    waiting: tuple[int, ...]
    tokens: int
    requests: int


class _Slot:
    """What is known of one slot: `reports` are the processes that looked in a step, of as many as there are."""

    __slots__ = ("processes", "reports", "requests", "tokens", "waiting")

    def __init__(self) -> None:
        self.processes = 0
        self.reports = [0] * STEPS
        self.waiting = [0] * STEPS
        self.requests = self.tokens = 0.0


class ThroughputMeter:
    """Measures one objective of a model. `now` are seconds since the epoch, of a clock that never jumps.

    What this process has of a slot is over `lag` seconds after its end: as long as an answer may take, `LONGEST` at
    most.
    """

    def __init__(self, objective: Throughput, lag: float) -> None:
        self.objective = objective
        self.lag = lag
        self._delay = ceil(min(lag, LONGEST) / SLOT)
        self._slots: dict[int, _Slot] = {}
        self._over = -1
        self._told: dict[int, _Slot] = {}
        self._judged = -1

    def __repr__(self) -> str:
        return f"<ThroughputMeter {len(self._slots)} slots>"

    def look(self, now: float, waiting: int, processes: int) -> None:
        """Learn how many requests wait here, about once a second, and how many processes answer requests.

        With none, that is not known, and the slot is not judged.
        """
        slot, step = self._slot(int(now // SLOT)), int(now % SLOT // FINE)
        slot.waiting[step] = min(slot.waiting[step], waiting) if slot.reports[step] else waiting
        slot.reports[step] = 1
        slot.processes = max(slot.processes, processes)

    def answered(self, start: float, end: float, tokens: int) -> None:
        """Count an answer that engines worked on from `start` to `end`."""
        first, last = int(start // SLOT), int(end // SLOT)
        length = max(end - start, 1e-9)
        for index in range(max(first, self._over + 1), last + 1):
            part = 1.0 if first == last else (min(end, (index + 1) * SLOT) - max(start, index * SLOT)) / length
            slot = self._slot(index)
            slot.requests += part
            slot.tokens += part * tokens

    def over(self, now: float) -> Iterator[Part]:
        """Yield this process's parts of the slots that nothing can be added to any more, each once."""
        last = int(now // SLOT) - self._delay - 1
        for index in sorted(each for each in self._slots if each <= last):
            own = self._slots.pop(index)
            slot = index + self._delay
            waiting = tuple(fewest if told else -1 for fewest, told in zip(own.waiting, own.reports, strict=True))
            part = Part(slot, waiting, round(own.tokens), round(1000 * own.requests))
            self._of_all(slot).processes = own.processes
            for step, fewest in enumerate(waiting):
                if fewest >= 0:
                    self.waited(slot * STEPS + step, fewest, 1)
            self.done(slot, part.tokens, part.requests)
            yield part
        self._over = max(self._over, last)

    def waited(self, step: int, fewest: int, reports: int) -> None:
        """Count how few requests waited in a step at `reports` processes; `step` numbers all since the epoch."""
        slot = self._of_all(step // STEPS)
        slot.waiting[step % STEPS] += fewest
        slot.reports[step % STEPS] += reports

    def done(self, slot: int, tokens: int, requests: int) -> None:
        """Count what a process did in a slot; `requests` are thousandths."""
        known = self._of_all(slot)
        known.tokens += tokens
        known.requests += requests / 1000

    def judge(self, now: float) -> Counts:
        """Return the good and bad slots of which all processes must have told, each once."""
        good = bad = 0
        last = int((now - SETTLING) // SLOT) - 1
        for index in [each for each in self._told if each <= last]:
            slot = self._told.pop(index)
            # A process that has not told its part, or ended before it could, would make the slot seem slow.
            is_whole = 0 < slot.processes <= min(slot.reports)
            if index > self._judged and is_whole and min(slot.waiting) >= FEWEST_WAITING:
                if self.objective.is_met(slot.tokens / SLOT, slot.requests / SLOT):
                    good += 1
                else:
                    bad += 1
        self._judged = max(self._judged, last)
        return Counts(good, bad)

    def _slot(self, index: int) -> _Slot:
        return _known(self._slots, index)

    def _of_all(self, index: int) -> _Slot:
        return _known(self._told, index)


def _known(slots: dict[int, _Slot], index: int) -> _Slot:
    slot = slots.get(index)
    if slot is None:
        slot = slots[index] = _Slot()
    return slot
