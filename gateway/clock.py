"""Time as an argument: whatever measures or decides is handed a clock and never reads one itself."""

import asyncio
import time
from collections.abc import Callable
from math import ceil, isfinite
from typing import Any, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns seconds as a float; only differences between two readings of one clock mean anything."""

monotonic: Clock = time.monotonic
"""The clock for durations and deadlines: it never jumps when the wall clock is set."""

wall: Clock = time.time
"""Seconds since the epoch, for what people read (log lines, audit records); never for durations."""


def until_next(now: float, interval: float, turn: float = 0.0) -> float:
    """Return the seconds until something is done again that is done every `interval` seconds, at least half of them.

    It is done `turn` seconds after a multiple of the interval. What has one turn is done in one go: each time that the
    process wakes up costs, and more than most of what it then does.
    """
    earliest = now + interval / 2
    return ceil((earliest - turn) / interval) * interval + turn - now


async def next_turn(interval: float) -> None:
    """Sleep until the next multiple of an interval, in seconds: all that is done as often wakes the process once."""
    await asyncio.sleep(until_next(monotonic(), interval))


def past(stored: Any, now: float) -> float:
    """Return a stored time of something that has happened, in seconds since the epoch, 0.0 where it has not.

    A clock that was wrong may have written any number: what lies ahead, or is no time at all, is now. Raises TypeError
    or ValueError for what is no number.
    """
    try:
        seconds = float(stored)
    except OverflowError:
        return now
    return min(seconds, now) if isfinite(seconds) and seconds >= 0.0 else now
