"""Backends that come, go and come back: what they get, what the log says, and what a person is told."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.clock import Clock
from gateway.policy.routing.ejection import QUIET, State
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import JSON_ANSWER, Call, backends, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


class Ahead:
    """The clock of who judges backends, which may be set forward."""

    def __init__(self, running: Running) -> None:
        self._clock: Clock = running.app.control.outlier_detector._clock
        self._ahead = 0.0
        running.app.control.outlier_detector._clock = self

    def __call__(self) -> float:
        return self._clock() + self._ahead

    def jump(self, seconds: float) -> None:
        self._ahead += seconds


async def fails(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", JSON_ANSWER))


async def judged(running: Running, condition: Callable[[], bool]) -> None:
    """Wait for what probes find, and have the backends judged by it."""
    await eventually(condition)
    running.app.control.outlier_detector.detect()


def standings(running: Running) -> list[State]:
    return [backend.health.outlier.ejection.state for backend in running.app.data.registry]


async def test_engines_that_come_up_one_after_the_other_after_the_gateway_are_in_service(tmp_path: Path) -> None:
    async with backends(good, good) as fakes:
        for fake in fakes:
            fake.health = b"503 Service Unavailable"
        async with gateway(tmp_path, routes(*(fake.url for fake in fakes)), wait_ready=False) as running:
            await judged(running, lambda: not any(each.readiness.eligible for each in running.app.data.registry))
            for index, fake in enumerate(fakes):
                fake.health = b"200 OK"
                await running.ready(index)
                running.app.control.outlier_detector.detect()
            assert standings(running) == [State.IN_SERVICE] * 2
            assert "no problem found" in (await tidegate(running, "status")).stdout


async def test_half_open_on_a_service_that_falls_quiet_is_a_note_and_ends_by_time(tmp_path: Path) -> None:
    async with backends(fails, good) as fakes, gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running:
        clock = Ahead(running)
        sick = running.backend().health
        async with asyncio.timeout(DEADLINE):
            while sick.outlier.ejection.state is State.IN_SERVICE:
                assert (await ask(running.port, chat(stream=False))).status == 200
        assert "is ejected: 5 failures in a row" in (await tidegate(running, "status", status=1)).stdout

        clock.jump(sick.outlier.ejection.until - clock())
        running.app.control.outlier_detector.detect()
        told = (await tidegate(running, "status")).stdout
        assert "no problem found" in told
        assert f"note: {running.backend().id} is being tested with one request at a time" in told
        assert "it was ejected: 5 failures in a row" in told

        clock.jump(QUIET)
        running.app.control.outlier_detector.detect()
        assert standings(running) == [State.SLOW_START, State.IN_SERVICE]
        assert "note:" not in (await tidegate(running, "status")).stdout


async def test_one_that_could_not_be_reached_and_can_be_again_is_a_note(tmp_path: Path) -> None:
    async with backends(good, good) as fakes, gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running:
        async with asyncio.timeout(DEADLINE):
            while not all(each.health.activity.has_worked for each in running.app.data.registry):
                await ask(running.port, chat())
        await fakes[0].stop()
        await judged(running, lambda: not running.backend().readiness.eligible)
        await fakes[0].start()
        await judged(running, lambda: running.backend().readiness.eligible)
        told = (await tidegate(running, "status")).stdout
        assert "is being tested with one request at a time: it could not be reached, and can be again" in told


async def test_ejections_that_are_ignored_are_said_with_the_reason(tmp_path: Path) -> None:
    async with backends(fails, fails) as fakes, gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running:
        peers = running.backend().health.peers
        async with asyncio.timeout(DEADLINE):
            while not peers.panic:
                await ask(running.port, chat(stream=False))
                running.app.control.outlier_detector.detect()
        told = (await tidegate(running, "status", status=1)).stdout
        assert f"note: ejections in pool {peers.pool} are ignored: 2 of 2 backends are ejected, not ready or" in told
        assert "is ejected, but still gets requests: 5 failures in a row" in told
        assert "ejected (ignored)" in " ".join(told.split())


async def test_an_outage_is_logged_whoever_finds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        await fake.stop()
        async with asyncio.timeout(DEADLINE):
            while running.backend().readiness.eligible:
                await ask(running.port, chat())
        await fake.start()
        await running.ready()
        told = [
            (each.levelname, each.getMessage()) for each in caplog.records if each.name == "gateway.backends.backend"
        ]
        assert told == [("INFO", "backend ready"), ("WARNING", "backend not ready"), ("INFO", "backend ready")]
