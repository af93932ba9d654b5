"""Time as an argument: whatever measures or decides is handed a clock and never reads one itself."""

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns seconds as a float; only differences between two readings of one clock mean anything."""

monotonic: Clock = time.monotonic
"""The clock for durations and deadlines: it never jumps when the wall clock is set."""

wall: Clock = time.time
"""Seconds since the epoch, for what people read (log lines, audit records); never for durations."""
