"""What to tell a request that gets no slot, and why it gets none."""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

CAPACITY: Final = 10_000
"""Requests that one queue holds."""
LONGEST_RETRY_AFTER: Final = 60
HOLD_PAUSE: Final = 1.0
"""Seconds between two starts of requests that are held back."""


class Shed(StrEnum):
    """Why a request was turned away: the closed set of the `reason` label."""

    FULL = "queue_full"
    HOPELESS = "predicted_wait"
    WAITED = "waited_too_long"
    PUSHED_OUT = "pushed_out"


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A request turned away: why, after how many seconds to retry, and how long (seconds) it was ready to wait.

    `chance` bounds how likely it would have got a slot in that time; `ahead` is how many were before it.
    """

    why: Shed
    retry_after: int
    patience: float = 0.0
    chance: float = 0.0
    ahead: int = 0


def predicted_wait(ahead: int, rate: float) -> float:
    """Return how long the next free slot after `ahead` others takes, at `rate` slots a second; 0.0 while unknown."""
    return (ahead + 1) / rate if rate > 0 else 0.0


def retry_after(wait: float, chance: float) -> int:
    """Return when to retry: when the queue has drained, give or take a half, by a `chance` from 0 to below 1."""
    return max(1, min(LONGEST_RETRY_AFTER, ceil(wait * (0.5 + chance))))
