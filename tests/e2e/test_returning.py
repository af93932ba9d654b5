"""Engines that were away for a moment, such as those that restart: they come back into service."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.policy.routing.ejection import State
from gateway.policy.routing.pool_state import SHORT
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, FakeBackend, backends, chunked, event
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.test_silence import STEP, pass_slowly
from tests.waiting import DEADLINE, HandClock, eventually

pytestmark = pytest.mark.anyio


class Paced:
    """An engine that takes so many seconds for its second token; more than the usual objective allows."""

    def __init__(self, clock: HandClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.running: Running | None = None

    async def __call__(self, call: Call) -> None:
        assert self.running is not None
        registry = self.running.app.data.registry
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
        await eventually(lambda: all(backend.health.latency.unbegun == 0 for backend in registry))
        self.clock.advance(self.seconds)
        await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)


class Held:
    """An engine that gives the first token, and the rest when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
        await self.go_on.wait()
        await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)


async def all_have_worked(running: Running) -> None:
    async with asyncio.timeout(DEADLINE):
        while not all(backend.health.activity.has_worked for backend in running.app.data.registry):
            assert (await ask(running.port, chat())).complete
    running.app.control.outlier_detector.detect()


async def restarts(running: Running, fake: FakeBackend) -> None:
    """Let it be away until that is known, and be back."""
    backend = running.backend()
    await fake.stop()
    await eventually(lambda: not backend.readiness.eligible)
    running.app.control.outlier_detector.detect()
    await fake.start()
    await eventually(lambda: backend.readiness.eligible)
    running.app.control.outlier_detector.detect()
    assert backend.health.outlier.ejection.state is State.HALF_OPEN


@pytest.mark.parametrize("times", [1, 3], ids=["as slow as its peer", "three times slower than its peer"])
async def test_one_that_restarts_is_measured_by_its_peers_where_all_miss_the_objective(
    tmp_path: Path, times: int
) -> None:
    clock = HandClock()
    engines = [Paced(clock, 0.3), Paced(clock, 0.3)]
    async with backends(*engines) as fakes:
        async with gateway(tmp_path, routes(*(fake.url for fake in fakes)), now=clock) as running:
            for engine in engines:
                engine.running = running
            await all_have_worked(running)
            await restarts(running, fakes[0])
            engines[0].seconds *= times
            sick = running.backend().health
            async with asyncio.timeout(DEADLINE):  # a request during which this process was late says nothing
                while sick.outlier.ejection.state is State.HALF_OPEN:
                    assert (await ask(running.port, chat())).complete
                    await running.quiet()
            assert sick.outlier.ejection.state is (State.SLOW_START if times == 1 else State.EJECTED)


async def test_one_that_restarts_serves_beside_its_first_long_answer_where_its_peer_is_full(tmp_path: Path) -> None:
    clock, held = HandClock(), Held()
    async with backends(held, held) as fakes:
        slots = [{"url": fakes[0].url, "max_concurrency": 4}, {"url": fakes[1].url, "max_concurrency": 1}]
        text = json.dumps({"models": {"m": {"backends": slots}}})
        async with gateway(tmp_path, text, now=clock) as running:
            held.go_on.set()
            await all_have_worked(running)
            await restarts(running, fakes[0])
            held.go_on.clear()
            await pass_slowly(clock, running, STEP)
            asking = [asyncio.create_task(ask(running.port, chat())) for _ in range(4)]
            await eventually(lambda: (running.in_flight, running.waiting) == (2, 2))
            await eventually(lambda: all(backend.health.latency.unbegun == 0 for backend in running.app.data.registry))
            for _ in range(int(SHORT / STEP) + 2):
                await pass_slowly(clock, running, STEP)
                running.app.control.outlier_detector.detect()
            await eventually(lambda: (running.in_flight, running.waiting) == (4, 0))
            assert running.backend().in_flight == 3
            held.go_on.set()
            assert all(answer.complete for answer in await asyncio.gather(*asking))
            await running.quiet()
