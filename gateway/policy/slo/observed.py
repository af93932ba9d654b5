"""Latencies as they were observed, by the length of the prompt: what objectives can be proposed from."""

from bisect import bisect_right
from typing import Final

from gateway.policy.slo.buckets import bucket_of
from gateway.policy.slo.objective import DAY, Sli

STEPS: Final[tuple[int, ...]] = (256, 1024, 4096, 16_384, 65_536)
"""Prompt tokens from which another class of lengths begins."""
BOUNDS: Final[tuple[float, ...]] = tuple(0.001 * 1.2**step for step in range(74))
"""Upper bounds in seconds, from a millisecond to ten minutes; the last bucket has none."""
GENERATION: Final = 14 * DAY
"""Seconds after which the latencies before the last generation are forgotten."""
OBSERVED: Final[tuple[Sli, ...]] = (Sli.TTFT, Sli.TPOT, Sli.E2E)


class Observed:
    """Counts per bucket by SLI and class of prompt lengths, of the last two to four weeks; `began` is the first's time.

    A class that had no requests has no counts.
    """

    __slots__ = ("_before", "_before_began", "_counts", "_current_began")

    def __init__(self, now: float) -> None:
        self._current_began = self._before_began = now
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._before: dict[tuple[str, int], list[int]] = {}

    def __repr__(self) -> str:
        return f"<Observed {len(self._counts)} series>"

    @property
    def began(self) -> float:
        """When the first of what is still known was observed."""
        return self._before_began

    def turn(self, now: float) -> None:
        """Begin another generation where this one has lasted long enough."""
        if now - self._current_began >= GENERATION:
            self._before, self._counts = self._counts, {}
            self._before_began, self._current_began = self._current_began, now

    def add(self, sli: str, step: int, seconds: float) -> None:
        """Count a latency of a prompt of this class of lengths, from 0."""
        key = (sli, step)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * (len(BOUNDS) + 1)
        counts[bucket_of(BOUNDS, seconds)] += 1

    def counts(self, sli: str) -> list[list[int]]:
        """Return the counts of an SLI, class by class, each with one count per bucket."""
        found = []
        for step in range(len(STEPS) + 1):
            both = [each.get((sli, step)) for each in (self._before, self._counts)]
            found.append([sum(pair) for pair in zip(*(each or _NONE for each in both), strict=True)])
        return found


_NONE: Final[list[int]] = [0] * (len(BOUNDS) + 1)


def step_of(prompt_tokens: int) -> int:
    """Return the class of prompts of this length, from 0."""
    return bisect_right(STEPS, prompt_tokens)
