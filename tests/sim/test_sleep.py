"""vLLM's sleep mode, as it is with `VLLM_SERVER_DEV_MODE=1`."""

import asyncio

import pytest

from tests.sim.conftest import Serve
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


async def test_an_engine_sleeps_and_wakes_up(serve: Serve) -> None:
    async with serve(sleep_mode=True) as (_, client):
        assert (await client.get("/is_sleeping")).json() == {"is_sleeping": False}
        asleep = await client.post("/sleep", params={"level": 1})
        assert (asleep.status_code, asleep.content) == (200, b"")
        assert (await client.get("/is_sleeping")).json() == {"is_sleeping": True}
        assert (await client.get("/health")).status_code == 200
        assert 'sleep_state="weights_offloaded"} 1.0' in (await client.get("/metrics")).text
        assert (await client.post("/wake_up")).status_code == 200
        assert (await client.get("/is_sleeping")).json() == {"is_sleeping": False}
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        state = (await client.get("/sim/state")).json()
        assert (state["sleeps"], state["wakes"], state["killed_asleep"], state["sleep_level"]) == (1, 1, 0, 0)


async def test_a_request_to_a_sleeping_engine_kills_it(serve: Serve) -> None:
    async with serve(sleep_mode=True) as (sim, client):
        await client.post("/sleep")
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 500
        assert (await client.get("/health")).status_code == 503
        assert (await client.get("/is_sleeping")).status_code == 500
        assert sim.simulation.killed_asleep == 1


async def test_waking_takes_time_and_two_wakes_are_one(serve: Serve) -> None:
    async with serve(sleep_mode=True, wake_seconds=0.05) as (sim, client):
        await client.post("/sleep", params={"level": 2})
        both = [asyncio.create_task(client.post("/wake_up")) for _ in range(2)]
        await eventually(lambda: sim.simulation.wakes == 2)
        assert sim.simulation.engine.sleep_level == 2
        assert [(await each).status_code for each in both] == [200, 200]
        assert sim.simulation.engine.sleep_level == 0


async def test_without_development_mode_there_are_no_such_paths(serve: Serve) -> None:
    async with serve() as (_, client):
        assert (await client.get("/is_sleeping")).status_code == 404
        assert (await client.post("/sleep")).status_code == 404


async def test_a_level_that_is_none_is_refused(serve: Serve) -> None:
    async with serve(sleep_mode=True) as (_, client):
        assert (await client.post("/sleep", params={"level": 3})).status_code == 400
