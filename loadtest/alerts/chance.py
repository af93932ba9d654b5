"""Draws of whole ticks at once: how many events, and how many of them bad."""

from math import exp, log, sqrt
from random import Random

_MANY = 30.0


def poisson(rng: Random, mean: float) -> int:
    """Return how many events happen where so many are expected; from thirty on a rounded normal draw."""
    if mean > _MANY:
        return max(0, round(rng.gauss(mean, sqrt(mean))))
    limit, product, count = exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def binomial(rng: Random, total: int, share: float) -> int:
    """Return how many of `total` are bad, each with this chance."""
    if share <= 0.0 or not total:
        return 0
    if share >= 1.0:
        return total
    mean = total * share
    if total > 2 * _MANY and mean > _MANY and total - mean > _MANY:
        return min(total, max(0, round(rng.gauss(mean, sqrt(mean * (1 - share))))))
    if total > 2 * _MANY:
        return min(total, poisson(rng, mean))
    # From one bad event to the next: how many good ones lie between is geometric.
    logarithm, at, bad = log(1 - share), 0, 0
    while (at := at + 1 + int(log(1 - rng.random()) / logarithm)) <= total:
        bad += 1
    return bad
