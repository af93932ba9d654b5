"""When each engine is asked: each at a moment of its own, so that a turn of the event loop asks few."""

from math import ceil
from zlib import crc32

LONGEST = 4
"""Seconds of the longest interval."""
PER_SECOND = 64
"""Engines that are asked in one second for what takes long to read."""


def stretch(backends: int) -> int:
    """Return in how many seconds each of so many engines is asked once for what takes long to read."""
    return min(LONGEST, max(1, ceil(backends / PER_SECOND)))


def turn(backend_id: str) -> float:
    """Return when an engine is asked, in seconds from 0 to LONGEST: spread evenly, the same in every process."""
    return crc32(backend_id.encode()) / 2**32 * LONGEST


def until_next(now: float, interval: float, turn: float) -> float:
    """Return the seconds until an engine is asked again, at least half an interval.

    It is asked every `interval` seconds, `turn` seconds after a multiple of it.
    """
    earliest = now + interval / 2
    return ceil((earliest - turn) / interval) * interval + turn - now
