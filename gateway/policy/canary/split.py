"""Sharing requests among versions by weight: by chance, or so that a client with a key stays where it is.

Keys are placed by weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005):
raising a version's weight moves keys to it and nowhere else, so a tenant on the candidate at 5 % is on it at 25 %.
"""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from math import log
from typing import Final, Generic, TypeVar

_HASHES: Final = float(1 << 64)

Version = TypeVar("Version")


class Split(Generic[Version]):
    """Versions with weights > 0, drawn in proportion."""

    __slots__ = ("_bounds", "_rows", "_versions")

    def __init__(self, weighted: Sequence[tuple[Version, float]], names: Sequence[str] = ()) -> None:
        """Take (version, weight) pairs and their lasting names, by default their places.

        Raises ValueError when no weight is above 0 or one is below.
        """
        if any(weight < 0 for _, weight in weighted) or not any(weight > 0 for _, weight in weighted):
            raise ValueError("weights must not be negative and at least one must be above 0")
        salts = [name.encode() for name in names] or [b"%d" % place for place in range(len(weighted))]
        self._rows = [
            (version, weight, blake2b(salt, digest_size=8))
            for (version, weight), salt in zip(weighted, salts, strict=True)
            if weight > 0
        ]
        self._versions = [version for version, _, _ in self._rows]
        self._bounds = list(accumulate(weight for _, weight, _ in self._rows))

    def shares(self) -> list[tuple[Version, float]]:
        """Return every version with its share, 0 to 1."""
        total = self._bounds[-1]
        return [(version, weight / total) for version, weight, _ in self._rows]

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self._versions) == 1

    def draw(self, chance: float) -> Version:
        """Return the version for `chance`, uniform in [0, 1)."""
        versions = self._versions
        if len(versions) == 1:
            return versions[0]
        return versions[min(bisect_right(self._bounds, chance * self._bounds[-1]), len(versions) - 1)]

    def place(self, key: bytes) -> Version:
        """Return the version where a key belongs."""
        versions = self._versions
        if len(versions) == 1:
            return versions[0]
        best, found = -1.0, versions[0]
        for version, weight, salted in self._rows:
            hashed = salted.copy()
            hashed.update(key)
            # -ln(u) / weight is exponential with rate `weight`: each is the smallest in proportion to its weight.
            score = -log((int.from_bytes(hashed.digest()) + 1) / (_HASHES + 1)) / weight
            if best < 0 or score < best:
                best, found = score, version
        return found
