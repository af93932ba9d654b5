"""How fast an error budget is spent, and when there is too little to say. Google's SRE workbook, chapter 5."""

from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Final

PRIOR_BAD: Final = 0.5
"""Bad events that the prior of a routing burn is worth: one failure in three then reads about 3, not 333."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Good and bad events of one window. Those of several processes are merged by adding them."""

    good: int = 0
    bad: int = 0

    @property
    def total(self) -> int:
        """All events that count."""
        return self.good + self.bad

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.good + other.good, self.bad + other.bad)


def burn(counts: Counts, budget: float) -> float | None:
    """Return the burn rate, None without events; 1 spends the budget (a ratio above 0) exactly over the SLO window."""
    return counts.bad / counts.total / budget if counts.total else None


def at_least(counts: Counts, z: float) -> float:
    """Return the lower end of Wilson's interval of the bad share, `z` standard errors wide; 0 without events.

    Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    bad, total = counts.bad, counts.total
    if not total:
        return 0.0
    spread = z * sqrt(bad * (total - bad) / total + z * z / 4)
    return max(0.0, (bad + z * z / 2 - spread) / (total + z * z))


def surprise(counts: Counts, budget: float) -> float:
    """Return how unlikely so many bad events are where the budget is spent exactly, in nats; 0 where no more came.

    Chance does it at most once in `exp(surprise)` times (Chernoff's bound of a Poisson tail).
    """
    bad, expected = counts.bad, counts.total * budget
    return bad * log(bad / expected) - bad + expected if bad > expected else 0.0


def whole_events(events: float) -> int:
    """Return so many events, rounded up; what a target such as 0.9 is off by as a float asks for none more."""
    return ceil(events - 1e-9)


def smoothed_burn(good: int, bad: int, budget: float) -> float:
    """Return the burn rate with a prior at exactly the objective, so that no traffic reads 1.

    The prior is `PRIOR_BAD / budget` pseudo-events of which `PRIOR_BAD` are bad; the quotient is free of `1/budget`.
    """
    return (bad + PRIOR_BAD) / ((good + bad) * budget + PRIOR_BAD)


def routing_burn(recent: tuple[int, int, int, int], budget: float) -> float:
    """Return the burn rate for decisions within seconds, from good and bad of the last minute, then of 10 s.

    The lower of both: the minute is the evidence, the ten seconds let go quickly.
    """
    good, bad, good_now, bad_now = recent
    return min(smoothed_burn(good, bad, budget), smoothed_burn(good_now, bad_now, budget))
