"""Objectives proposed from what was observed: thresholds with headroom, and what they would have cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

from gateway.policy.slo.burn import Counts, burn
from gateway.policy.slo.observed import BOUNDS, STEPS

FEWEST_LATE: Final = 5
"""Events above a quantile from which it is more than chance."""
ALIKE: Final = 1.25
"""How many times a threshold for longer prompts may be the one before it, and still be the same."""
TARGETS: Final[tuple[float, ...]] = (0.9999, 0.9995, 0.999, 0.995, 0.99, 0.98, 0.95)
"""Availabilities that can be proposed, the strictest first."""


@dataclass(frozen=True, slots=True)
class Step:
    """A threshold in seconds for prompts from so many tokens on; `quantile` is what was observed at the target."""

    prompt_tokens: int
    under: float
    quantile: float
    events: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A target for one SLI, a ratio; `counts` are good and bad events as it would have judged them.

    Without `steps` it has no thresholds: availability.
    """

    sli: str
    target: float
    counts: Counts
    steps: tuple[Step, ...] = ()

    @property
    def burn(self) -> float:
        """The burn rate that it would have had."""
        return burn(self.counts, 1.0 - self.target) or 0.0


@dataclass(frozen=True, slots=True)
class TooFew:
    """There are too few events of an SLI to propose a target: `needed` at least, 0 where more would not help."""

    sli: str
    events: int
    needed: int


def fewest(target: float) -> int:
    """Return how many events it takes to propose a threshold for a target: 500 at 99 %."""
    return ceil(FEWEST_LATE / (1.0 - target) - 1e-6)


def latency(
    sli: str, counts: Sequence[Sequence[int]], target: float, headroom: float, *, by_length: bool
) -> Suggestion | TooFew:
    """Return thresholds for a latency, by classes of prompt lengths where these make a difference and are allowed.

    A class with too few events is put together with the shorter ones next to it, and the shortest with longer ones; so
    are classes whose thresholds are about the same. A threshold is never lower for longer prompts. `headroom` is a
    share of what was observed, 0.25 for a quarter more.
    """
    needed, events = fewest(target), sum(map(sum, counts))
    if events < needed:
        return TooFew(sli, events, needed)
    groups = _groups(counts, needed) if by_length else [(0, _added(counts))]
    found: list[tuple[int, float, list[int]]] = []
    for start, group in groups:
        under = rounded_up(quantile(group, target) * (1.0 + headroom))
        if found and under <= found[-1][1] * ALIKE:
            first, before, shorter = found.pop()
            found.append((first, max(under, before), _added([shorter, group])))
        else:
            found.append((start, under, group))
    steps = tuple(Step(start, under, quantile(group, target), sum(group)) for start, under, group in found)
    late = sum(above(group, under) for _, under, group in found)
    return Suggestion(sli, target, Counts(events - late, late), steps)


def availability(sli: str, counts: Counts, headroom: float) -> Suggestion | TooFew:
    """Return the strictest availability that would have kept its budget with headroom."""
    needed = fewest(TARGETS[-1])
    if counts.total < needed:
        return TooFew(sli, counts.total, needed)
    for target in TARGETS:
        if counts.total >= fewest(target) and (burn(counts, 1.0 - target) or 0.0) * (1.0 + headroom) <= 1.0:
            return Suggestion(sli, target, counts)
    return TooFew(sli, counts.total, 0)


def quantile(counts: Sequence[int], share: float) -> float:
    """Return about the seconds below which a share of the events lie, interpolated in its bucket."""
    wanted, below = share * sum(counts), 0
    for place, bound in enumerate(BOUNDS):
        inside = counts[place]
        if inside and below + inside >= wanted:
            low = BOUNDS[place - 1] if place else 0.0
            return low + (bound - low) * max(0.0, wanted - below) / inside
        below += inside
    return BOUNDS[-1]


def above(counts: Sequence[int], seconds: float) -> int:
    """Return about how many events took longer, interpolated in their bucket and rounded up."""
    found, low = 0.0, 0.0
    for place, bound in enumerate(BOUNDS):
        if bound > seconds:
            found += counts[place] * min(1.0, (bound - seconds) / (bound - low))
        low = bound
    return ceil(found + counts[-1] - 1e-9)


def rounded_up(seconds: float) -> float:
    """Return a threshold as people write it: two digits, in whole milliseconds, not below the value."""
    unit = 10.0 ** max(-3, floor(log10(seconds)) - 1)
    return round(ceil(seconds / unit - 1e-9) * unit, 3)


def _groups(counts: Sequence[Sequence[int]], needed: int) -> list[tuple[int, list[int]]]:
    """Return classes with enough events, shortest first: (prompt tokens from which each begins, its counts)."""
    found: list[tuple[int, list[int]]] = []
    gathered: list[Sequence[int]] = []
    for place in range(len(counts) - 1, -1, -1):
        gathered.append(counts[place])
        if sum(map(sum, gathered)) >= needed:
            found.append((STEPS[place - 1] if place else 0, _added(gathered)))
            gathered = []
    if gathered:
        _, last = found.pop()
        found.append((0, _added([last, *gathered])))
    return found[::-1]


def _added(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(each) for each in zip(*counts, strict=True)]
