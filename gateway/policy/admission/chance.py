"""Whether it is worth waiting: how likely a request gets a slot in time, as far as its place in line says.

The slots that come free in some time are about Poisson distributed. Their mean is the sum of each held slot's own
chance to come free, and of those that come free again: from its first release on a slot turns over at the usual rate.
Those ahead who leave make it more, so the true chance is higher.
"""

from collections.abc import Callable
from math import erf, exp, inf, sqrt
from typing import Final

LEAST: Final = 0.002
"""A request with less of a chance than this is refused at once: what is a bound of a guess must leave no doubt."""
LOOKS: Final = 0.1
"""Seconds between two looks at who has waited for too long."""
MARGIN: Final = 0.05
"""Seconds kept beside that for a busy gateway and the way to the client."""
_DIRECT: Final = 32
_PARTS: Final = 8


def patience(usual: float, holding: float, threshold: float = inf, ttft: float = 0.0) -> float:
    """Return how long a request waits for a slot, in seconds, when its client does not say.

    As long as its class usually does, or half the mean time that requests of its kind hold a slot where that is longer:
    a short wait before a long answer is no loss. A class that waits no longer than the `threshold` of its TTFT
    leaves room in it for the engine, which hardly ever takes longer than `ttft`: in lasting overload everyone who is
    served has waited for as long as the patience lasts, and all would be late.
    """
    longest = max(usual, 0.5 * holding)
    if usual > threshold or ttft >= threshold:
        return longest
    return min(longest, max(0.5 * threshold, threshold - ttft - LOOKS - MARGIN))


def chance(ahead: int, holding: float, seconds: float, expected: Callable[[float], float]) -> float:
    """Return the chance that enough slots for a request behind `ahead` others come free within `seconds`.

    `holding` is the mean time that those ahead will hold one, `expected` how many of the slots that are held now come
    free within some time.
    """
    if seconds <= 0:
        return 0.0
    released = expected(seconds)
    if holding > 0:
        step = seconds / _PARTS
        area = step * (sum(expected(step * part) for part in range(1, _PARTS)) + 0.5 * released)
        released += area / holding
    return at_least(ahead + 1, released)


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
