"""Whether to let a request wait, and what to tell whoever may not."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, sqrt

from gateway.policy.admission.classes import ServiceClass

CAPACITY = 10_000
"""Requests that one queue holds."""
LONGEST_RETRY_AFTER = 60
ESCALATION = 15.0
"""Seconds that a model must go on burning before the next class is turned away too, and be well before one returns."""


class Shed(StrEnum):
    """Why a request was turned away: the closed set of the `reason` label."""

    FULL = "queue_full"
    HOPELESS = "predicted_wait"
    WAITED = "waited_too_long"
    BUDGET = "error_budget"
    PUSHED_OUT = "pushed_out"


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A request turned away: why, the wait that was predicted (seconds), and after how many seconds to come again."""

    why: Shed
    predicted_wait: float
    retry_after: int


def predicted_wait(ahead: int, rate: float) -> float:
    """Return how long the next free slot after `ahead` others takes, at `rate` slots a second; 0.0 while unknown."""
    return (ahead + 1) / rate if rate > 0 else 0.0


def longest_wait(ahead: int, rate: float) -> float:
    """Return a wait that hardly any exceeds: the mean and three standard deviations, slots coming free at random."""
    turns = ahead + 1
    return (turns + 3 * sqrt(turns)) / rate if rate > 0 else 0.0


def decide(service_class: ServiceClass, *, wait: float, patience: float, chance: float) -> TurnedAway | None:
    """Return None to let a request wait, or why not.

    `wait` is the longest to be feared, `patience` what is left of the request's own time, in seconds; `chance`, from 0
    to below 1, spreads out when the refused come again.
    """
    return refusal(Shed.HOPELESS, wait, chance) if wait > min(service_class.max_queue_wait, patience) else None


def refusal(why: Shed, wait: float, chance: float) -> TurnedAway:
    """Return a refusal that asks to come again when the queue has drained, give or take a half."""
    return TurnedAway(why, wait, max(1, min(LONGEST_RETRY_AFTER, ceil(wait * (0.5 + chance)))))


class Shedding:
    """Which classes of one model are turned away because it misses its promise at page rate: `away`, by name.

    The sheddable ones first, then the others from the lowest up; the highest never. One step up while the model burns,
    one step down while it does not.
    """

    __slots__ = ("_level", "_since", "away")

    def __init__(self) -> None:
        self.away: frozenset[str] = frozenset()
        self._level = 0
        self._since = float("-inf")

    def __repr__(self) -> str:
        return f"<Shedding {' '.join(sorted(self.away)) or 'nobody'}>"

    def tick(self, classes: Iterable[ServiceClass], now: float, *, burning: bool) -> None:
        """Take whether the model burns at page rate now (seconds)."""
        if now - self._since < ESCALATION:
            return
        steps = _steps(classes)
        level = min(len(steps), self._level + 1) if burning else max(0, self._level - 1)
        if level != self._level:
            self._level, self._since = level, now
        self.away = frozenset().union(*steps[: self._level])


def _steps(classes: Iterable[ServiceClass]) -> list[frozenset[str]]:
    lowest_first = sorted(classes, key=lambda each: each.priority, reverse=True)[:-1]
    sheddable = frozenset(each.name for each in lowest_first if each.sheddable)
    others = [frozenset({each.name}) for each in lowest_first if not each.sheddable]
    return [sheddable, *others] if sheddable else others
