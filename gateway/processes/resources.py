"""What a process may hold, and how often Python looks for garbage in it."""

import contextlib
import gc
import resource
import sys

_YOUNG, _MIDDLE, _OLD = 4_000, 4, 1_250
"""When the garbage collector comes. Requests leave it nothing, libraries do, and a reload makes many that stay: so many
young objects are looked through in less than a millisecond, and those that survived four times, in a few.
"""
_HAND_OVER = 0.0005


def collect_seldom() -> None:
    """Keep the garbage collector from what the process has at its start, and from coming all the time."""
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def hand_over_soon() -> None:
    """Have threads that work hand the interpreter back to the event loop within half a millisecond, not within five."""
    sys.setswitchinterval(_HAND_OVER)


def raise_descriptor_limit() -> None:
    """Take the descriptors that the system allows: each stream holds two, and 1024 is a common default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
