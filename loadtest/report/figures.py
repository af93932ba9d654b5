"""From a recording to numbers: distributions, bins of time, and how requests met the objective. Arithmetic alone."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Objective, Request

LATE_TTFT, LATE_TPOT = "late TTFT", "late TPOT"
REASONS = (LATE_TTFT, LATE_TPOT, FAILED, CUT, REFUSED)
OUTCOMES = (OK, FAILED, CUT, REFUSED)

MEASURES: Mapping[str, Callable[[Request], float | None]] = {
    "TTFT": lambda request: request.ttft,
    "TPOT": lambda request: request.tpot,
    "e2e": lambda request: request.e2e,
}

RECOVERED_BELOW = 0.05
RECOVERY_WINDOW = 5.0

_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_ENOUGH, _FEWEST_BINS, _MOST_BINS = 30, 20, 400
_CURVE_POINTS = 400


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values in ascending order, and `up_to`: how many of all are at most each of them."""

    values: tuple[float, ...]
    up_to: tuple[int, ...]

    @classmethod
    def of(cls, counts: Mapping[float, int]) -> "Distribution":
        """The distribution of values that were seen so many times each."""
        values = sorted(counts)
        return cls(tuple(values), tuple(accumulate(counts[value] for value in values)))

    @property
    def count(self) -> int:
        """How many there are."""
        return self.up_to[-1] if self.up_to else 0

    def percentile(self, per_cent: int) -> float | None:
        """Nearest rank: the smallest value that so many per cent do not exceed; None where there are no values."""
        if not self.count:
            return None
        rank = max(1, -(-self.count * per_cent // 100))
        return self.values[bisect_left(self.up_to, rank)]

    def share_of(self, value: float) -> float:
        """Which share of all is exactly this value."""
        place = bisect_left(self.values, value)
        if place == len(self.values) or self.values[place] != value:
            return 0.0
        return (self.up_to[place] - (self.up_to[place - 1] if place else 0)) / self.count

    def curve(self) -> list[tuple[float, float]]:
        """The cumulative distribution as points (value, share), thinned to a few hundred; the last one stays."""
        points = [(value, count / self.count) for value, count in zip(self.values, self.up_to, strict=True)]
        if len(points) <= _CURVE_POINTS:
            return points
        last = len(points) - 1
        return [points[last * place // (_CURVE_POINTS - 1)] for place in range(_CURVE_POINTS)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a span fared against the objective; times in seconds, `goodput` in output tokens per second.

    `missed` and `availability` are shares, 0 and 1 where there were no requests. `why` counts each missed request
    once; one that is late twice is a late TTFT. Percentiles are those of answered requests, None where there are none.
    """

    requests: int
    missed: float
    why: Mapping[str, int]
    goodput: float
    ttft_p50: float | None
    ttft_p99: float | None
    tpot_p99: float | None
    availability: float

    @classmethod
    def of(cls, requests: Iterable[Request], objective: Objective, start: float, end: float) -> "Verdict":
        """Judge the requests that were due from `start` until before `end`, in seconds of the run."""
        due = [request for request in requests if start <= request.at < end]
        why = Counter(reason for request in due if (reason := why_missed(request, objective)))
        ttft, tpot = distribution(due, "TTFT"), distribution(due, "TPOT")
        return cls(
            requests=len(due),
            missed=why.total() / max(1, len(due)),
            why={reason: why[reason] for reason in REASONS},
            goodput=_good_tokens(due, objective) / (end - start) if end > start else 0.0,
            ttft_p50=ttft.percentile(50),
            ttft_p99=ttft.percentile(99),
            tpot_p99=tpot.percentile(99),
            availability=sum(request.outcome == OK for request in due) / len(due) if due else 1.0,
        )


@dataclass(frozen=True, slots=True)
class Bins:
    """A run cut into `count` bins of `width` seconds; the last one also holds what is left of the run."""

    seconds: float
    width: int
    count: int

    @classmethod
    def over(cls, seconds: float, requests: float) -> "Bins":
        """Bins wide enough that one holds enough of so many requests, and narrow enough to show a course."""
        fitting = [width for width in _WIDTHS if width * _MOST_BINS >= seconds] or [int(-(-seconds // _MOST_BINS))]
        allowed = [width for width in fitting if width * _FEWEST_BINS <= seconds] or [fitting[0]]
        enough = (width for width in allowed if requests * width >= _ENOUGH * seconds)
        width = next(enough, allowed[-1])
        return cls(seconds, width, max(1, int(seconds // width)))

    @property
    def middles(self) -> list[float]:
        """Where in time each bin is shown."""
        return [index * self.width + length / 2 for index, length in enumerate(self.lengths)]

    @property
    def lengths(self) -> list[float]:
        """How many seconds each bin lasts."""
        return [float(self.width)] * (self.count - 1) + [max(self.seconds - (self.count - 1) * self.width, 1e-3)]

    def index(self, at: float) -> int:
        """The bin that holds a time; times outside the run count to the first or the last."""
        return min(max(int(at // self.width), 0), self.count - 1)

    def split(self, requests: Iterable[Request]) -> list[list[Request]]:
        """The requests that were due in each bin."""
        bins: list[list[Request]] = [[] for _ in range(self.count)]
        for request in requests:
            bins[self.index(request.at)].append(request)
        return bins


def why_missed(request: Request, objective: Objective) -> str | None:
    """Why a request missed the objective, one of REASONS; None if it met it."""
    if objective.is_met_by(request):
        return None
    if request.outcome != OK:
        return request.outcome
    return LATE_TTFT if objective.late_ttft(request) else LATE_TPOT


def recovered_after(requests: Iterable[Request], objective: Objective, since: float) -> float | None:
    """Seconds from `since` until the share of missed stays low to the end of the run, to one second.

    Looks at windows of RECOVERY_WINDOW seconds, one from each second on, that end before the last request was due. One
    without requests says nothing. None where the last window is still bad, or where there is none to look at.
    """
    due = sorted((request.at, not objective.is_met_by(request)) for request in requests if request.at >= since)
    times = [at for at, _ in due]
    missed = [0, *accumulate(bad for _, bad in due)]
    windows = int(times[-1] - since - RECOVERY_WINDOW) + 1 if due and times[-1] - since >= RECOVERY_WINDOW else 0
    recovered = None if not windows else 0
    for index in range(windows):
        first = bisect_left(times, since + index)
        end = bisect_left(times, since + index + RECOVERY_WINDOW)
        if missed[end] - missed[first] >= RECOVERED_BELOW * max(1, end - first):
            recovered = index + 1
    return float(recovered) if recovered is not None and recovered < windows else None


def distribution(requests: Iterable[Request], measure: str) -> Distribution:
    """The distribution of a measure (a key of MEASURES) in seconds, over the answered requests that have it."""
    read = MEASURES[measure]
    return Distribution.of(
        Counter(value for request in requests if request.outcome == OK and (value := read(request)) is not None)
    )


def over_time(bins: Bins, requests: Iterable[Request], measure: str, per_cent: int) -> list[float | None]:
    """A percentile of a measure in seconds, for the requests due in each bin."""
    return [distribution(each, measure).percentile(per_cent) for each in bins.split(requests)]


def gaps_over_time(bins: Bins, gaps: Mapping[tuple[int, float], int], per_cent: int) -> list[float | None]:
    """A percentile of the gaps between output events in seconds, for the gaps that ended in each bin."""
    counts: list[Counter[float]] = [Counter() for _ in range(bins.count)]
    for (second, gap), count in gaps.items():
        counts[bins.index(second)][gap] += count
    return [Distribution.of(each).percentile(per_cent) for each in counts]


def all_gaps(gaps: Mapping[tuple[int, float], int]) -> Distribution:
    """The distribution of all gaps between output events, in seconds."""
    counts: Counter[float] = Counter()
    for (_, gap), count in gaps.items():
        counts[gap] += count
    return Distribution.of(counts)


def rate(bins: Bins, requests: Iterable[Request]) -> list[float]:
    """Requests per second, by when they were due."""
    return [len(due) / length for due, length in zip(bins.split(requests), bins.lengths, strict=True)]


def goodput(bins: Bins, requests: Iterable[Request], objective: Objective) -> list[float]:
    """Output tokens per second of requests that met the objective, by when the requests were due."""
    split = zip(bins.split(requests), bins.lengths, strict=True)
    return [_good_tokens(due, objective) / length for due, length in split]


def met(bins: Bins, requests: Iterable[Request], objective: Objective) -> list[float | None]:
    """The share of requests that met the objective, by when they were due; None for a bin without requests."""
    return [sum(map(objective.is_met_by, due)) / len(due) if due else None for due in bins.split(requests)]


def shares(bins: Bins, requests: Iterable[Request], label: Callable[[Request], str]) -> dict[str, list[float | None]]:
    """For each label the share of the requests in a bin that have it, among those that have any."""
    counts = [Counter(name for request in due if (name := label(request))) for due in bins.split(requests)]
    labels = sorted(set().union(*counts))
    return {name: [each[name] / each.total() if each else None for each in counts] for name in labels}


def grouped(requests: Iterable[Request], label: Callable[[Request], str]) -> dict[str, list[Request]]:
    """The requests by label, in the order of the labels."""
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(label(request), []).append(request)
    return dict(sorted(groups.items()))


def _good_tokens(requests: Sequence[Request], objective: Objective) -> int:
    return sum(request.output_tokens for request in requests if objective.is_met_by(request))
