"""Holding deadlines, by a process that may have paused itself."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from gateway.control.sweep import sweep
from gateway.errors import GatewayError
from gateway.lateness import Lateness
from gateway.wire.slices import Slices
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Connection:
    def __init__(self, breaks: bool = False) -> None:
        self.checked: list[float] = []
        self.ended: list[str] = []
        self._breaks = breaks

    def check(self, now: float) -> None:
        self.checked.append(now)
        if self._breaks:
            raise RuntimeError("broken")

    def give_up(self, error: GatewayError) -> None:
        self.ended.append(error.message)


async def swept(reads: Iterator[float], checks: int) -> tuple[list[float], Lateness]:
    """Sweep by a clock that is read at these times, until so many checks were made."""
    connection, lateness, last = Connection(), Lateness(), [0.0]

    def clock() -> float:
        last[0] = next(reads, last[0] + 0.01)
        return last[0]

    sweeping = asyncio.create_task(sweep(lambda: [[connection]], clock, lateness, Slices(time.monotonic), 0.01))
    await eventually(lambda: len(connection.checked) >= checks)
    sweeping.cancel()
    return connection.checked, lateness


async def test_after_a_pause_of_its_own_nobody_is_judged_before_what_came_is_read() -> None:
    checked, lateness = await swept(iter([100.0, 100.01, 125.0, 125.02]), 2)
    assert checked[:2] == [100.01, 125.02]
    assert (lateness.times, lateness.excuse(0.0, 125.02)) == (1, pytest.approx(24.9))


async def test_a_process_that_is_late_in_every_sweep_judges_all_the_same() -> None:
    checked, lateness = await swept(iter([100.0 + 2 * turn for turn in range(100)]), 10)
    assert len(checked) >= 10
    assert lateness.times >= 5


async def test_one_that_cannot_be_checked_is_ended_and_the_others_are_checked() -> None:
    broken, well = Connection(breaks=True), Connection()
    sweeping = asyncio.create_task(
        sweep(lambda: [[broken, well]], lambda: 0.0, Lateness(), Slices(time.monotonic), 0.01)
    )
    await eventually(lambda: bool(well.checked))
    sweeping.cancel()
    assert broken.ended[0] == "the gateway failed on this request; its log says why"
    assert not well.ended


async def test_one_that_closes_while_others_are_checked_is_left_alone() -> None:
    group: set[Connection] = set()

    class Closing(Connection):
        def check(self, now: float) -> None:
            super().check(now)
            group.clear()

    group.update(Closing() for _ in range(100))
    every = list(group)
    sweeping = asyncio.create_task(sweep(lambda: [group], lambda: 0.0, Lateness(), Slices(time.monotonic), 0.01))
    await eventually(lambda: not group)
    await asyncio.sleep(0)
    sweeping.cancel()
    assert sum(len(each.checked) for each in every) == 1
