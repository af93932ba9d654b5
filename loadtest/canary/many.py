"""Thousands of rollouts at once: `policy.canary`'s comparison in arrays, one column a rollout.

Every step of the arithmetic is that of `gateway.policy.canary.comparison` and `evidence`; a test feeds both the same
outcomes. Arrays stand in for it here because ten thousand rollouts of thousands of requests each would take hours.
"""

from collections.abc import Sequence
from math import log
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.policy.canary.comparison import PRIOR_BAD, TIMES_WORSE
from gateway.policy.canary.evidence import BEYOND_CHANCE, GUARD_EVENTS

Floats: TypeAlias = npt.NDArray[np.float64]
_LEAST, _MOST = 1e-6, 0.95


class Comparisons:
    """`Comparison` for many rollouts; blocks hold `n` stable outcomes and one of the candidate's."""

    def __init__(self, rollouts: int, budget: float) -> None:
        self._budget = budget
        self._logs = np.zeros((1 + len(TIMES_WORSE), rollouts))
        self._stable = np.zeros((2, rollouts))
        self._candidate = np.zeros((2, rollouts))

    def add(self, stable: int, stable_bad: Floats, candidate_bad: Floats) -> None:
        """Take one block: how many of `stable` outcomes were bad, and whether the candidate's one was."""
        a = self._learnt(self._stable)
        total = stable + 1.0
        learnt = np.maximum(a, self._learnt(self._candidate))
        log_a, log_not_a = np.log(a), np.log1p(-a)
        for place, b in enumerate((learnt, *(np.minimum(_MOST, a * times) for times in TIMES_WORSE))):
            c = (stable * a + b) / total
            log_c, log_not_c = np.log(c), np.log1p(-c)
            self._logs[place] += stable_bad * (log_a - log_c) + (stable - stable_bad) * (log_not_a - log_not_c)
            self._logs[place] += np.where(candidate_bad > 0, np.log(b) - log_c, np.log1p(-b) - log_not_c)
        self._stable[1] += stable_bad
        self._stable[0] += stable - stable_bad
        self._candidate[1] += candidate_bad
        self._candidate[0] += 1 - candidate_bad

    @property
    def log_e(self) -> Floats:
        """The logarithm of every e-value."""
        highest = self._logs.max(axis=0)
        found: Floats = highest + np.log(np.exp(self._logs - highest).mean(axis=0))
        return found

    def _learnt(self, counts: Floats) -> Floats:
        share = (counts[1] + PRIOR_BAD) / (counts[0] + counts[1] + PRIOR_BAD / self._budget)
        return np.clip(share, _LEAST, _MOST)


def combined(logs: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return the logarithm of the weighted mean of e-values."""
    rows = np.stack([each + log(weight) for each, weight in zip(logs, weights, strict=True)])
    highest = rows.max(axis=0)
    found: Floats = highest + np.log(np.exp(rows - highest).sum(axis=0))
    return found


class Window:
    """Good and bad of the last `length` ticks, for many rollouts, candidate or stable."""

    def __init__(self, rollouts: int, length: int) -> None:
        self._ring = np.zeros((length, 2, rollouts))
        self._at = 0
        self.counts = np.zeros((2, rollouts))

    def add(self, good: Floats, bad: Floats) -> None:
        """Let one tick pass."""
        slot = self._ring[self._at % len(self._ring)]
        self.counts -= slot
        slot[0], slot[1] = good, bad
        self.counts += slot
        self._at += 1


def guards(long: Window, short: Window, stable: Window, budget: float, factor: float) -> npt.NDArray[np.bool_]:
    """Whether the absolute guard speaks, as `evidence.guard` says it in words."""
    burning = burns(long, budget, factor) & burns(short, budget, factor)
    total = long.counts.sum(axis=0)
    share = np.divide(long.counts[1], np.maximum(total, 1))
    expected = np.maximum(budget, (stable.counts[1] + budget) / (stable.counts.sum(axis=0) + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = share * np.log(share / expected)
        nats = nats + np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - expected)), 0.0)
    sure = (share > expected) & (total * nats >= BEYOND_CHANCE)
    return burning & (total >= GUARD_EVENTS) & sure


def burns(window: Window, budget: float, factor: float) -> npt.NDArray[np.bool_]:
    """Whether a window burns at `factor` or more."""
    total = window.counts.sum(axis=0)
    return (total > 0) & (window.counts[1] >= factor * budget * total)
