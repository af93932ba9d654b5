"""A histogram that costs a bisect and two additions: what the hot path can afford."""

from collections.abc import Sequence
from math import inf

from gateway.policy.slo.buckets import bucket_of


class Histogram:
    """Counts per bucket, not cumulative, the last being +Inf; bounds in seconds, ascending."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one observation."""
        self.counts[bucket_of(self.bounds, seconds)] += 1
        self.total += seconds

    def merge(self, counts: list[int], total: float, bounds: Sequence[float]) -> None:
        """Add observations counted elsewhere; those in buckets of other bounds count at their upper bound."""
        mine = self.counts
        if bounds is self.bounds or bounds == self.bounds:
            for index in range(len(counts)):
                count = counts[index]
                if count:
                    mine[index] += count
        else:
            for bound, count in zip((*bounds, inf), counts, strict=True):
                mine[bucket_of(self.bounds, bound)] += count
        self.total += total

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, observations up to it), as Prometheus wants them."""
        running = 0
        buckets = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


def together(histograms: Sequence[Histogram]) -> Histogram:
    """Return several as one, by the bounds of the first; of one, itself."""
    if len(histograms) == 1:
        return histograms[0]
    total = Histogram(histograms[0].bounds)
    for each in histograms:
        total.merge(each.counts, each.total, each.bounds)
    return total
