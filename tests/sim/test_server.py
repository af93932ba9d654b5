"""Listening and stopping, inside one event loop."""

import asyncio

import httpx
import pytest

from gateway.sim.server import SimServer, running
from gateway.sim.settings import Settings
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio


async def test_connections_are_refused_until_the_model_is_loaded() -> None:
    loading = SimServer(Settings(startup_seconds=3600))
    starting = asyncio.create_task(loading.start())
    await asyncio.sleep(0)
    async with patient_client() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{loading.url}/health")
        starting.cancel()
        await asyncio.wait([starting])
        async with running(Settings(startup_seconds=0.01)) as loaded:
            assert (await client.get(f"{loaded.url}/health")).status_code == 200
    await loading.stop()


async def test_stopping_cuts_connections_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with running(Settings(control_port=0)) as server:
        client = patient_client(base_url=server.url)
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000, "ignore_eos": True}
        call = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        while not server.simulation.calls:
            await asyncio.sleep(0.001)
    with pytest.raises(httpx.TransportError):
        await call
    assert server.simulation.calls == 0
    await client.aclose()
    assert asyncio.all_tasks() == before


async def test_two_servers_do_not_know_each_other() -> None:
    async with running(Settings()) as one, running(Settings()) as other, patient_client() as client:
        await client.post(f"{one.url}/sim/faults", json={"slow": 3})
        assert (await client.get(f"{other.url}/sim/faults")).json()["slow"] == 1.0


async def test_a_server_describes_itself() -> None:
    async with running(Settings(models=("tiny",))) as server:
        engine = "<Engine gpu 0 running 0 waiting <BlockPool 0/8192 used, 0 idle>>"
        assert repr(server) == f"<SimServer {server.url} <Simulation tiny {engine} 0 calls>>"
