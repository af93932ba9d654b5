"""How many requests the next decision of a rollout needs, and how long they take at the traffic seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, inf
from typing import Final, TypeVar

from gateway.policy.canary.bounds import Counts, upper_difference, wilson
from gateway.policy.canary.plan import WIDEST_FIRST, Plan

SOON: Final = 900.0
"""Seconds within which the first step of `auto` shows enough to go on."""
LAST_MARGIN: Final = 1.25
"""Times the margin in the last step: what was enough to enter it is not asked for again to the last digit, since with
5 % of stable left more certainty comes slowly."""
ENOUGH_TRAFFIC: Final = 20
"""Requests from which on their rate says something."""
Pair = TypeVar("Pair", bound=Counts)
_MEMORY: Final = 3600.0
_FINENESS: Final = 1.01


class Pace:
    """Requests per second, of about the last hour or since the first."""

    __slots__ = ("_decayed", "_first", "_last", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self._decayed = 0.0
        self._first = self._last = 0.0

    def __repr__(self) -> str:
        return f"<Pace of {self.requests} requests>"

    def add(self, now: float, count: int = 1) -> None:
        """Count requests (`now` in seconds)."""
        if not self.requests:
            self._first = self._last = now
        self.requests += count
        self._decayed = self._decayed * exp((self._last - now) / _MEMORY) + count
        self._last = now

    def state(self) -> list[float]:
        """Return what has to be kept over a restart."""
        return [self.requests, self._decayed, self._last - self._first]

    def restore(self, state: Sequence[float], now: float) -> None:
        """Take back what `state` gave, as if no time had passed since; what it cannot have given is left out.

        Raises TypeError or ValueError for what is no such thing at all.
        """
        requests, decayed, age = (float(each) for each in state)
        if 0 < decayed <= requests < inf and 0 <= age < inf:
            self.requests, self._decayed = int(requests), decayed
            self._first, self._last = now - age, now

    def rate(self, now: float) -> float:
        """Return requests per second, 0.0 before the second one."""
        age = now - self._first
        if self.requests < 2 or age <= 0:
            return 0.0
        return self._decayed * exp((self._last - now) / _MEMORY) / (_MEMORY * (1 - exp(-age / _MEMORY)))


def believed(before: Pair, since: Pair) -> Pair:
    """Return the counts of good and bad that tell how often the model will fail.

    Those from before the rollout, as long as they are more and those since do not contradict them (95 %): an incident
    that is over does not predict the next requests.
    """
    total, more = since[0] + since[1], before[0] + before[1]
    if total >= more:
        return since
    low, _, high = wilson(since) if total else (0.0, 0.0, 1.0)
    return before if low <= before[1] / more <= high else since


@dataclass(frozen=True, slots=True)
class SliEvidence:
    """What was seen of one SLI in this rollout: good and bad of either side, and the candidate's worst difference.

    `upper` is None while a side has no events. `usual` is good and bad of the model before, which stands in for stable
    while it is more, and stable does not speak against it; `per_request` is how many of these events a request brings.
    """

    budget: float
    stable: Counts = (0, 0)
    candidate: Counts = (0, 0)
    upper: float | None = None
    usual: Counts = (0, 0)
    per_request: float = 1.0

    @property
    def expected(self) -> float:
        """The share of bad events that stable is expected to have."""
        counts = believed(self.usual, self.stable)
        total = counts[0] + counts[1]
        return counts[1] / total if total else 0.0

    def bound(self, to: float, margin: float) -> float:
        """Return what the worst difference has to stay below before the candidate may have `to` per cent."""
        return self.limit(margin) * (LAST_MARGIN if to == 100.0 else 1.0) * 100 / to

    def limit(self, margin: float) -> float:
        """Return what the next share times the worst difference has to stay below, the last step's allowance apart."""
        total = sum(self.stable)
        share = self.stable[1] / total if total else 0.0
        return margin * max(self.budget, share / 2)

    def may_go_on(self, to: float, margin: float) -> bool:
        """Whether the candidate may have `to` per cent of requests; what neither side has had is no obstacle."""
        if self.upper is None:
            return not sum(self.stable) and not sum(self.candidate)
        return self.upper < self.bound(to, margin)

    def after(self, stable: float, candidate: float) -> "SliEvidence":
        """Return what is expected after so many more requests of either side, if both miss equally often."""
        share, per = self.expected, self.per_request
        more = [
            [known[0] + count * per * (1 - share), known[1] + count * per * share]
            for known, count in ((self.stable, stable), (self.candidate, candidate))
        ]
        worst = upper_difference(more[0], more[1]) if any(more[0]) and any(more[1]) else None
        if worst is not None and self.upper is not None and any(self.stable) and any(self.candidate):
            # What the comparison by input class corrects stays corrected.
            worst += self.upper - upper_difference(self.stable, self.candidate)
        return SliEvidence(self.budget, more[0], more[1], worst, self.usual, per)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a model's requests tell about the time that a rollout takes.

    `rate` is the model's requests per second, 0.0 while unknown. `slis` is how each SLI stands. `requests` counts the
    candidate's requests in this step.
    """

    rate: float = 0.0
    slis: dict[str, SliEvidence] = field(default_factory=dict)
    requests: int = 0

    def missing(self, plan: Plan, share: float) -> int:
        """Return how many more requests of the candidate it takes until a step of `share` per cent may end.

        As many again as it takes to show that an equal candidate is equal: chance may ask for more or fewer.
        """
        fewest = max(0, plan.min_requests - self.requests)
        return max([fewest, *(self._missing(each, plan, share) for each in self.slis.values())])

    def seconds(self, plan: Plan, share: float) -> float:
        """Return how long that takes at this rate, in seconds; infinite without traffic."""
        missing = self.missing(plan, share)
        if not missing:
            return 0.0
        return missing / (self.rate * share / 100) if self.rate and share else inf

    def step(self, plan: Plan, share: float) -> float:
        """Return how long a step that begins now takes, its hold included."""
        return max(plan.held_for(share), self.seconds(plan, share))

    def rest(self, plan: Plan, share: float, held: float = 0.0) -> float:
        """Return how long it takes from here to promotion; the step at `share` has been held for `held` seconds."""
        return sum(seconds for _, seconds in self.ahead(plan, share, held))

    def ahead(self, plan: Plan, share: float, held: float = 0.0) -> Iterator[tuple[float, float]]:
        """Yield each step from the one at `share` to the last, as its share and its seconds.

        The last is the step that has no end in sight, if there is one.
        """
        traffic = self
        while share < 100.0:
            seconds = max(plan.held_for(share) - held, traffic.seconds(plan, share))
            yield share, seconds
            if seconds == inf:
                return
            traffic, share, held = traffic._later(seconds, share), plan.after(share), 0.0

    def first_step(self, plan: Plan) -> float:
        """Return the share of the first step, in per cent."""
        if not plan.is_auto:
            return plan.shares[0]
        small = (share for share in plan.shares if share <= WIDEST_FIRST and self.seconds(plan, share) <= SOON)
        return next(small, WIDEST_FIRST)

    def _later(self, seconds: float, share: float) -> "Traffic":
        requests = self.rate * seconds
        mine = requests * share / 100
        return Traffic(self.rate, {sli: each.after(requests - mine, mine) for sli, each in self.slis.items()})

    def _missing(self, standing: SliEvidence, plan: Plan, share: float) -> int:
        """Return how many more candidate requests one SLI needs."""
        to = plan.after(share)
        if standing.upper is not None and standing.may_go_on(to, plan.margin):
            return 0
        stable = (100.0 - share) / share

        def enough(requests: float) -> bool:
            return standing.after(stable * requests, requests).may_go_on(to, plan.margin)

        low, high = 0.0, 1.0
        while not enough(high):
            if high > 1e12:
                return int(high)
            low, high = high, 2 * high
        while high > low * _FINENESS and high - low > 1:
            middle = (low + high) / 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return int(high) + 1
