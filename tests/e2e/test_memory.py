"""What streams, connections and questions to engines leave in memory: nothing that waits for the garbage collector."""

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.backends.reading import read
from gateway.policy.admission.queue import Entry
from gateway.proxy.queue_ticket import QueueTicket
from gateway.proxy.request_lifecycle import RequestLifecycle
from gateway.wire.backlog import Backlog
from gateway.wire.body import Body
from gateway.wire.client import Client
from gateway.wire.guard import Head
from gateway.wire.pipeline import Pipeline
from gateway.wire.request_reader import RequestReader
from gateway.wire.rope import Rope
from gateway.wire.upstream import Upstream
from tests.e2e.fakes import DONE, LAST_CHUNK, STREAM_HEAD, Call, backends, chunked, event, good
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left(*kinds: type) -> int:
    """How many objects of some kinds, by default connections and their parts, are in memory."""
    wanted = kinds or (Client, RequestReader, Pipeline, Backlog, Upstream)
    return sum(isinstance(each, wanted) for each in gc.get_objects())


@pytest.mark.usefixtures("no_collection")
async def test_closed_connections_are_gone_at_once(tmp_path: Path) -> None:
    async def cuts(call: Call) -> None:
        if b"whole" in call.body:
            await good(call)
            return
        await call.send(STREAM_HEAD, chunked(event("x")))
        call.close()

    async with backends(cuts) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        before = left()
        for turn in range(10):
            await ask(running.port, chat(stream=turn % 2 == 0, messages=[{"role": "user", "content": "whole"}]))
            assert not (await ask(running.port, chat())).complete, "and the engine's connection is closed"
            client = await connect(running.port)
            await client.send(post(chat()) if turn % 2 else b"POST /v1/chat/completions HTTP/1.1\r\nhost:")
            client.reset()
        await eventually(lambda: not running.connections)
        await running.quiet()
        kept = running.backend().pool.idle
        await eventually(lambda: left() <= before + kept)


@pytest.mark.usefixtures("no_collection")
async def test_requests_that_waited_are_gone_once_they_have_ended(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def slow(call: Call) -> None:
        await may_end.wait()
        await good(call)

    async with backends(slow) as (fake,):
        one_slot = {"backends": [{"url": fake.url, "max_concurrency": 1}]}
        text = json.dumps({"pools": {"gpu": one_slot}, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}})
        async with gateway(tmp_path, text) as running:
            asked = [asyncio.create_task(ask(running.port, chat())) for _ in range(3)]
            gone = await connect(running.port)
            await gone.send(post(chat()))
            await eventually(lambda: running.waiting == 3)
            gone.reset()
            await eventually(lambda: running.waiting == 2)
            may_end.set()
            assert [answer.status for answer in await asyncio.gather(*asked)] == [200, 200, 200]
            await running.quiet()
            await eventually(lambda: not running.connections and not left(RequestLifecycle, QueueTicket, Entry, Client))


@pytest.mark.usefixtures("no_collection")
async def test_what_an_engine_was_asked_is_gone_once_it_has_answered() -> None:
    async with backends(good) as (fake,), patient_client(trust_env=False) as client:
        fake.metrics = b"x" * 100_000
        assert await read(client, f"{fake.url}/health", {}, most=0) == (200, b"")
        assert (await read(client, f"{fake.url}/v1/models", {}, most=1_000))[1]
        assert await read(client, f"{fake.url}/metrics", {}, most=1_000) == (200, None), "which is too long"
        await eventually(lambda: not any(isinstance(each, httpx.Response) for each in gc.get_objects()))


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("size", [10, 200_000], ids=["short", "long"])
async def test_a_stream_that_has_begun_keeps_nothing_of_its_request(tmp_path: Path, size: int) -> None:
    finish = asyncio.Event()

    async def long_stream(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(event("a")))
        await finish.wait()
        await call.send(chunked(event("b", "stop"), DONE) + LAST_CHUNK)

    async with backends(long_stream) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat(messages=[{"role": "user", "content": "x" * size}])))
        await client.reader.readuntil(b'"content":"a"')
        assert [each for each in gc.get_objects() if isinstance(each, Rope | Body)] == []
        assert left(Head) == 0
        finish.set()
        await client.reader.readuntil(LAST_CHUNK)
        client.close()
        await running.settled(1)
