"""Choosing one of several candidates: best of two, and weighted chance."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

FEW = 4
"""Up to this many candidates all are compared; beyond, two drawn at random, so that stale numbers herd nobody."""


class Chance(Protocol):
    """A source of randomness, such as `random.Random`."""

    def random(self) -> float:
        """Return a float in [0, 1)."""


class Loaded(Protocol):
    """Anything with work in progress."""

    @property
    def in_flight(self) -> int:
        """Requests in progress there."""


Candidate = TypeVar("Candidate", bound=Loaded)


def least_loaded(candidates: Sequence[Candidate], rng: Chance) -> Candidate:
    """Return the candidate with the fewest requests in flight, ties broken by chance.

    `candidates` must not be empty. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
    """
    count = len(candidates)
    if count == 1:
        return candidates[0]
    start = int(rng.random() * count)
    if count > FEW:
        first = candidates[start]
        second = candidates[(start + 1 + int(rng.random() * (count - 1))) % count]
        return first if first.in_flight <= second.in_flight else second
    best = candidates[start]
    for offset in range(1, count):
        other = candidates[(start + offset) % count]
        if other.in_flight < best.in_flight:
            best = other
    return best
