"""Simulated rollouts: outcomes by chance, looked at after every request of the candidate, by four rules."""

from dataclasses import dataclass, field
from math import log

import numpy as np

from gateway.policy.canary.evidence import ALPHA, FIRST
from loadtest.canary.many import Comparisons, Floats, Window, burns, combined, guards

SECONDS = 1800
WEIGHT = 0.05
FACTOR = 13.44
SIGMAS = 2.576
"""Two proportions differ at the 1 % level."""
LONG, SHORT = 300, 60


@dataclass(frozen=True)
class Rates:
    """How often stable and the candidate fail, and are late; `budgets` are what may be, of either."""

    stable: tuple[float, float]
    candidate: tuple[float, float]
    budgets: tuple[float, float] = (0.001, 0.01)


@dataclass
class Found:
    """When each rule rolled back, in candidate requests; infinite for never."""

    gateway: Floats
    threshold: Floats
    repeated: Floats
    requests: int = 0
    rollouts: int = field(default=0)

    def share(self, rule: str) -> float:
        """Return the share of rollouts that a rule rolled back."""
        return float(np.isfinite(getattr(self, rule)).mean())

    def median(self, rule: str) -> float:
        """Return the median of candidate requests until a rule rolled back."""
        return float(np.median(getattr(self, rule)))


def simulate(rng: np.random.Generator, rates: Rates, per_second: float, *, rollouts: int, requests: int) -> Found:
    """Run rollouts at 5 % for so many requests of the candidate.

    The gateway's rules, a plain threshold (burn at page rate over 5 m and 1 m, from 20 requests on) and a test of two
    proportions at 1 % that is repeated after every request.
    """
    stable = round((1 - WEIGHT) / WEIGHT)
    comparisons = [Comparisons(rollouts, budget) for budget in rates.budgets]
    windows = [_Windows(rollouts, per_second * WEIGHT) for _ in rates.budgets]
    sums = np.zeros((2, 2, rollouts))
    never = np.full(rollouts, np.inf)
    found = Found(never.copy(), never.copy(), never.copy(), requests, rollouts)
    failed_first = np.zeros(rollouts)
    for request in range(1, requests + 1):
        at_once, threshold, repeated = (np.zeros(rollouts, dtype=bool) for _ in range(3))
        for sli, comparison in enumerate(comparisons):
            stable_bad = rng.binomial(stable, rates.stable[sli], rollouts).astype(float)
            bad = (rng.random(rollouts) < rates.candidate[sli]).astype(float)
            comparison.add(stable, stable_bad, bad)
            sums[sli, 0] += stable_bad
            sums[sli, 1] += bad
            threshold |= windows[sli].add(stable, stable_bad, bad, rates.budgets[sli])
            at_once |= windows[sli].guarded(rates.budgets[sli])
            repeated |= _differs(sums[sli, 0], stable * request, sums[sli, 1], request)
            if sli == 0:
                failed_first += (bad > 0) & (failed_first == request - 1)
        worse = combined([each.log_e for each in comparisons], (0.5, 0.5)) >= -log(ALPHA)
        for rule, says in (
            (found.gateway, worse | at_once | (failed_first >= FIRST)),
            (found.threshold, threshold),
            (found.repeated, repeated),
        ):
            rule[says & ~np.isfinite(rule)] = request
    return found


class _Windows:
    """The last five minutes and the last minute, in ticks of one candidate request."""

    def __init__(self, rollouts: int, per_second: float) -> None:
        self.long = Window(rollouts, max(1, round(LONG * per_second)))
        self.short = Window(rollouts, max(1, round(SHORT * per_second)))
        self.stable = Window(rollouts, max(1, round(LONG * per_second)))

    def add(self, stable: int, stable_bad: Floats, bad: Floats, budget: float) -> Floats:
        self.long.add(1 - bad, bad)
        self.short.add(1 - bad, bad)
        self.stable.add(stable - stable_bad, stable_bad)
        enough = self.long.counts.sum(axis=0) >= 20
        found: Floats = enough & burns(self.long, budget, FACTOR) & burns(self.short, budget, FACTOR)
        return found

    def guarded(self, budget: float) -> Floats:
        found: Floats = guards(self.long, self.short, self.stable, budget, FACTOR)
        return found


def _differs(stable_bad: Floats, stable: int, bad: Floats, candidate: int) -> Floats:
    """Whether a one-off test at the 1 % level would say that the candidate is worse."""
    pooled = (stable_bad + bad) / (stable + candidate)
    error = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / stable + 1 / candidate))
    found: Floats = (bad > 0) & ((bad / candidate - stable_bad / stable) / error > SIGMAS) & (candidate >= 20)
    return found
