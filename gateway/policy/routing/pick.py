"""Choosing a backend: the lowest score of all, or of two drawn at random."""

from collections.abc import Sequence
from math import inf
from typing import Final, Protocol, TypeVar

FEW: Final = 4
"""Up to this many candidates all are compared; beyond, two drawn at random, so that stale numbers cause no herd."""
TIE: Final = 1.1
"""Scores within a tenth of the lowest are equal: predictions are no better than that."""


class Chance(Protocol):
    """A source of randomness, such as `random.Random`."""

    def random(self) -> float:
        """Return a float in [0, 1)."""


Candidate = TypeVar("Candidate")


def drawn(candidates: Sequence[Candidate], rng: Chance) -> Sequence[Candidate]:
    """Return those to compare. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001)."""
    count = len(candidates)
    if count <= FEW:
        return candidates
    first = int(rng.random() * count)
    return candidates[first], candidates[(first + 1 + int(rng.random() * (count - 1))) % count]


def best(rows: list[tuple[Candidate, float, float]], loads: list[int], rng: Chance) -> Candidate:
    """Return the candidate of about the lowest score; a row is (candidate, latency above 0, weight above 0).

    Of equal ones it is that of the lowest load, its requests in flight: one that has stopped keeps those it has.
    """
    scores: list[float] = []
    lowest = inf
    for _, latency, weight in rows:
        score = latency / weight
        scores.append(score)
        if score < lowest:  # noqa: PLR1730 - min() is a call of a builtin where this is compiled
            lowest = score
    limit = lowest * TIE
    tied: list[Candidate] = []
    least = 0
    for place in range(len(rows)):
        load = loads[place]
        if scores[place] > limit or (tied and load > least):
            continue
        if tied and load < least:
            tied.clear()
        least = load
        tied.append(rows[place][0])
    return tied[0] if len(tied) == 1 else tied[int(rng.random() * len(tied))]
