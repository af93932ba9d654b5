"""Sharing requests among versions by fixed weights."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

Version = TypeVar("Version")


class Split(Generic[Version]):
    """Versions with weights > 0, drawn in proportion."""

    __slots__ = ("_bounds", "_versions")

    def __init__(self, weighted: Sequence[tuple[Version, float]]) -> None:
        """Take (version, weight) pairs; raises ValueError when no weight is above 0 or one is below."""
        if any(weight < 0 for _, weight in weighted) or not any(weight > 0 for _, weight in weighted):
            raise ValueError("weights must not be negative and at least one must be above 0")
        drawn = [(version, weight) for version, weight in weighted if weight > 0]
        self._versions = [version for version, _ in drawn]
        self._bounds = list(accumulate(weight for _, weight in drawn))

    def shares(self) -> list[tuple[Version, float]]:
        """Return every version with its share, 0 to 1."""
        bounds, total = [0.0, *self._bounds], self._bounds[-1]
        return [(version, (bounds[i + 1] - bounds[i]) / total) for i, version in enumerate(self._versions)]

    def draw(self, chance: float) -> Version:
        """Return the version for `chance`, uniform in [0, 1)."""
        versions = self._versions
        if len(versions) == 1:
            return versions[0]
        return versions[min(bisect_right(self._bounds, chance * self._bounds[-1]), len(versions) - 1)]
