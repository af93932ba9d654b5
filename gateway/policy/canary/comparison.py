"""Whether a candidate fails more often than stable: a test that may be looked at after every request.

An e-process for two streams of good and bad outcomes (Turner, Ly and Gruenwald, "Generic E-variables for exact
sequential k-sample tests that allow for optional stopping", 2024). Outcomes are taken in blocks with at least one of
either side, which end by what arrives and never by how it turned out. For shares a and b that were fixed before a block
of n stable and m candidate outcomes, and their mean c = (n a + m b) / (n + m), the likelihood of a and b over that of c
has an expectation of at most 1 whenever both sides fail equally often, however often that is. So has the product over
blocks, and the mean of several such products. By Ville's inequality it ever reaches 1/alpha with a probability of at
most alpha, however long one looks.
"""

from collections.abc import Sequence
from math import exp, log

TIMES_WORSE = (2.0, 5.0, 20.0)
"""How much more often the candidate may fail: what the test is keen on, beside what it learns of the candidate."""
PRIOR_BAD = 0.5
"""Bad outcomes that the prior, at exactly the objective, is worth."""
_LEAST, _MOST = 1e-6, 0.95

Counts = tuple[int, int]
"""Good and bad."""


class Comparison:
    """The evidence that a candidate misses one promise more often than stable does.

    `budget` is the share that may miss it.
    """

    __slots__ = ("_budget", "_logs", "_open_candidate", "_open_stable", "candidate", "stable")

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._logs = [0.0] * (1 + len(TIMES_WORSE))
        self._open_stable = [0, 0]
        self._open_candidate = [0, 0]
        self.stable = [0, 0]
        self.candidate = [0, 0]

    def __repr__(self) -> str:
        return f"<Comparison e {exp(self.log_e):.3g} candidate {self.candidate} stable {self.stable}>"

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        highest = max(self._logs)
        return highest + log(sum(exp(each - highest) for each in self._logs) / len(self._logs))

    def add(self, *, candidate: bool, bad: bool, count: int = 1) -> None:
        """Take an outcome, or several that are alike and came in a row."""
        block = self._open_candidate if candidate else self._open_stable
        block[bad] += count
        if any(self._open_candidate) and any(self._open_stable):
            self._close()

    def seen(self, *, candidate: bool) -> Counts:
        """Return good and bad of one side, the block in progress among them."""
        closed, open_ = (self.candidate, self._open_candidate) if candidate else (self.stable, self._open_stable)
        return closed[0] + open_[0], closed[1] + open_[1]

    def state(self) -> dict[str, list[float]]:
        """Return what has to be kept over a restart; the block in progress is not."""
        return {"logs": self._logs, "stable": [*self.stable], "candidate": [*self.candidate]}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take back what `state` gave; raises KeyError, TypeError or ValueError for what it cannot have given."""
        logs = [float(each) for each in state["logs"]]
        if len(logs) != len(self._logs):
            raise ValueError("as many logarithms as alternatives are needed")
        self.stable = _counts(state["stable"])
        self.candidate = _counts(state["candidate"])
        self._logs = logs

    def _close(self) -> None:
        (good_a, bad_a), (good_b, bad_b) = self._open_stable, self._open_candidate
        a = self._learnt(self.stable)
        n, m = good_a + bad_a, good_b + bad_b
        learnt = max(a, self._learnt(self.candidate))
        for place, b in enumerate((learnt, *(min(_MOST, a * times) for times in TIMES_WORSE))):
            c = (n * a + m * b) / (n + m)
            self._logs[place] += (
                bad_a * log(a / c)
                + good_a * log((1 - a) / (1 - c))
                + bad_b * log(b / c)
                + good_b * log((1 - b) / (1 - c))
            )
        for total, block in ((self.stable, self._open_stable), (self.candidate, self._open_candidate)):
            total[0] += block[0]
            total[1] += block[1]
            block[0] = block[1] = 0

    def _learnt(self, counts: Sequence[int]) -> float:
        """Return the share of bad outcomes so far, leaning on the objective."""
        share = (counts[1] + PRIOR_BAD) / (counts[0] + counts[1] + PRIOR_BAD / self._budget)
        return min(_MOST, max(_LEAST, share))


def _counts(values: Sequence[float]) -> list[int]:
    good, bad = (int(value) for value in values)
    return [good, bad]
