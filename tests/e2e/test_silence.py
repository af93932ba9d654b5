"""Streams that are silent for long, of engines that work: hidden reasoning, arguments of a tool, long prompts."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, FakeBackend, backends, chunked, event, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
STEP = 0.8
"""Seconds that the clock moves at once: so little is no pause of the gateway."""


async def pass_slowly(clock: HandClock, running: Running, seconds: float) -> None:
    """Let time pass in which the gateway looks at its deadlines all the while."""
    lateness = running.app.data.registry.lateness
    until = clock() + seconds
    while clock() < until:
        beat = lateness._beat
        clock.advance(STEP)
        await eventually(lambda beat=beat: lateness._beat != beat)  # type: ignore[misc]


class Silent:
    """An engine that is silent to large requests until it is told to go on, and answers small ones at once."""

    def __init__(self, *, begins: bool) -> None:
        self.begins = begins
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if b"large" not in call.body:
            await good(call)
            return
        if self.begins:
            await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
            await self.go_on.wait()
            await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)
            return
        await call.send(STREAM_HEAD, chunked(ROLE))
        await self.go_on.wait()
        await call.send(chunked(event("x"), event("y", "stop"), DONE) + LAST_CHUNK)


def defaults(url: str) -> str:
    """Routes without a timeout of their own."""
    return json.dumps({"models": {"m": {"backends": [url]}}})


LARGE = chat(messages=[{"role": "user", "content": "large"}])
Sign = Callable[[Running, FakeBackend, int], Awaitable[None]]


async def answers_others(running: Running, _fake: FakeBackend, _turn: int) -> None:
    assert (await ask(running.port, chat())).complete


async def says_that_it_works(running: Running, fake: FakeBackend, turn: int) -> None:
    before = running.backend().engine.progressed
    fake.metrics = b"vllm:num_requests_running 1\nvllm:generation_tokens_total %d\n" % (100 * turn)
    await eventually(lambda: running.backend().engine.progressed > before)


@pytest.mark.parametrize("begins", [True, False], ids=["between two tokens", "before the first token"])
@pytest.mark.parametrize("sign", [answers_others, says_that_it_works])
async def test_a_silent_stream_goes_on_while_its_engine_works(tmp_path: Path, sign: Sign, begins: bool) -> None:
    clock, silent = HandClock(), Silent(begins=begins)
    async with backends(silent) as (fake,):
        fake.metrics = b"vllm:num_requests_running 0\nvllm:generation_tokens_total 0\n"
        async with gateway(tmp_path, defaults(fake.url), now=clock) as running:
            await eventually(lambda: running.backend().engine.metrics is not None)
            asking = asyncio.create_task(ask(running.port, LARGE))
            await eventually(lambda: bool(fake.calls))
            for turn in range(1, 4):
                await sign(running, fake, turn)
                await pass_slowly(clock, running, 15.0)
            assert not asking.done()
            silent.go_on.set()
            assert (await asking).complete
            await running.quiet()
            assert {end for _, end in running.records.attempts} == {AttemptEnd.OK}
            assert running.backend().health.symptoms.failures == 0


@pytest.mark.parametrize("begins", [True, False], ids=["between two tokens", "before the first token"])
async def test_a_stream_of_an_engine_that_is_silent_to_all_ends(tmp_path: Path, begins: bool) -> None:
    clock, silent = HandClock(), Silent(begins=begins)
    async with backends(silent) as (fake,):
        fake.metrics = b"vllm:num_requests_running 1\nvllm:generation_tokens_total 5\n"
        async with gateway(tmp_path, defaults(fake.url), now=clock) as running:
            asking = asyncio.create_task(ask(running.port, LARGE))
            await eventually(lambda: bool(fake.calls))
            await pass_slowly(clock, running, 32.0)
            answer = await asking
            assert (answer.status, answer.complete) == (200, False), "a head with comments was sent meanwhile"
            await running.settled()
            expected = AttemptEnd.STALLED if begins else AttemptEnd.FIRST_TOKEN_TIMEOUT
            assert [end for _, end in running.records.attempts] == [expected]
            silent.go_on.set()
