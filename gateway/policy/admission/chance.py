"""Whether it is worth waiting: how likely a request gets a slot in time, bounded from above.

The slots that come free in some time are about Poisson distributed, their mean the sum of each slot's own chance. The
bound is of the place in line: j slots must come free in the last of the waves that those ahead leave room for.
"""

from collections.abc import Callable
from math import erf, exp, inf, sqrt

LEAST = 0.1
"""A request with less of a chance than this is refused at once."""
_DIRECT = 32


def patience(usual: float, holding: float, promise: float = inf, ttft: float = 0.0) -> float:
    """Return how long a request waits for a slot, in seconds, when its client does not say.

    As long as its class usually does, or half the mean time that requests of its kind hold a slot where that is longer:
    a short wait before a long answer is no loss. A class that waits no longer than its `promise` for the first token
    leaves room in it for the engine, which is predicted to take `ttft`: in lasting overload everyone who is served has
    waited for as long as the patience lasts, and all would be late.
    """
    longest = max(usual, 0.5 * holding)
    if usual > promise or ttft >= promise:
        return longest
    return min(longest, max(0.5 * promise, promise - 4 * ttft - 0.25))


def chance(ahead: int, holding: float, seconds: float, expected: Callable[[float], float]) -> float:
    """Return a bound of the chance that the request behind `ahead` others gets a slot within `seconds`.

    `holding` is the mean time that those ahead will hold one, `expected` how many slots come free within some time.
    """
    place = ahead + 1
    best, waves = 0.0, 1
    while True:
        at_once = min(waves, place)
        left = seconds - (place / at_once - 1) * holding
        if left > 0:
            best = max(best, at_least(at_once, expected(left)))
        if at_once == place:
            return best
        waves *= 2


def at_least(count: int, mean: float) -> float:
    """Return the chance that a Poisson variable of this mean is at least `count`, from 1.

    Beyond a few dozen by the cube root of a chi-squared variable (Wilson and Hilferty, 1931).
    """
    if mean <= 0:
        return 0.0
    if count > _DIRECT:
        spread = 1 / (9 * count)
        return 0.5 * (1 + erf(((mean / count) ** (1 / 3) - 1 + spread) / sqrt(2 * spread)))
    term = below = exp(-mean)
    for each in range(1, count):
        term *= mean / each
        below += term
    return max(0.0, 1.0 - below)
