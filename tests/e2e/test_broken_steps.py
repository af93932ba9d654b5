"""A fault in the gateway's own code, wherever a request is at that moment, ends the request by an answer."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.exchange import ANSWERED, AttemptEnd, Outcome
from gateway.policy.routing.choose import choose
from tests.e2e.fakes import Call, backends, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio


async def fails(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", b"{}"))


def break_choosing(running: Running, good_for: int) -> None:
    """Have the chooser that requests are handed raise after so many choices."""
    left = [good_for]

    def chosen(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("chosen badly")
        return choose(*given)

    running.app.data.gateway._context.choose = chosen


class Breaking:
    """A transport whose writes break after so many."""

    def __init__(self, transport: asyncio.Transport, good_for: int) -> None:
        self._transport = transport
        self._left = good_for

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("not written")
        self._transport.write(data)


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
        async with asyncio.timeout(DEADLINE):
            answer = await ask(running.port, body)
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
        assert (await running.settled()).outcome is Outcome.INTERNAL
        await running.quiet()


@pytest.mark.parametrize("good_for", [1, 2, 4])
async def test_a_long_body_that_cannot_be_written_to_its_end_is_told(tmp_path: Path, good_for: int) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(stream=False))).status == 200
        (upstream,) = running.backend().pool.idle_connections._connections
        upstream.transport = cast(asyncio.Transport, Breaking(upstream.transport, good_for))
        answer = await ask(running.port, chat(stream=False, padding="x" * 1_000_000))
        assert (answer.status, "its log says why" in answer.json["error"]["message"]) == (502, True)
        assert [end for _, end in running.records.attempts] == [ANSWERED, AttemptEnd.MALFORMED]
        await running.settled(2)
        assert (await ask(running.port, chat(stream=False, padding="x" * 1_000_000))).status == 200
