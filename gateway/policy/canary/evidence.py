"""What a rollout has seen of both versions, SLI by SLI: since it began, and in the step in progress."""

from collections.abc import Mapping
from math import exp, log, sqrt
from typing import Any

from gateway.policy.canary.comparison import Comparison

AVAILABILITY = "availability"
ALPHA = 0.01
"""How likely a candidate that equals stable is ever rolled back by the comparison, at most."""
FIRST = 5
"""A candidate whose first so many requests all fail is out at once."""
GUARD_EVENTS = 20
BEYOND_CHANCE = 13.8
"""Nats: what the absolute guard has seen would happen by chance once in a million times, if both were equal."""
_Z = 1.645


class Evidence:
    """Outcomes of stable and of the candidate. `budgets` are the shares that may be bad, by SLI.

    `requests` are the candidate's in this step, `answered` all of its; latencies of the first `warm_up` do not count.
    """

    def __init__(self, budgets: Mapping[str, float], warm_up: int) -> None:
        self.requests = 0
        self.answered = 0
        self.failed_first = 0
        self.comparisons = {sli: Comparison(budget) for sli, budget in budgets.items()}
        self._warm_up = warm_up
        self._step: dict[str, tuple[list[int], list[int]]] = {}
        self.begin_step()

    def __repr__(self) -> str:
        return f"<Evidence of {self.answered} requests, e {exp(min(self.log_e, 700.0)):.3g}>"

    def begin_step(self) -> None:
        """Forget what only the step in progress is judged by."""
        self.requests = 0
        self._step = {sli: ([0, 0], [0, 0]) for sli in self.comparisons}

    def add(self, outcomes: Mapping[str, bool], *, candidate: bool) -> None:
        """Take one request: whether it was good, by SLI; what does not count is left out."""
        warm = not candidate or self.answered >= self._warm_up
        if candidate:
            self._count(outcomes)
        for sli, good in outcomes.items():
            comparison = self.comparisons.get(sli)
            if comparison is not None and (warm or sli == AVAILABILITY):
                comparison.add(candidate=candidate, bad=not good)
                self._step[sli][candidate][not good] += 1

    def _count(self, outcomes: Mapping[str, bool]) -> None:
        good = outcomes.get(AVAILABILITY)
        if good is None:
            return
        self.answered += 1
        self.requests += 1
        if not good and self.failed_first == self.answered - 1:
            self.failed_first += 1

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value over all SLIs: a mean in which availability weighs half."""
        logs = [comparison.log_e + log(self._weight(sli)) for sli, comparison in self.comparisons.items()]
        highest = max(logs)
        return highest + log(sum(exp(each - highest) for each in logs))

    @property
    def worst(self) -> str:
        """The SLI that speaks loudest against the candidate."""
        return max(self.comparisons, key=lambda sli: self.comparisons[sli].log_e + log(self._weight(sli)))

    @property
    def is_worse(self) -> str:
        """Say why the candidate is worse than stable, "" while that may be chance."""
        if self.failed_first >= FIRST:
            return f"its first {self.failed_first} requests all failed"
        if self.log_e < -log(ALPHA):
            return ""
        sli, shown = self.worst, exp(min(self.log_e, 700.0))
        comparison = self.comparisons[sli]
        return (
            f"{sli} is worse than stable's: e-value {shown:.3g} has reached {1 / ALPHA:g}; "
            f"{_share(comparison.candidate)} of its requests missed, {_share(comparison.stable)} of stable's"
        )

    def bounds(self) -> dict[str, float]:
        """Return by SLI how much more often, at worst, the candidate misses in this step than stable does (95 %)."""
        return {
            sli: upper_difference(stable, candidate)
            for sli, (stable, candidate) in self._step.items()
            if any(stable) and any(candidate)
        }

    def state(self) -> dict[str, Any]:
        """Return what has to be kept over a restart."""
        return {
            "requests": self.requests,
            "answered": self.answered,
            "failed_first": self.failed_first,
            "step": {sli: [stable, candidate] for sli, (stable, candidate) in self._step.items()},
            "comparisons": {sli: comparison.state() for sli, comparison in self.comparisons.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; SLIs that are promised no more are left out.

        Raises KeyError, TypeError or ValueError for what it cannot have given.
        """
        for sli, comparison in self.comparisons.items():
            if sli in state["comparisons"]:
                comparison.restore(state["comparisons"][sli])
                stable, candidate = state["step"][sli]
                self._step[sli] = (list(map(int, stable)), list(map(int, candidate)))
        self.requests = int(state["requests"])
        self.answered = int(state["answered"])
        self.failed_first = int(state["failed_first"])

    def _weight(self, sli: str) -> float:
        others = len(self.comparisons) - (AVAILABILITY in self.comparisons)
        if sli == AVAILABILITY:
            return 0.5 if others else 1.0
        return (0.5 if AVAILABILITY in self.comparisons else 1.0) / others


def upper_difference(stable: list[int], candidate: list[int]) -> float:
    """Return an upper bound (one-sided, 95 %) of how much more often the candidate is bad, from (good, bad).

    Newcombe's hybrid of two Wilson intervals ("Interval estimation for the difference between independent proportions",
    1998, method 10).
    """
    low, a, _ = _wilson(stable)
    _, b, high = _wilson(candidate)
    return b - a + sqrt((high - b) ** 2 + (a - low) ** 2)


def guard(sli: str, candidate: tuple[list[int], list[int]], stable: list[int], *, budget: float, factor: float) -> str:
    """Say why the candidate must go whatever the comparison says yet, "" when it need not.

    `candidate` are good and bad of its last five minutes and of its last minute, `stable` those of five. It burns at
    page rate in both, over enough events, and so much more often than stable that it is no chance (Chernoff's bound):
    else two equals that both fail often would be told apart.
    """
    long, short = candidate
    total = sum(long)
    if total < GUARD_EVENTS or not sum(short):
        return ""
    burns = [counts[1] / sum(counts) / budget for counts in (long, short)]
    if min(burns) < factor:
        return ""
    expected = max(budget, (stable[1] + budget) / (sum(stable) + 1))
    if total * _divergence(long[1] / total, expected) < BEYOND_CHANCE:
        return ""
    return (
        f"{sli} burns at {burns[0]:.1f} over 5 m and {burns[1]:.1f} over 1 m (limit {factor:.1f}): "
        f"{_share(long)} missed, {_share(stable)} of stable's"
    )


def _divergence(p: float, q: float) -> float:
    """Return how far a share p is above a share q below 1, in nats an event; 0.0 when it is not above."""
    if p <= q:
        return 0.0
    return p * log(p / q) + ((1 - p) * log((1 - p) / (1 - q)) if p < 1 else 0.0)


def _wilson(counts: list[int]) -> tuple[float, float, float]:
    total = sum(counts)
    share, square = counts[1] / total, _Z * _Z / total
    middle = (share + square / 2) / (1 + square)
    half = _Z * sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, middle - half), share, min(1.0, middle + half)


def _share(counts: list[int]) -> str:
    return f"{counts[1]:,} of {sum(counts):,}"
