"""What clients send around and behind a request: pipelined beginnings, trailers, chunk extensions."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.wire.guard import Limits
from gateway.wire.phase import ANSWERING
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, backends, chunked, event, good
from tests.e2e.harness import chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
PATIENT = {"stall": "1h", "total": "2h"}


@pytest.mark.parametrize(
    "begun",
    [b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n", post(chat(stream=False))[:-3]],
    ids=["head", "body"],
)
async def test_a_request_begun_behind_a_running_stream_has_its_deadlines(tmp_path: Path, begun: bytes) -> None:
    finish = asyncio.Event()

    async def long_stream(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("a")))
        await finish.wait()
        await call.send(chunked(event("b", "stop"), DONE) + LAST_CHUNK)

    clock = HandClock()
    async with backends(long_stream) as (fake,), gateway(tmp_path, routes(fake.url, **PATIENT), now=clock) as running:
        client = await connect(running.port)
        await client.send(post(chat()))
        await client.reader.readuntil(b'"content":"a"')
        await client.send(begun)
        await clock.passes(31.0, lambda: len(running.connections[0]._pipeline.queue) == 1)
        finish.set()
        rest = await client.answer_rest()
        client.close()
        assert rest.index(b"[DONE]") < rest.index(b"HTTP/1.1 408 ")
        await running.settled(2)
        assert len(fake.calls) == 1


async def test_what_comes_in_time_behind_a_running_stream_is_served(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def long_stream(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("a")))
        await finish.wait()
        await call.send(chunked(event("b", "stop"), DONE) + LAST_CHUNK)

    clock = HandClock()
    async with backends(long_stream) as (fake,):
        async with gateway(tmp_path, routes(fake.url, **PATIENT), now=clock) as running:
            client = await connect(running.port)
            await client.send(post(chat()))
            await client.reader.readuntil(b'"content":"a"')
            request = post(chat())
            await client.send(request[:-3])
            await client.send(request[-3:])
            (connection,) = running.connections
            await eventually(lambda: len(connection._pipeline.queue) == 1 and connection._timer.phase is ANSWERING)
            clock.advance(31.0)  # longer than the deadlines of a head and a body: nothing is awaited from this client
            await asyncio.sleep(0.3)  # sweeps look every tenth of a second
            finish.set()
            rest = b""
            while rest.count(LAST_CHUNK) < 2:
                rest += await client.reader.read(65536)
            client.close()
            await running.settled(2)
            assert len(fake.calls) == 2


def chunked_request(extension: int = 0, trailer: int = 0) -> bytes:
    body = json.dumps(chat(stream=False)).encode()
    fields = b"x: %b\r\n" % (b"a" * (trailer - 5)) if trailer else b""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    more = b";" + b"e" * extension if extension else b""
    return head + b"transfer-encoding: chunked\r\n\r\n%x%b\r\n%b\r\n0\r\n%b\r\n" % (len(body), more, body, fields)


@pytest.mark.parametrize(("trailer", "status"), [(1999, 200), (2000, 200), (2001, 431), (4_000_000, 431)])
async def test_trailers_of_a_client_count_against_the_limit_of_its_head(
    tmp_path: Path, trailer: int, status: int
) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), limits=Limits(head=2000)) as running:
        client = await connect(running.port)
        await client.send(chunked_request(trailer=trailer))
        assert (await client.answer()).status == status
        client.close()
        await running.settled()


async def test_chunk_extensions_of_a_client_count_against_the_limit_of_its_head(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), limits=Limits(head=2000)) as running:
        for extension, status in ((100, 200), (4_000_000, 431)):
            client = await connect(running.port)
            await client.send(chunked_request(extension=extension))
            assert (await client.answer()).status == status
            client.close()
        await running.settled(2)


@pytest.mark.parametrize("half_closes", [False, True], ids=["", "half-closes"])
@pytest.mark.parametrize("garbage", [b"\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"POST /v1/chat"])
@pytest.mark.parametrize("count", [1, 2])
async def test_requests_before_malformed_bytes_of_the_same_read_are_answered(
    tmp_path: Path, count: int, garbage: bytes, half_closes: bool
) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for request in (b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", post(chat(stream=False)), chunked_request()):
            client = await connect(running.port)
            await client.send(request * count + garbage)
            if half_closes:
                client.writer.write_eof()
            answers = [await client.answer() for _ in range(count)]
            assert [answer.status for answer in answers] == [200] * count
            if not half_closes and garbage != b"POST /v1/chat":
                assert (await client.answer()).status == 400
            client.close()
        await running.quiet()
