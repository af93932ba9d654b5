"""What a rollout is to be like, as the routes say it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LAST: Final = 95.0
"""Per cent of the last step: without stable's traffic nothing could be compared."""
LADDER = (1.0, 5.0, 25.0, 50.0, LAST)
"""Steps of `auto`, in per cent; the first one is chosen by the traffic seen."""
WIDEST_FIRST: Final = 50.0
"""The first step of `auto` where no smaller one shows enough soon enough."""
LEAST_MAX_HOLD: Final = 7200.0
TIMES_PREDICTED: Final = 8.0
FREEZE_BELOW: Final = 0.10
"""The share of an error budget below which no rollout starts."""


class OnStall(StrEnum):
    """What happens to a step that may not end when it has lasted longest."""

    PAUSE = "pause"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Plan:
    """From `stable` to `candidate` in `steps` (per cent, ascending; none: by the traffic seen).

    A step is held for `hold` seconds, the last one for `last_hold`, and none longer than `max_hold` (None: eight times
    what was predicted, at least two hours). `margin` is the extra burn that the next step may cost the model at worst;
    `mirror` is in per cent; `freeze_below` and `pause_below` are ratios of the error budget. Latencies of a backend
    count from its `warm_up`-th answer on and `warm_up_time` seconds after its first. `fingerprint` tells one definition
    of the candidate from another: a candidate that was rolled back stays out until it changes.
    """

    stable: str
    candidate: str
    steps: tuple[float, ...] = ()
    hold: float = 600.0
    last_hold: float = 3600.0
    min_requests: int = 20
    max_hold: float | None = None
    on_stall: OnStall = OnStall.PAUSE
    mirror: float = 0.0
    manual: bool = False
    margin: float = 1.0
    warm_up: int = 20
    warm_up_time: float = 60.0
    freeze_below: float = FREEZE_BELOW
    pause_below: float = 0.05
    fingerprint: str = ""

    @property
    def is_auto(self) -> bool:
        """Whether the first step depends on the traffic."""
        return not self.steps

    @property
    def shares(self) -> tuple[float, ...]:
        """The steps as they are walked, in per cent; the last is always 95."""
        return LADDER if self.is_auto else walked(self.steps)

    def place(self, share: float) -> int:
        """Return the step, from 0, that a share belongs to: the highest that is not above it."""
        return max(0, sum(step <= share for step in self.shares) - 1)

    def after(self, share: float) -> float:
        """Return the share after this one, in per cent; 100 after the last step."""
        return next((step for step in self.shares if step > share), 100.0)

    def held_for(self, share: float) -> float:
        """Return how long a step is held at least, in seconds."""
        return max(self.hold, self.last_hold) if self.after(share) == 100.0 else self.hold

    def longest(self, predicted: float) -> float:
        """Return how long a step that was predicted to take so many seconds may last."""
        if self.max_hold is not None:
            return self.max_hold
        return max(LEAST_MAX_HOLD, TIMES_PREDICTED * predicted)


def walked(steps: Iterable[float]) -> tuple[float, ...]:
    """Return explicit steps as they are walked: what is above 95 % becomes 95 %, and the last step always is."""
    return (*(step for step in steps if step < LAST), LAST)
