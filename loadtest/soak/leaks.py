"""Whether a figure of a process grew: arithmetic alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Course:
    """One figure over a run: its median in the first part after warming up, in the last, and the highest of all."""

    name: str
    first: float
    last: float
    highest: float
    allowed: float

    @classmethod
    def of(cls, name: str, samples: Sequence[tuple[float, float]], *, warm: float, allowed: float) -> "Course":
        """Return the course of (seconds, value) samples from `warm` seconds on; raises ValueError for too few.

        `allowed` is how much the last tenth may lie above the first, as a share of the first.
        """
        values = [value for at, value in samples if at >= warm]
        part = len(values) // 10
        if not part:
            raise ValueError(f"{name}: {len(values)} samples after {warm:g} s say nothing; at least 10 are needed")
        return cls(name, median(values[:part]), median(values[-part:]), max(values), allowed)

    @property
    def flat(self) -> bool:
        """Whether it did not grow beyond what is allowed."""
        return self.last <= self.first * (1 + self.allowed)
