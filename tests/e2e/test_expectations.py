"""Clients that send a body only when they are told to (RFC 9110 section 10.1.1)."""

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.fakes import Call, backends, good
from tests.e2e.harness import chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


async def test_expect_continue(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        request = post(chat(stream=False), headers="expect: 100-continue\r\n")
        head, body = request.split(b"\r\n\r\n", 1)
        await client.send(head + b"\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(body)
        assert (await client.answer()).status == 200
        client.close()
        assert b"expect" not in fake.calls[0].head


async def test_a_body_that_waits_behind_a_request_in_progress_is_asked_for_in_its_turn(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def gated(call: Call) -> None:
        await gate.wait()
        await good(call)

    async with (
        backends(gated) as (fake,),
        gateway(tmp_path, routes(fake.url)) as running,
    ):
        client = await connect(running.port)
        head, body = post(chat(stream=False), headers="expect: 100-continue\r\n").split(b"\r\n\r\n", 1)
        await client.send(post(chat(stream=False)) + head + b"\r\n\r\n")
        await eventually(lambda: len(fake.calls) == 1)
        running.connections[0].check(monotonic() + 60.0)  # a body that waits for its turn is not late
        gate.set()
        read = b""
        async with asyncio.timeout(DEADLINE):
            while b"HTTP/1.1 100 Continue\r\n\r\n" not in read:
                read += await client.reader.read(65536)
        await client.send(body)
        client.unread(read)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        client.close()
        await running.settled(2)


async def test_nothing_waits_for_a_100_where_no_body_follows(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        asked = {
            b"GET /v1/models HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n": 200,
            b"GET /v1/models HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n": 200,
            b"GET /v1/nope HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n": 404,
            post(b"", headers="expect: 100-continue\r\n"): 400,
        }
        for request, status in asked.items():
            await client.send(request)
            answer = await client.answer()
            assert (answer.status, answer.raw[9:12]) == (status, b"%d" % status), "no informational answer before it"
        client.close()
        await running.settled(2)
