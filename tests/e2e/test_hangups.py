"""Clients that hang up, and engines that die, on real simulated engines."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import httpx
import pytest

from gateway.exchange import Outcome
from tests.e2e.harness import ask, gateway, post, routes
from tests.e2e.processes import Process, engine
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio


async def engines(stack: AsyncExitStack, count: int, *arguments: str) -> list[Process]:
    starting = (
        stack.enter_async_context(engine("--seed", str(seed), "--engine", "max_num_seqs=24", *arguments))
        for seed in range(count)
    )
    return list(await asyncio.gather(*starting))


async def busy(web: httpx.AsyncClient, url: str) -> int:
    state = (await web.get(f"{url}/sim/state")).json()
    return int(state["running"]) + int(state["waiting"])


def question(tokens: int, *, stream: bool = True) -> bytes:
    text = "the tide comes in " * 200
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "ignore_eos": True}
    return post({**body, "stream": stream})


async def test_two_hundred_clients_hang_up_and_every_engine_stops_working_for_them(tmp_path: Path) -> None:
    rng = Random(5)
    async with AsyncExitStack() as stack:
        fleet = await engines(stack, 3)
        urls = [each.urls[0] for each in fleet]
        running = await stack.enter_async_context(gateway(tmp_path, routes(*urls)))
        web = await stack.enter_async_context(patient_client())

        async def visit(patience: float, *, stream: bool, reset: bool) -> None:
            client = await connect(running.port)
            await client.send(question(5_000, stream=stream))  # would take longer than the test waits
            await all_are_there.wait()  # a reset takes with it what the gateway has not read
            await asyncio.sleep(patience)
            if reset:
                client.reset()
            else:
                client.close()

        all_are_there = asyncio.Event()
        visits = [visit(rng.uniform(0, 3), stream=rng.random() < 0.7, reset=rng.random() < 0.3) for _ in range(200)]
        leaving = asyncio.gather(*visits)
        await eventually(lambda: running.app.data.busy() == 200)
        all_are_there.set()
        await leaving
        await running.quiet()
        async with asyncio.timeout(DEADLINE):
            while sum([await busy(web, url) for url in urls]):
                await asyncio.sleep(0.02)
        metrics = (await web.get(f"{running.admin}/metrics")).text
        in_flight = [line for line in metrics.splitlines() if line.startswith("tidegate_backend_in_flight{")]
        assert len(in_flight) == 3
        assert all(line.endswith(" 0.0") for line in in_flight)
        assert "tidegate_in_flight 0.0" in metrics
        await eventually(lambda: len(running.records.exchanges) == 200)
        assert {exchange.outcome for exchange in running.records.exchanges} == {Outcome.CLIENT_GONE}


async def test_an_engine_killed_in_mid_stream_is_told_and_before_the_first_byte_is_not_noticed(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        doomed, healthy = await engines(stack, 2)
        running = await stack.enter_async_context(gateway(tmp_path, routes(doomed.urls[0], healthy.urls[0])))
        web = await stack.enter_async_context(patient_client())
        # The first to be served hang after some tokens, and those that wait for their slots begin no more.
        await web.post(f"{doomed.urls[0]}/sim/faults", json={"stall_after": 3})
        begun = 0

        async def whole_or_broken() -> bool:
            nonlocal begun
            client = await connect(running.port)
            await client.send(question(60))
            beginning = await client.reader.readuntil(b'"content"')
            begun += doomed.urls[0].encode().removeprefix(b"http://") in beginning
            client.unread(beginning)
            answer = await client.answer()
            client.close()
            if answer.complete:
                assert answer.body.endswith(b"data: [DONE]\n\n")
                return True
            event = json.loads(answer.body.split(b"\n\n")[-2].removeprefix(b"data: "))
            assert event["error"]["code"] == "stream_broken"
            assert b"[DONE]" not in answer.body
            return False

        asking = [asyncio.create_task(whole_or_broken()) for _ in range(50)]
        await eventually(lambda: running.backend().in_flight > 10 and begun > 0)
        await doomed.killed()
        answers = await asyncio.gather(*asking)
        await running.settled(50)
        ends = running.records.exchanges
        assert answers.count(False) == sum(exchange.outcome is Outcome.TRUNCATED for exchange in ends)
        assert {exchange.outcome for exchange in ends} <= {Outcome.OK, Outcome.TRUNCATED}
        assert set(answers) == {True, False}
        await running.ready(1)
        for _ in range(10):  # the dead one may still be tried, and nobody notices
            assert (await ask(running.port, {"model": "m", "messages": [], "max_tokens": 2})).status == 200
