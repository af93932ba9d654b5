"""When each engine is asked: spread over the second, but some of them together.

Each time that the process wakes up costs, so it is not woken for every single engine.
"""

from math import ceil
from zlib import crc32

LONGEST = 4
"""Seconds of the longest interval."""
PER_SECOND = 32
"""Engines that are asked in one second for what takes long to read."""
TOGETHER = 16
"""Engines that are asked at one moment, about."""
MOMENTS = 64
"""Moments of each second, at most."""


def stretch(backends: int) -> int:
    """Return in how many seconds each of so many engines is asked once for what takes long to read."""
    return min(LONGEST, max(1, ceil(backends / PER_SECOND)))


def turn(backend_id: str, backends: int) -> float:
    """Return when one of so many engines is asked, in seconds from 0 to LONGEST; it is the same in every process."""
    moments = LONGEST * min(MOMENTS, max(1, ceil(backends / TOGETHER)))
    return crc32(backend_id.encode()) * moments // 2**32 * LONGEST / moments
