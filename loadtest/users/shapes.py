"""How many users there are when."""

import math
from collections.abc import Iterator

from loadtest.report.recording import Event

SHAPES = ("steady", "ramp", "burst", "flash", "diurnal", "replay")
_FLASH = (0.4, 0.7)
_FLASH_FACTOR = 10
_BURSTS = 5
_BURST_FACTOR = 4
_NIGHT = 0.2


def users(shape: str, at: float, seconds: float, peak: int) -> int:
    """Return the users at a moment of a run of `seconds`, 1 at least.

    `steady`: the peak all along. `ramp`: evenly up to it. `burst`: a quarter of it, and five times, for a tenth of the
    run each, all of it. `flash`: a tenth of it, and from 40 to 70 % of the run, at once, all of it. `diurnal`: a day
    from midnight to midnight, a fifth of it at night and all of it at noon.
    """
    done = at / seconds
    share = 1.0
    if shape == "ramp":
        share = done
    elif shape == "burst":
        share = 1.0 if int(done * 2 * _BURSTS) % 2 else 1 / _BURST_FACTOR
    elif shape == "flash":
        share = 1.0 if _FLASH[0] <= done < _FLASH[1] else 1 / _FLASH_FACTOR
    elif shape == "diurnal":
        share = _NIGHT + (1 - _NIGHT) * (1 - math.cos(2 * math.pi * done)) / 2
    return max(round(peak * share), 1)


def events(shape: str, seconds: float, peak: int) -> Iterator[Event]:
    """Yield the moments of a shape that a reader of a chart wants to see."""
    if shape == "flash":
        few = users(shape, 0.0, seconds, peak)
        yield Event(_FLASH[0] * seconds, f"flash crowd: {few} to {peak} users")
        yield Event(_FLASH[1] * seconds, f"flash crowd over: {few} users")
    elif shape == "burst":
        for number in range(_BURSTS):
            yield Event((2 * number + 1) / (2 * _BURSTS) * seconds, f"burst {number + 1}: {peak} users")
