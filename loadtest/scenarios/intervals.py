"""What repetitions with different seeds say: means, their intervals, and how two gateways compare. Arithmetic alone.

Requests of one repetition depend on each other (one fault strikes many), so what varies is taken from seed to seed:
intervals are Student's, at 95 %, over seeds. Gateways are compared within each seed, since there they had the same
requests and faults at the same moments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean, stdev

from loadtest.scenarios.runs import Run

FEWER, LIKE, MORE = "fewer", "like", "more"
_FEWEST_SEEDS = 3
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_NORMAL = 1.96
_RULE_OF_THREE = 3.0
"""None of n seen: at 95 %, the rate is below three in n."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds, and where it lies at 95 %; one seed alone says nothing of that."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Return Student's interval of the mean of these values."""
        middle = fmean(values)
        if len(values) < 2:
            return cls(middle, None, None)
        half = _student(len(values) - 1) * stdev(values) / sqrt(len(values))
        return cls(middle, middle - half, middle + half)


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of requests that missed the objective, over seeds: its interval, and the counts that it is of."""

    share: Interval
    missed: int
    requests: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Rate":
        """Return the rate of these repetitions; where none was missed, its upper end is by the rule of three."""
        missed, requests = sum(run.missed for run in runs), sum(run.requests for run in runs)
        share = Interval.of([run.share for run in runs])
        if not missed:
            share = Interval(0.0, 0.0, min(1.0, _RULE_OF_THREE / max(1, requests)))
        elif share.low is not None and share.high is not None:
            share = Interval(share.mean, max(0.0, share.low), min(1.0, share.high))
        return cls(share, missed, requests)

    def told(self) -> str:
        """Return it in words, in per cent."""
        if not self.missed:
            return f"0 of {self.requests:,} (below {percent(self.share.high or 0.0)} %)"
        if self.share.low is None or self.share.high is None:
            return f"{percent(self.share.mean)} %"
        return f"{percent(self.share.mean)} % ({percent(self.share.low)} to {percent(self.share.high)})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours beside another gateway, over the seeds that both have played.

    `difference` is our share less theirs; `times` how many times fewer we miss (their rate over ours), None where
    neither missed any. Where we missed none there is a lower end of `times` alone. `verdict` is FEWER or MORE where
    the difference is one at 95 %, else LIKE.
    """

    against: str
    ours: Rate
    theirs: Rate
    difference: Interval
    times: Interval | None
    verdict: str

    @classmethod
    def of(cls, against: str, ours: Sequence[Run], theirs: Sequence[Run]) -> "Comparison":
        """Compare seed by seed."""
        mine, other = {run.seed: run for run in ours}, {run.seed: run for run in theirs}
        pairs = [(mine[seed], other[seed]) for seed in sorted(mine.keys() & other.keys())]
        own, rate = Rate.of([one for one, _ in pairs]), Rate.of([one for _, one in pairs])
        difference = Interval.of([one.share - two.share for one, two in pairs])
        return cls(against, own, rate, difference, _times(own, rate, pairs), _verdict(difference, len(pairs)))

    def told(self) -> str:
        """Return it in words."""
        if self.times is None:
            return f"neither Tidegate nor {self.against} missed any of {self.ours.requests:,}"
        both = f"{self.ours.told()} missed, {self.theirs.told()} behind {self.against}"
        if not self.ours.missed:
            return f"{both}{f': at least {self.times.low:.1f}x fewer' if self.times.low else ''}"
        known = self.times.low is not None and self.times.high is not None
        span = f" ({self.times.low:.1f} to {self.times.high:.1f})" if known else ""
        like = "; no difference shown" if self.verdict == LIKE else ""
        return f"{both}: {self.times.mean:.1f}x fewer{span}{like}" if self.times.mean >= 1 else f"{both}{like}"

    def reaches(self, aim: float) -> bool:
        """Whether it is as good as was aimed at; an aim of 1 is not to be worse."""
        if self.times is None or aim <= 1:
            return self.verdict != MORE
        return self.times.mean >= aim


def best(ours: Sequence[Run], others: Mapping[str, Sequence[Run]]) -> Comparison:
    """Compare with the gateway that missed the least."""
    found = [Comparison.of(name, ours, runs) for name, runs in others.items()]
    return min(found, key=lambda each: each.theirs.share.mean)


def percent(share: float) -> str:
    """Return a share in per cent, with as many digits as can be meant."""
    return f"{share * 100:.2f}" if share < 0.1 else f"{share * 100:.1f}"


def _times(ours: Rate, theirs: Rate, pairs: Sequence[tuple[Run, Run]]) -> Interval | None:
    if not ours.missed and not theirs.missed:
        return None
    if not ours.missed:
        at_most = ours.share.high or 1.0
        return Interval(theirs.share.mean / at_most, (theirs.share.low or 0.0) / at_most, None)
    # Half a request is added to each, so that a seed without a miss has a logarithm too.
    logs = [log(_smooth(other) / _smooth(one)) for one, other in pairs]
    found = Interval.of(logs)
    if found.low is None or found.high is None:
        return Interval(exp(found.mean), None, None)
    return Interval(exp(found.mean), exp(found.low), exp(found.high))


def _smooth(run: Run) -> float:
    return (run.missed + 0.5) / (run.requests + 1)


def _verdict(difference: Interval, seeds: int) -> str:
    if seeds < _FEWEST_SEEDS or difference.low is None or difference.high is None:
        return LIKE
    return FEWER if difference.high < 0 else MORE if difference.low > 0 else LIKE


def _student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's distribution; beyond the table by its expansion around the normal."""
    return _T[freedom - 1] if freedom <= len(_T) else _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)
