"""Holding deadlines, by a process that may have paused itself."""

import asyncio

import pytest

from gateway.control.sweep import sweep
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_after_a_pause_of_its_own_nobody_is_judged_before_what_came_is_read() -> None:
    now, checked = [100.0], list[float]()

    class Connection:
        def check(self, at: float) -> None:
            checked.append(at)

    reads = iter([100.0, 100.01, 125.0])

    def clock() -> float:
        now[0] = next(reads, now[0] + 0.01)
        return now[0]

    sweeping = asyncio.create_task(sweep(lambda: [Connection()], clock, 0.01))
    await eventually(lambda: len(checked) >= 3)
    sweeping.cancel()
    assert checked[0] == 100.01
    assert 125.0 not in checked
    assert checked[1] > 125.0
