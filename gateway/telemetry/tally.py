"""What one version did since its rollout began, for people who compare."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.exchange import Exchange, Verdict
from gateway.policy.slo import buckets
from gateway.policy.slo.classify import request_verdict
from gateway.telemetry.histogram import Histogram

QUANTILES: Final[tuple[float, ...]] = (0.5, 0.95, 0.99)
_FINE = tuple(sorted({*buckets.TTFT, *(0.001 * 1.25**step for step in range(60))}))


class Tally:
    """Requests that counted, those that failed, tokens, and how long first tokens and the others took."""

    __slots__ = ("failed", "output_tokens", "prompt_tokens", "requests", "tpot", "ttft")

    def __init__(self) -> None:
        self.requests = self.failed = self.prompt_tokens = self.output_tokens = 0
        self.ttft = Histogram(_FINE)
        self.tpot = Histogram(_FINE)

    def add(self, exchange: Exchange) -> None:
        """Take a settled request."""
        verdict = request_verdict(exchange.outcome)
        if verdict is Verdict.UNCOUNTED:
            return
        self.requests += 1
        self.failed += verdict is Verdict.BAD
        self.prompt_tokens += exchange.prompt_tokens or 0
        self.output_tokens += exchange.output_tokens if exchange.output_tokens is not None else exchange.content_events
        if verdict is Verdict.GOOD:
            for histogram, seconds in ((self.ttft, exchange.ttft), (self.tpot, exchange.tpot)):
                if seconds is not None:
                    histogram.observe(seconds)

    def state(self) -> dict[str, Any]:
        """Return what has to be kept over a restart."""
        numbers = {name: getattr(self, name) for name in ("requests", "failed", "prompt_tokens", "output_tokens")}
        return {**numbers, "ttft": _sparse(self.ttft), "tpot": _sparse(self.tpot)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; raises KeyError, TypeError, ValueError or IndexError for what it cannot be."""
        for name in ("requests", "failed", "prompt_tokens", "output_tokens"):
            setattr(self, name, int(state[name]))
        for histogram, counts in ((self.ttft, state["ttft"]), (self.tpot, state["tpot"])):
            for index, count in counts.items():
                histogram.counts[int(index)] = int(count)


def quantile(histogram: Histogram, share: float) -> float | None:
    """Return about the value in seconds below which a share of the observations lies; None without any.

    Between two bounds it is interpolated, as Prometheus does.
    """
    total = sum(histogram.counts)
    if not total:
        return None
    cumulative = _running(histogram.counts)
    at = min(bisect_left(cumulative, share * total), len(histogram.bounds) - 1)
    low = histogram.bounds[at - 1] if at else 0.0
    before = cumulative[at - 1] if at else 0
    inside = histogram.counts[at]
    return low + (histogram.bounds[at] - low) * (min(1.0, (share * total - before) / inside) if inside else 1.0)


def _running(counts: Sequence[int]) -> list[int]:
    total, found = 0, []
    for count in counts:
        total += count
        found.append(total)
    return found


def _sparse(histogram: Histogram) -> dict[str, int]:
    return {str(index): count for index, count in enumerate(histogram.counts) if count}
