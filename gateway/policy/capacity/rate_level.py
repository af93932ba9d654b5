"""The rate at which requests come of late: slow to follow chance, quick to follow a change."""

from math import exp, sqrt
from typing import Final

SMOOTHING: Final = 180.0
"""Seconds over which rates are averaged."""
LASTING: Final = 10.0
"""Seconds for which a rate is far from the average before it takes its place."""
_WINDOW: Final = 30.0
"""Seconds that each rate was counted over."""
_FAR: Final = 0.25
_ERRORS: Final = 3.0
"""Standard errors that chance hardly ever makes."""


class RateLevel:
    """The average of what was observed last."""

    __slots__ = ("_far_since", "_level", "_seen_at")

    def __init__(self, rate: float, now: float) -> None:
        self._level = rate
        self._seen_at = now
        self._far_since: float | None = None

    def __repr__(self) -> str:
        return f"<RateLevel {self._level:.2f}/s>"

    def observe(self, rate: float, now: float) -> float:
        """Take the requests a second of the last half minute, and return the level."""
        is_far = abs(rate - self._level) > max(_FAR * self._level, _ERRORS * sqrt(max(rate, self._level) / _WINDOW))
        if not is_far:
            self._far_since = None
        elif self._far_since is None:
            self._far_since = now
        if self._far_since is not None and now - self._far_since >= LASTING:
            self._level, self._far_since = rate, None
        else:
            self._level += (rate - self._level) * (1.0 - exp(-max(0.0, now - self._seen_at) / SMOOTHING))
        self._seen_at = now
        return self._level
