"""What tests save: counts of one process each, so that what is saved one after the other adds up."""

from itertools import count
from typing import Any

from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import LASTING
from gateway.state.store import Batch

_processes = count()


def slots(series: SeriesKey, good: int, bad: int, at: float) -> tuple[SlotCounts, ...]:
    """Return what a process that counted this at one moment saves of it."""
    return tuple(SlotCounts(series, width, int(at // width), good, bad, at, at) for width in LASTING)


def batch(at: float, *counted: tuple[SeriesKey, int, int, float], **more: Any) -> Batch:
    """Return a batch of a process that counted nothing before: (series, good, bad, when) each."""
    found = tuple(slot for each in counted for slot in slots(*each))
    return Batch(at, found, **more, incarnation=f"process {next(_processes)}")
