"""Histogram bounds in seconds, as in OpenTelemetry's GenAI conventions and vLLM: edge and engine can be overlaid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.policy.slo.objective import Objective, Sli

if TYPE_CHECKING:
    from mypy_extensions import i64

TTFT: Final[tuple[float, ...]] = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
)
ITL: Final[tuple[float, ...]] = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
)
TPOT = ITL
DURATION: Final[tuple[float, ...]] = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    160.0,
    320.0,
    640.0,
)
OVERHEAD: Final[tuple[float, ...]] = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one model's histograms: the usual ones and every threshold that its objectives name."""

    ttft: tuple[float, ...] = TTFT
    itl: tuple[float, ...] = ITL
    tpot: tuple[float, ...] = TPOT
    duration: tuple[float, ...] = DURATION


def bounds_for(objectives: Sequence[Objective]) -> Bounds:
    """Return the bounds of a model with these objectives, so that no rule depends on a bucket that may not exist."""

    def merged(usual: tuple[float, ...], sli: Sli) -> tuple[float, ...]:
        targets = [objective.targets[sli] for objective in objectives if sli in objective.targets]
        return tuple(sorted({*usual, *(seconds for target in targets for seconds in target.thresholds)}))

    return Bounds(merged(TTFT, Sli.TTFT), merged(ITL, Sli.ITL), merged(TPOT, Sli.TPOT), merged(DURATION, Sli.E2E))


def bucket_of(bounds: tuple[float, ...], seconds: float) -> int:
    """Return the place of the first bound that is not below a value, as `bisect_left`: compiled, it takes a tenth."""
    low: i64 = 0
    high: i64 = len(bounds)
    while low < high:
        middle: i64 = (low + high) >> 1
        if bounds[middle] < seconds:
            low = middle + 1
        else:
            high = middle
    return low
