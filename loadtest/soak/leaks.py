"""Whether a figure of a process grew: arithmetic alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

_PARTS = 10


@dataclass(frozen=True, slots=True)
class Allowed:
    """By how much a figure may grow over the run, as a share of its first tenth.

    `after` are the seconds that have to be judged: until then a figure that settles slowly looks like one that grows.
    """

    share: float
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """One figure over a run: its median in the first tenth after warming up, in the last, and the highest of all.

    `steady` is the growth that all tenths share: nine times the median step from one to the next. What piles up does so
    all the time; a burst, or a machine that starves the process for seconds, makes one step and no more.

    `judged` is False where the run was too short to tell growth.
    """

    name: str
    first: float
    last: float
    highest: float
    steady: float
    allowed: Allowed
    judged: bool

    @classmethod
    def of(cls, name: str, samples: Sequence[tuple[float, float]], *, warm: float, allowed: Allowed) -> "Course":
        """Return the course of (seconds, value) samples from `warm` seconds on; raises ValueError for no samples."""
        if not samples:
            raise ValueError(f"{name}: there are no samples")
        counted = [(at, value) for at, value in samples if at >= warm] or samples[-1:]
        values = [value for _, value in counted]
        part = max(1, len(values) // _PARTS)
        tenths = [median(values[at : at + part]) for at in range(0, len(values) - part + 1, part)]
        steps = [after - before for before, after in pairwise(tenths)]
        steady = median(steps) * len(steps) if steps else 0.0
        judged = len(values) >= _PARTS and counted[-1][0] - warm >= allowed.after
        return cls(name, median(values[:part]), median(values[-part:]), max(values), steady, allowed, judged)

    @property
    def grew(self) -> bool:
        """Whether it grew beyond what is allowed, as far as that can be told."""
        return self.judged and self.steady > self.first * self.allowed.share
