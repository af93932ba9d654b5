"""The tour goes through its steps, and says honestly what happened."""

import asyncio

import httpx
import pytest

from gateway.cli.demo.tour.findings import Finding, Moments
from gateway.cli.demo.tour.steps import Step
from gateway.cli.demo.tour.telling import Telling
from gateway.cli.demo.watch import Watch
from tests.waiting import DEADLINE, HandClock

pytestmark = pytest.mark.anyio


class Stage:
    """A gateway that measures nothing, read every second of a clock that the test moves; what is said and done."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: list[str] = []
        self.clock = HandClock()
        transport = httpx.MockTransport(lambda _: httpx.Response(200))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")
        self.watch = Watch(self.client, rollout=False, clock=self.clock)

    def step(self, title: str, *, after: float, within: float = 20.0) -> Step:
        """A step that has happened after so many seconds."""

        async def begin() -> None:
            self.done.append(f"begin {title}")

        async def end() -> None:
            self.done.append(f"end {title}")

        def look(moments: Moments) -> Finding:
            seconds = moments[-1].at - moments[0].at
            return Finding(happened=seconds >= after, words=f"It is {seconds:g} now.")

        return Step(title, f"{title} will be.", look, within, begin, end)

    def telling(self, *steps: Step) -> Telling:
        return Telling(steps, self.watch, head=lambda text: self.lines.append(f"# {text}"), say=self.lines.append)

    async def tell(self, telling: Telling, *, seconds: float = 1000.0) -> None:
        """Tell until the end, or until so many seconds are over."""
        async with self.client, asyncio.timeout(DEADLINE):
            task = asyncio.create_task(telling.tell())
            until = self.clock.now + seconds
            while not task.done() and self.clock.now < until:
                await asyncio.sleep(0)
                self.clock.advance(1.0)
                await self.watch.read()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_each_step_is_announced_done_awaited_and_told() -> None:
    stage = Stage()
    telling = stage.telling(stage.step("Rain", after=5), stage.step("Sun", after=1))

    await stage.tell(telling)

    assert stage.lines == [
        "# 1/2  Rain",
        "Rain will be.",
        "After 5 s: It is 5 now.",
        "# 2/2  Sun",
        "Sun will be.",
        "After 1 s: It is 1 now.",
        "# All 2 steps happened as told.",
    ]
    assert stage.done == ["begin Rain", "end Rain", "begin Sun", "end Sun"]
    assert telling.problem() == ""


async def test_what_does_not_happen_in_time_is_said_and_the_tour_goes_on() -> None:
    stage = Stage()
    telling = stage.telling(stage.step("Rain", after=99), stage.step("Sun", after=1))

    await stage.tell(telling)

    assert stage.lines[2:4] == ["This did not happen within 20 s: It is 20 now.", "# 2/2  Sun"]
    assert stage.lines[-1] == "# did not happen as told: Rain"
    assert stage.done == ["begin Rain", "end Rain", "begin Sun", "end Sun"]
    assert telling.problem() == telling.problem(interrupted=True) == "did not happen as told: Rain"


async def test_a_tour_that_is_cut_off_has_not_told_everything() -> None:
    stage = Stage()
    telling = stage.telling(stage.step("Rain", after=5), stage.step("Sun", after=50, within=60))

    await stage.tell(telling, seconds=30.0)

    assert telling.problem() == (
        "the time was over in step 2 of 2 (Sun): the tour takes about two minutes, and --quiet leaves it out"
    )
    assert telling.problem(interrupted=True) == ""
