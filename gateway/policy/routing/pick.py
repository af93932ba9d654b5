"""Which backends are compared: all of a few, or two of many, drawn at random."""

from typing import Final, Protocol, TypeVar

FEW: Final = 4
"""Up to this many candidates all are compared; beyond, two drawn at random, so that stale numbers cause no herd."""


class Chance(Protocol):
    """A source of randomness, such as `random.Random`."""

    def random(self) -> float:
        """Return a float in [0, 1)."""


Candidate = TypeVar("Candidate")


def drawn(candidates: list[Candidate], rng: Chance) -> list[Candidate]:
    """Return those to compare. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001)."""
    count = len(candidates)
    if count <= FEW:
        return candidates
    first = int(rng.random() * count)
    return [candidates[first], candidates[another(first, count, rng)]]


def another(than: int, count: int, rng: Chance) -> int:
    """Return a place among so many, drawn at random, that is another `than` this one."""
    return (than + 1 + int(rng.random() * (count - 1))) % count
