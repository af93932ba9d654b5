"""Long work shares the event loop."""

import asyncio
from collections.abc import Generator

import pytest

from gateway.wire.slices import SECONDS, Slices
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Ticking:
    """A clock by which each slice takes as long as all of them may in one turn."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def work(clock: Ticking, log: list[str], name: str, steps: int) -> Generator[None, None, str]:
    for _ in range(steps):
        clock.now += SECONDS
        log.append(name)
        yield
    return name


async def test_others_run_between_slices_and_jobs_take_turns() -> None:
    clock, log, done = Ticking(), list[str](), list[str]()
    slices = Slices(clock)

    def turn() -> None:
        log.append("turn")
        if len(done) < 2:
            asyncio.get_running_loop().call_soon(turn)

    for name in ("a", "b"):
        slices.start(work(clock, log, name, 3), done.append, lambda _: None)
    turn()
    await eventually(lambda: len(done) == 2)
    slow = [name for name in log if name != "turn"]
    assert slow == ["a", "b"] * 3
    assert all(log[at + 1] == "turn" for at, name in enumerate(log[:-1]) if name != "turn")


async def test_a_failure_is_told_and_a_cancelled_job_says_nothing() -> None:
    clock, log, told = Ticking(), list[str](), list[object]()
    slices = Slices(clock)

    def broken() -> Generator[None, None, str]:
        yield
        raise ValueError("no")

    cancelled = slices.start(work(clock, log, "c", 3), told.append, told.append)
    slices.start(broken(), told.append, told.append)
    cancelled.cancel()
    slices.start(work(clock, log, "d", 1), told.append, told.append)
    await eventually(lambda: len(told) == 2)
    assert [str(each) for each in told] == ["d", "no"] or [str(each) for each in told] == ["no", "d"]
    assert "c" not in log
