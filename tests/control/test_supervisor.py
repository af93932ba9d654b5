"""A loop that breaks starts again, and says so."""

import asyncio

import pytest

from gateway.control.supervisor import Supervisor
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_loop_that_breaks_or_returns_starts_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.control.supervisor.PAUSE", 0.001)
    begun = {"broken": 0, "short": 0, "good": 0}

    async def broken() -> None:
        begun["broken"] += 1
        raise RuntimeError("no loop")

    async def short() -> None:
        begun["short"] += 1

    async def good() -> None:
        begun["good"] += 1
        await asyncio.Event().wait()

    supervisor = Supervisor()
    for name, loop in (("broken", broken), ("short", short), ("good", good)):
        supervisor.start(name, loop)
    await eventually(lambda: begun["broken"] > 2 and begun["short"] > 2)
    await supervisor.close()
    assert begun["good"] == 1
    assert {vars(record)["loop"] for record in caplog.records} == {"broken"}
    assert "no loop" in caplog.text
    assert not [task for task in asyncio.all_tasks() if task.get_name() in begun]
