"""Telling a sick backend from a busy one.

Its latencies are held against what its pool's model expects of the same work, beside its peers in the same minute. Load
shifts that for all of them; a sick backend stands out alone.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import median
from typing import Final

HALF_LIFE: Final = 15.0
"""Seconds after which a sample counts half."""
RATIO: Final = 1.25
"""How much slower than its peers a backend must be before it can stand out."""
_LOWEST: Final = log(RATIO)
_DEVIATIONS: Final = 4.0
_SAMPLES: Final = 8.0
_FAILING: Final = 0.03
_LATE: Final = 0.1
_FAILING_SURPLUS: Final = 1.8
_LATE_SURPLUS: Final = 7.0
_MOST_SURPLUS: Final = 20.0
_GRAVE_RATIO: Final = 1.5
_MOSTLY: Final = 0.5
_BOUND: Final = 3.0
OUTLIER: Final = 2.0
"""How many times the expected makes an answer late: some late answers among good ones are what freezes look like."""


@dataclass(frozen=True, slots=True)
class Sickness:
    """What sets a backend apart: `what` it does, and how much of it: times slower than its peers, or a share.

    `is_grave` says that doing without the backend is better than living with it.
    """

    what: str
    amount: float
    is_grave: bool

    def __str__(self) -> str:
        return f"{self.what} {self.amount:.1f}x" if self.amount > 1 else f"{self.what} {self.amount:.0%}"


class Channel:
    """Log ratios of observed to expected, forgotten exponentially."""

    __slots__ = ("squares", "total", "weight")

    def __init__(self) -> None:
        self.weight = self.total = self.squares = 0.0

    def add(self, ratio: float) -> None:
        """Learn one ratio, above 0; outliers are bounded, since one stuck request is not a sick engine."""
        value = max(-_BOUND, min(_BOUND, log(ratio)))
        self.weight += 1.0
        self.total += value
        self.squares += value * value

    def decay(self, by: float) -> None:
        """Let all that was learnt count for a little less."""
        self.weight *= by
        self.total *= by
        self.squares *= by

    @property
    def known(self) -> bool:
        """Whether there are samples enough to compare."""
        return self.weight >= _SAMPLES

    @property
    def mean(self) -> float:
        """The mean log ratio."""
        return self.total / self.weight

    @property
    def uncertainty(self) -> float:
        """The standard error of the mean."""
        variance = max(0.0, self.squares / self.weight - self.mean**2)
        return sqrt((variance + 0.01) / self.weight)


class Share:
    """How often something bad happened, and by how much that is beyond what peers make one expect.

    `surplus` is Page's cumulative sum ("Continuous Inspection Schemes", 1954): each answer adds what happened less what
    was `allowed`, and it never falls below 0, so that a fault counts from its first answer on, whatever went before.
    """

    __slots__ = ("allowed", "hits", "seen", "surplus")

    def __init__(self, allowed: float) -> None:
        self.allowed = allowed
        self.hits = self.seen = self.surplus = 0.0

    def add(self, *, hit: bool) -> None:
        """Count one answer."""
        self.seen += 1.0
        self.hits += hit
        self.surplus = min(_MOST_SURPLUS, max(0.0, self.surplus + hit - self.allowed))

    def decay(self, by: float) -> None:
        """Let all that was learnt count for a little less."""
        self.seen *= by
        self.hits *= by
        self.surplus *= by

    def beyond(self, peers: Sequence["Share"]) -> float:
        """Return the surplus less that of the next worst, and half as much: what meets others too is not its own."""
        return self.surplus - 1.5 * max((peer.surplus for peer in peers), default=0.0)

    @property
    def ratio(self) -> float:
        """The share of answers in which it happened, 0 to 1."""
        return self.hits / self.seen if self.seen else 0.0


class Residual:
    """How one backend's TTFT, TPOT, failures and late answers compare with what its pool expects.

    Late is an answer that took `OUTLIER` times what was expected; `silent` are the failures that were no answers, and
    `hidden` those that no client noticed, since another backend was asked at once.
    """

    __slots__ = ("failing", "hidden", "late", "silent", "tpot", "ttft")

    def __init__(self) -> None:
        self.ttft = Channel()
        self.tpot = Channel()
        self.failing = Share(_FAILING)
        self.late = Share(_LATE)
        self.silent = self.hidden = 0.0

    def failure(self, *, silent: bool = False) -> None:
        """Count an attempt that failed."""
        self.failing.add(hit=True)
        self.silent += silent

    def answered(self) -> None:
        """Count a complete answer; on the path of every request, so it does not go through `add`."""
        failing = self.failing
        failing.seen += 1.0
        if failing.surplus:
            failing.surplus = max(0.0, failing.surplus - failing.allowed)

    def forget(self, elapsed: float) -> None:
        """Let all that was learnt count for less after so many seconds."""
        if self.ttft.weight or self.tpot.weight or self.failing.seen or self.late.seen:
            decay = exp(-0.6931 * elapsed / HALF_LIFE)
            self.ttft.decay(decay)
            self.tpot.decay(decay)
            self.failing.decay(decay)
            self.late.decay(decay)
            self.silent *= decay
            self.hidden *= decay

    @property
    def hidden_share(self) -> float:
        """The part of its failures that no client noticed, 0 to 1; 0.0 where it fails as often as not.

        What fails most of the time costs each request an attempt, and takes all that retries may be.
        """
        failing = self.failing
        return min(1.0, self.hidden / failing.hits) if failing.hits and failing.ratio < _MOSTLY else 0.0

    def sickness(self, peers: Sequence["Residual"]) -> Sickness | None:
        """Return what sets this backend apart from `peers` (the others of its pool), None when nothing does.

        Failures that clients hardly notice are not grave, and told where it is nothing else.
        """
        fails = self.failing.beyond([peer.failing for peer in peers]) >= _FAILING_SURPLUS
        noticed = self.hidden_share < _MOSTLY
        if fails and noticed:
            return Sickness("fails", self.failing.ratio, is_grave=True)
        late = self.late.beyond([peer.late for peer in peers])
        if late >= _LATE_SURPLUS:
            return Sickness("is late", self.late.ratio, is_grave=True)
        for what, own, others in (
            ("prefill", self.ttft, [peer.ttft for peer in peers]),
            ("decode", self.tpot, [peer.tpot for peer in peers]),
        ):
            ratio = _excess(own, [other for other in others if other.known])
            if ratio is not None:
                return Sickness(what, ratio, is_grave=ratio >= _GRAVE_RATIO)
        return Sickness("fails", self.failing.ratio, is_grave=False) if fails else None

    def ratio(self, peers: Sequence["Residual"]) -> float | None:
        """Return TTFT over that of peers at the same work, 1 being equal; None while too little is known."""
        known = [peer.ttft for peer in peers if peer.ttft.known]
        return exp(self.ttft.mean - median(peer.mean for peer in known)) if self.ttft.known and known else None


def compare(residuals: Sequence[Residual]) -> None:
    """Allow each of a pool twice what is typical of the others."""
    _allow([each.failing for each in residuals], _FAILING)
    _allow([each.late for each in residuals], _LATE)


def _allow(shares: Sequence[Share], least: float) -> None:
    ordered = sorted([share.ratio for share in shares])
    for share in shares:
        share.allowed = least + 2 * _median_without(ordered, share.ratio)


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted values without one of them, 0.0 where that leaves none."""
    left = len(ordered) - 1
    if left < 1 or not ordered[left]:
        return 0.0
    at, middle = bisect_left(ordered, value), left // 2
    upper = ordered[middle if middle < at else middle + 1]
    if left % 2:
        return upper
    return (ordered[middle - 1 if middle - 1 < at else middle] + upper) / 2


def _excess(own: Channel, peers: Sequence[Channel]) -> float | None:
    """Return how many times slower than its peers, when that is both large and certain."""
    if not own.known or not peers:
        return None
    typical = median(peer.mean for peer in peers)
    margin = own.mean - typical
    uncertainty = sqrt(own.uncertainty**2 + max(peer.uncertainty for peer in peers) ** 2)
    return exp(margin) if margin > _LOWEST and margin > _DEVIATIONS * uncertainty else None
