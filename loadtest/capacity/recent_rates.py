"""The rates that a job may get in the next minutes, from those that it had: all that Faro's workload tells.

The control loop of a gateway sees requests by the second instead (`policy.capacity.rate_level`).
"""

from collections.abc import Sequence
from typing import Final

LEVEL_MINUTES: Final = 12
"""Minutes whose mean is what is expected, as long as the last one fits to them."""
SPREAD_MINUTES: Final = 30
"""Minutes whose distance from what was expected of them says how far the next may lie from it."""
_ASSUMED: tuple[float, ...] = (0.85, 1.0, 1.15)
"""How far minutes lie from what was expected, until there are as many to say."""


_ENOUGH: Final = 6
"""Fewer minutes do not say what is unusual."""
_FAR: Final = 1.25
"""Times the largest ratio so far, or the smallest divided by it: what chance hardly ever reaches twice in a row."""


def expected_rates(minutes: Sequence[float]) -> list[float]:
    """Return rates that are equally likely, in requests a second, from the rates of past minutes, the last one last.

    They lie around the mean of the last 12 minutes as the minutes of the last half hour lay around the mean of the 12
    before each. If the last two minutes lie far beyond all of these, on one side, the load has changed, and they lie
    around the mean of these two.
    """
    if not minutes:
        return [0.0]
    ratios: list[float] = []
    for index in range(max(1, len(minutes) - SPREAD_MINUTES), len(minutes)):
        level = _level(minutes, index)
        if level > 0.0:
            ratios.append(minutes[index] / level)
    level = _level(minutes, len(minutes))
    usual, last = ratios[:-2], ratios[-2:]
    if len(usual) >= _ENOUGH and (min(last) > max(usual) * _FAR or max(last) * _FAR < min(usual)):
        level = sum(minutes[-2:]) / 2
    if len(ratios) < len(_ASSUMED):
        ratios.extend(_ASSUMED)
    return sorted([level * ratio for ratio in ratios])


def _level(minutes: Sequence[float], end: int) -> float:
    """Return the mean of the minutes before one."""
    before = minutes[max(0, end - LEVEL_MINUTES) : end]
    return sum(before) / len(before)
