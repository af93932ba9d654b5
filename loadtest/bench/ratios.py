"""How two commits compare: the median of paired ratios with an interval that needs no assumption; arithmetic alone.

The interval is that of the sign test: order statistics of the ratios that enclose the true median with the confidence
asked for, whatever their distribution (Conover, "Practical Nonparametric Statistics", section 3.2). One busy moment of
the machine spoils one pair, and so moves the interval by one place at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

CONFIDENCE = 0.95
LEAST_PAIRS = 6
"""With fewer, not even the whole range encloses the median with 95 % confidence."""
WORSE = 1.03
"""A row whose whole interval lies above this ratio is slower than it was."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One row: the median of now / then over the pairs, and the interval of that median."""

    median: float
    low: float
    high: float

    @property
    def is_worse(self) -> bool:
        """Whether chance does not explain how much slower it is."""
        return self.low > WORSE


def compare(now: Sequence[float], then: Sequence[float]) -> Compared | None:
    """Compare values measured in pairs, each better the smaller it is.

    None where fewer than LEAST_PAIRS pairs have two values above 0: there is nothing to divide.
    """
    ratios = sorted(a / b for a, b in zip(now, then, strict=True) if a > 0 and b > 0)
    if len(ratios) < LEAST_PAIRS:
        return None
    rank = lowest_rank(len(ratios))
    return Compared(median(ratios), ratios[rank - 1], ratios[-rank])


def lowest_rank(count: int, confidence: float = CONFIDENCE) -> int:
    """Return the largest r for which the r-th smallest and the r-th largest of `count` enclose the median.

    0 where there is none.
    """
    outside, rank = 0.0, 0
    while rank <= count:
        outside += 2 * comb(count, rank) / 2**count
        if outside > 1 - confidence:
            break
        rank += 1
    return rank
