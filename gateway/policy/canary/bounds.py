"""How much more often a candidate may miss a target than stable does, at worst, given what was seen."""

from collections.abc import Sequence
from math import log, sqrt
from typing import Final

_Z: Final = 1.645

Counts = Sequence[float]
"""Good and bad, or good and bad of stable, then of the candidate."""


def wilson(counts: Counts) -> tuple[float, float, float]:
    """Return the lower end, the share and the upper end (95 %, one-sided) of (good, bad); at least one event."""
    total = counts[0] + counts[1]
    share, square = counts[1] / total, _Z * _Z / total
    middle = (share + square / 2) / (1 + square)
    half = _Z * sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, middle - half), share, min(1.0, middle + half)


def upper_difference(stable: Counts, candidate: Counts) -> float:
    """Return an upper bound (one-sided, 95 %) of how much more often the candidate is bad, from (good, bad).

    Newcombe's hybrid of two Wilson intervals ("Interval estimation for the difference between independent proportions",
    1998, method 10).
    """
    low, a, _ = wilson(stable)
    _, b, high = wilson(candidate)
    return b - a + sqrt((high - b) ** 2 + (a - low) ** 2)


def difference(classes: Sequence[Counts]) -> float:
    """Return how much more often the candidate is bad, each input class compared with itself; 0.0 without any pair.

    `classes` hold good and bad of stable, then of the candidate. Weights are those of Mantel and Haenszel.
    """
    weighed = weights = 0.0
    for good_a, bad_a, good_b, bad_b in classes:
        n, m = good_a + bad_a, good_b + bad_b
        if n and m:
            weight = n * m / (n + m)
            weighed += weight * (bad_b / m - bad_a / n)
            weights += weight
    return weighed / weights if weights else 0.0


def adjusted_upper(classes: Sequence[Counts]) -> float | None:
    """Return the upper bound with each input class compared with itself, None while one side has no event at all.

    The width is that of all classes together: several narrow intervals would be wider than one.
    """
    stable = [sum(each[0] for each in classes), sum(each[1] for each in classes)]
    candidate = [sum(each[2] for each in classes), sum(each[3] for each in classes)]
    events, of_candidate = stable[0] + stable[1], candidate[0] + candidate[1]
    if not events or not of_candidate:
        return None
    plain = candidate[1] / of_candidate - stable[1] / events
    return upper_difference(stable, candidate) - plain + difference(classes)


def divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of a share p from a share q, in nats an event."""
    nats = 0.0
    if p > 0:
        nats += p * log(p / q)
    if p < 1:
        nats += (1 - p) * log((1 - p) / (1 - q))
    return nats
