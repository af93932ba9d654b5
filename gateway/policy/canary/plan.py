"""What a rollout is to be like, as the routes say it."""

from dataclasses import dataclass
from enum import StrEnum


class OnStall(StrEnum):
    """What happens to a step that may not end when it has lasted longest."""

    PAUSE = "pause"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Plan:
    """From `stable` to `candidate` in `steps` (per cent, ascending), each held for `hold` to `max_hold` seconds.

    `mirror` is in per cent; `margin`, `freeze_below` and `pause_below` are ratios. `fingerprint` tells one definition
    of the candidate from another: a candidate that was rolled back stays out until it changes.
    """

    stable: str
    candidate: str
    steps: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 100.0)
    hold: float = 600.0
    min_requests: int = 200
    max_hold: float = 7200.0
    on_stall: OnStall = OnStall.PAUSE
    mirror: float = 0.0
    manual: bool = False
    margin: float = 0.02
    warm_up: int = 20
    freeze_below: float = 0.10
    pause_below: float = 0.05
    fingerprint: str = ""
