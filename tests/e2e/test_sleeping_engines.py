"""Engines in vLLM's sleep mode get no request until they are woken, once."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.sim.server import running as simulated
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.test_from_zero import ENGINE, asked, routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


async def test_no_request_reaches_an_engine_that_sleeps_and_one_wake_has_all_served(tmp_path: Path) -> None:
    settings = replace(ENGINE, sleep_mode=True, wake_seconds=0.2)
    async with simulated(settings) as engine:
        async with patient_client(base_url=engine.url) as web:
            await web.post("/sleep")
        async with gateway(tmp_path, routes(engine.url, wake="engines"), wait_ready=False) as running:
            await eventually(lambda: running.backend().availability.asleep)
            answers = await asyncio.gather(*asked(running, 200, max_tokens=3))
            assert {answer.status for answer in answers} == {200}
            simulation = engine.simulation
            assert (simulation.wakes, simulation.killed_asleep) == (1, 0)
            await running.quiet()
            assert not running.backend().availability.asleep


async def test_an_engine_that_is_put_to_sleep_gets_nothing_until_it_is_woken(tmp_path: Path) -> None:
    async with simulated(replace(ENGINE, sleep_mode=True)) as engine:
        async with (
            gateway(tmp_path, routes(engine.url, wake="engines")) as running,
            patient_client(base_url=engine.url) as web,
        ):
            assert (await ask(running.port, chat(max_tokens=1))).status == 200
            await web.post("/sleep")
            await eventually(lambda: running.backend().availability.asleep)
            status = (await web.get(f"{running.admin}/admin/status")).json()
            assert status["backends"][0]["asleep"] is True
            assert (await ask(running.port, chat(max_tokens=1))).status == 200
            assert (engine.simulation.wakes, engine.simulation.killed_asleep) == (1, 0)


async def test_of_two_engines_that_sleep_one_is_woken(tmp_path: Path) -> None:
    settings = replace(ENGINE, sleep_mode=True)
    async with simulated(settings) as one, simulated(settings) as other, patient_client() as web:
        for each in (one, other):
            await web.post(f"{each.url}/sleep")
        async with gateway(tmp_path, routes(one.url, other.url, wake="engines"), wait_ready=False) as running:
            await eventually(lambda: all(each.availability.asleep for each in running.app.data.registry))
            answers = await asyncio.gather(*asked(running, 10, max_tokens=1))
            assert {answer.status for answer in answers} == {200}
            assert one.simulation.wakes + other.simulation.wakes == 1
            assert one.simulation.killed_asleep + other.simulation.killed_asleep == 0


async def test_the_data_listener_leads_to_no_control_path_of_an_engine(tmp_path: Path) -> None:
    async with simulated(replace(ENGINE, sleep_mode=True)) as engine:
        async with gateway(tmp_path, routes(engine.url, wake="engines")) as running:
            for path in (
                "/sleep",
                "/wake_up",
                "/is_sleeping",
                "/v1/sleep",
                "/sleep?level=1",
                "//sleep",
                "/v1/../sleep",
            ):
                answer = await ask(running.port, {}, path=path)
                assert answer.status in {400, 404}, path
            simulation = engine.simulation
            assert (simulation.sleeps, simulation.wakes, simulation.engine.sleep_level) == (0, 0, 0)
