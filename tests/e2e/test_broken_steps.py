"""A fault in the gateway's own code, wherever a request is at that moment, ends the request by an answer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Outcome
from gateway.policy.routing.choose import choose
from tests.e2e.fakes import Call, backends, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, routes

pytestmark = pytest.mark.anyio


async def fails(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", b"{}"))


def break_choosing(running: Running, good_for: int) -> None:
    """Have the chooser that flights are handed raise after so many choices."""
    left = [good_for]

    def chosen(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("chosen badly")
        return choose(*given)

    running.app.gateway._tools.choose = chosen


@pytest.mark.parametrize(
    ("script", "good_for", "body"),
    [(good, 0, chat()), (fails, 1, chat()), (good, 0, chat(padding="x" * 200_000))],
    ids=["at once", "after the pause before a retry", "after a long body was read"],
)
async def test_it_is_told_that_the_gateway_failed(tmp_path: Path, script: Any, good_for: int, body: Any) -> None:
    async with (
        backends(script, script, script) as fakes,
        gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running,
    ):
        break_choosing(running, good_for)
        async with asyncio.timeout(10.0):
            answer = await ask(running.port, body)
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
        assert (await running.settled()).outcome is Outcome.INTERNAL
        await running.quiet()
