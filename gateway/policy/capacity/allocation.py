"""Replicas for several models that share a budget: the best division there is, not the next best step.

A greedy rule starves models: what one more replica is worth to an overloaded model is little, until it is enough. So
the whole budget is divided at once, by a dynamic programme over whole replicas (Faro, EuroSys'25).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence
from enum import Enum
from math import gcd
from operator import add, gt
from typing import Final

_TIE: Final = 1e-9
"""Values this close are the same; of two such divisions the cheaper one is taken."""
_TOGETHER: Final = 16
"""Rows of a table that are filled in one piece."""


class Aim(Enum):
    """What a division is to make large."""

    SUM = "sum"
    """What all models have, weighted."""
    FAIR_SUM = "fair_sum"
    """The same, less the distance between the best and the worst served model times their number."""
    FAIR = "fair"
    """Only that distance is to be small; of divisions that are as fair, the one with the larger sum."""


class Choice:
    """What one model may get: replicas from `least` to `most`, what each number is worth, and what a replica costs."""

    __slots__ = ("cost", "least", "most", "utilities", "values")

    def __init__(
        self, utilities: Sequence[float], *, least: int, most: int, cost: int = 1, values: Sequence[float] | None = None
    ) -> None:
        """Take utilities of 0 to `most` replicas, which may not fall; `values` stand for them in the sum."""
        self.utilities: Final = utilities
        self.values: Final = utilities if values is None else values
        self.least: Final = least
        self.most: Final = most
        self.cost: Final = cost


def dividing(choices: Sequence[Choice], budget: int, aim: Aim, effort: int) -> Generator[None, None, list[int] | None]:
    """Return the replicas of each model, at a cost of at most `budget`; None if the least numbers cost more.

    Made in pieces. With an `effort` above 0 no more divisions are tried for a fair aim once so many cells of tables
    have been filled: what is returned is then the best of those that were.
    """
    unit = gcd(*(choice.cost for choice in choices))
    search = _Search(choices, [choice.cost // unit for choice in choices], budget // unit, effort)
    if search.spare(search.least) < 0:
        return None
    if aim is Aim.SUM:
        _, division = yield from search.best(search.least, search.most)
        return division
    if aim is Aim.FAIR:
        return (yield from search.fairest(_TIE, 1.0))
    return (yield from search.fairest(1.0, float(len(choices))))


class _Search:
    """The divisions of one budget."""

    __slots__ = ("_budget", "_cells", "_choices", "_costs", "_effort", "least", "most")

    def __init__(self, choices: Sequence[Choice], costs: Sequence[int], budget: int, effort: int) -> None:
        self._effort: Final = effort
        self._cells = 0
        self._choices: Final = choices
        self._costs: Final = costs
        self._budget: Final = budget
        self.least: Final = [choice.least for choice in choices]
        spare = self.spare(self.least)
        self.most: Final = [
            _last_useful(choice, min(choice.most, choice.least + max(0, spare) // cost))
            for choice, cost in zip(choices, costs, strict=True)
        ]

    def spare(self, replicas: Sequence[int]) -> int:
        """Return what these leave of the budget."""
        return self._budget - sum([each * cost for each, cost in zip(replicas, self._costs, strict=True)])

    def best(self, least: Sequence[int], most: Sequence[int]) -> Generator[None, None, tuple[float, list[int]]]:
        """Return the largest sum of values within these bounds, and the cheapest division that has it."""
        spare = self.spare(least)
        tables = [[0.0] * (spare + 1)]
        for choice, cost, low, high in zip(self._choices, self._costs, least, most, strict=True):
            values = choice.values[low : high + 1]
            before = tables[-1]
            # What this model takes beyond its least number, the models before it do not have.
            table: list[float] = []
            for begin in range(0, spare + 1, _TOGETHER):
                some = range(begin, min(begin + _TOGETHER, spare + 1))
                table += [max(map(add, values, before[spent::-cost])) for spent in some]
                yield
            tables.append(table)
            self._cells += (spare + 1) * len(values)
        total = tables[-1][spare]
        spent = next(each for each, value in enumerate(tables[-1]) if value >= total - _TIE)
        division = list(least)
        for index in range(len(division) - 1, -1, -1):
            values = self._choices[index].values[least[index] : most[index] + 1]
            sums = [*map(add, values, tables[index][spent :: -self._costs[index]])]
            more = sums.index(max(sums))
            division[index] += more
            spent -= more * self._costs[index]
        return total, division

    def fairest(self, sum_weight: float, fair_weight: float) -> Generator[None, None, list[int]]:
        """Return the division with the largest weighted sum of values and of (worst utility - best utility).

        Every worst and best utility that a division can have is tried, unless no division with it can be the one.
        """
        levels = sorted({worth for choice, low, high in self._bounds() for worth in choice.utilities[low : high + 1]})
        total, found = yield from self.best(self.least, self.most)
        most_value = sum_weight * total
        reached = [choice.utilities[each] for choice, each in zip(self._choices, found, strict=True)]
        best = most_value + fair_weight * (min(reached) - max(reached))
        for worst in reversed(levels):
            yield
            least = [_first_at_least(choice, worst, low, high) for choice, low, high in self._bounds()]
            if self.spare(least) < 0 or any(map(gt, least, self.most)):
                continue
            highest = max(choice.utilities[low] for choice, low in zip(self._choices, least, strict=True))
            if most_value + fair_weight * (worst - highest) <= best:
                continue
            if self._is_spent():
                break
            total, _ = yield from self.best(least, self.most)
            value = sum_weight * total
            for top in levels[bisect_left(levels, highest) :]:
                if value + fair_weight * (worst - top) <= best or self._is_spent():
                    break
                most = [_last_at_most(choice, top, low, high) for choice, low, high in self._bounds()]
                self._cells += len(most)
                yield
                if sum_weight * self._ceiling(least, most) + fair_weight * (worst - top) <= best:
                    continue
                total, division = yield from self.best(least, most)
                worth = sum_weight * total + fair_weight * (worst - top)
                if worth > best + _TIE:
                    best, found = worth, division
        return found

    def _is_spent(self) -> bool:
        return 0 < self._effort <= self._cells

    def _ceiling(self, least: Sequence[int], most: Sequence[int]) -> float:
        """Return what the sum of values could not exceed if the budget were endless."""
        bounds = zip(self._choices, least, most, strict=True)
        return sum([max(choice.values[low : high + 1]) for choice, low, high in bounds])

    def _bounds(self) -> Iterator[tuple[Choice, int, int]]:
        return zip(self._choices, self.least, self.most, strict=True)


def _last_useful(choice: Choice, most: int) -> int:
    """Return the number of replicas, at most this, beyond which more make nothing better."""
    useful = most
    while useful > choice.least and (
        choice.utilities[useful - 1] >= choice.utilities[most]
        and choice.values[useful - 1] >= max(choice.values[useful : most + 1])
    ):
        useful -= 1
    return useful


def _first_at_least(choice: Choice, worth: float, least: int, most: int) -> int:
    """Return the fewest replicas of these that are worth so much, one more than there are if none is."""
    return bisect_left(choice.utilities, worth, least, most + 1)


def _last_at_most(choice: Choice, worth: float, least: int, most: int) -> int:
    """Return the most replicas of these that are worth no more than this."""
    return bisect_right(choice.utilities, worth, least, most + 1) - 1
