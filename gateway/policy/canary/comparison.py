"""Whether a candidate fails more often than stable: a test that may be looked at after every request.

An e-process for two streams of good and bad outcomes (Turner, Ly and Gruenwald, "Generic E-variables for exact
sequential k-sample tests that allow for optional stopping", 2024). Outcomes are taken in blocks with at least one of
either side, which end by what arrives and never by how it turned out. For shares a and b that were fixed before a block
of n stable and m candidate outcomes, and their mean c = (n a + m b) / (n + m), the likelihood of a and b over that of c
has an expectation of at most 1 whenever both sides fail equally often, however often that is. So has the product over
blocks, and the mean of several such products. By Ville's inequality it ever reaches 1/alpha with a probability of at
most alpha, however long one looks.

Input classes have blocks and shares of their own, so that a version which happens to get the longer prompts is not
taken for a worse one; the product runs over the blocks of all of them.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Any, Final

from gateway.policy.canary.bounds import difference

TIMES_WORSE: Final[tuple[float, ...]] = (2.0, 5.0, 20.0)
"""How much more often the candidate may fail: what the test is keen on, beside what it learns of the candidate."""
PRIOR_BAD: Final = 0.5
"""Bad outcomes that the prior, at exactly the objective, is worth."""
INPUT_CLASSES: Final = 3
_LEAST: Final = 1e-6
_MOST: Final = 0.95
_CANDIDATE: Final = 2

Counts = tuple[int, int]
"""Good and bad."""


class Comparison:
    """The evidence that a candidate misses one target more often than stable does.

    `budget` is the share that may miss it. Counts are lists of good and bad of stable, then of the candidate, by input
    class.
    """

    __slots__ = ("_budget", "_closed", "_logs", "_loudest", "_open", "_shares")

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._logs = [0.0] * (1 + len(TIMES_WORSE))
        self._loudest = [0.0] * len(self._logs)
        self._open = [[0, 0, 0, 0] for _ in range(INPUT_CLASSES)]
        self._closed = [[0, 0, 0, 0] for _ in range(INPUT_CLASSES)]
        self._shares = [(budget, budget)] * INPUT_CLASSES

    def __repr__(self) -> str:
        candidate, stable = self.seen(candidate=True), self.seen(candidate=False)
        return f"<Comparison e {exp(self.log_e):.3g} candidate {candidate} stable {stable}>"

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        return _log_mean(self._logs)

    @property
    def log_e_without_loudest(self) -> float:
        """The same without the one outcome of the candidate that speaks loudest against it."""
        return _log_mean([each - loud for each, loud in zip(self._logs, self._loudest, strict=True)])

    @property
    def difference(self) -> float:
        """How much more often the candidate missed, each input class compared with itself."""
        return difference(self._all())

    def is_open(self, input_class: int) -> bool:
        """Whether a block of this class has begun."""
        return any(self._open[input_class])

    def add(
        self, good: int, bad: int, *, candidate: bool, input_class: int = 0, known: Sequence[int] | None = None
    ) -> None:
        """Take an outcome, or all of one side that came in a row.

        `known` are the counts from which a block that begins now takes its shares, by default those of the blocks
        before; they may be anything that was known before this outcome.
        """
        block = self._open[input_class]
        if not any(block):
            counts = self._closed[input_class] if known is None else known
            a = self._learnt(counts[0], counts[1])
            self._shares[input_class] = (a, max(a, self._learnt(counts[2], counts[3])))
        place = _CANDIDATE * candidate
        block[place] += good
        block[place + 1] += bad
        if (block[0] or block[1]) and (block[2] or block[3]):
            self._close(input_class, block)

    def seen(self, *, candidate: bool) -> Counts:
        """Return good and bad of one side, the blocks in progress among them."""
        good = _CANDIDATE * candidate
        counts = self._all()
        return sum(each[good] for each in counts), sum(each[good + 1] for each in counts)

    def state(self) -> dict[str, Any]:
        """Return what has to be kept over a restart; the blocks in progress are not."""
        return {
            "logs": [*self._logs],
            "loudest": [*self._loudest],
            "classes": [[*each] for each in self._closed],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave; raises KeyError, TypeError or ValueError for what it cannot have given.

        Versions before 0.2 kept one class.
        """
        logs = [float(each) for each in state["logs"]]
        if len(logs) != len(self._logs):
            raise ValueError("as many logarithms as alternatives are needed")
        if "classes" in state:
            closed = [_four(each) for each in state["classes"]]
            loudest = [float(each) for each in state["loudest"]]
        else:
            closed = [_four([*state["stable"], *state["candidate"]])]
            loudest = [0.0] * len(logs)
        self._closed = closed + [[0, 0, 0, 0] for _ in range(INPUT_CLASSES - len(closed))]
        self._loudest = loudest
        self._logs = logs

    def _all(self) -> list[list[int]]:
        return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(self._closed, self._open, strict=True)]

    def _close(self, input_class: int, block: list[int]) -> None:
        closed, logs = self._closed[input_class], self._logs
        good_a, bad_a, good_b, bad_b = block
        a, learnt = self._shares[input_class]
        n, m = good_a + bad_a, good_b + bad_b
        for place, b in enumerate((learnt, *(min(_MOST, a * times) for times in TIMES_WORSE))):
            c = (n * a + m * b) / (n + m)
            loud = log(b / c)
            logs[place] += (
                bad_a * log(a / c) + good_a * log((1 - a) / (1 - c)) + bad_b * loud + good_b * log((1 - b) / (1 - c))
            )
            if bad_b and loud > self._loudest[place]:
                self._loudest[place] = loud
        for slot in range(4):
            closed[slot] += block[slot]
            block[slot] = 0

    def _learnt(self, good: int, bad: int) -> float:
        """Return the share of bad outcomes so far, leaning on the objective."""
        share = (bad + PRIOR_BAD) / (good + bad + PRIOR_BAD / self._budget)
        return min(_MOST, max(_LEAST, share))


def _log_mean(logs: Sequence[float]) -> float:
    highest = max(logs)
    return highest + log(sum(exp(each - highest) for each in logs) / len(logs))


def _four(values: Sequence[float]) -> list[int]:
    good_a, bad_a, good_b, bad_b = (int(value) for value in values)
    return [good_a, bad_a, good_b, bad_b]
