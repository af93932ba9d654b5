"""While a stream has no output yet, comments keep proxies in front from giving it up, and nothing is lost by them."""

import asyncio
from pathlib import Path

import pytest

from gateway.exchange import Outcome
from gateway.proxy import relay
from gateway.proxy.request_lifecycle import RequestLifecycle
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, Script, backends, chunked, event, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, post, routes
from tests.e2e.raw_client import Answer, RawClient, connect
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "KEEP_ALIVE", 0.2)


async def begun(running: Running) -> RawClient:
    """Ask for a stream and wait until two comments have come."""
    client = await connect(running.port)
    await client.send(post(chat()))
    read = b""
    async with asyncio.timeout(DEADLINE):
        while read.count(b": waiting") < 2:
            read += await client.reader.read(65536)
    client.unread(read)
    return client


async def test_comments_come_until_the_first_token(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE))
        await go.wait()
        await call.send(chunked(event("a"), event("b", "stop"), DONE) + LAST_CHUNK)

    async with backends(slow) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await begun(running)
        go.set()
        answer = await client.answer()
        assert answer.complete
        assert answer.raw.count(b"HTTP/1.1") == 1
        assert answer.body.endswith(ROLE + event("a") + event("b", "stop") + DONE)
        last = await running.settled()
        assert (last.outcome, last.content_events) == (Outcome.OK, 2)
        client.close()


async def fails_by(ending: Script, tmp_path: Path) -> tuple[Answer, Running]:
    """Return what a client gets whose only engine fails after the head and two comments have been sent."""
    go = asyncio.Event()

    async def failing(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE))
        await go.wait()
        await ending(call)

    async with backends(failing) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await begun(running)
        go.set()
        answer = await client.answer()
        await running.settled()
        client.close()
        return answer, running


async def close(call: Call) -> None:
    call.close()


async def error(call: Call) -> None:
    await call.send(chunked(b'data: {"error":{"message":"x","code":400}}\n\n'), LAST_CHUNK)


@pytest.mark.parametrize(("ending", "outcome"), [(close, Outcome.BACKEND_ERROR), (error, Outcome.CLIENT_ERROR)])
async def test_a_failure_after_comments_is_told_by_an_event(tmp_path: Path, ending: Script, outcome: Outcome) -> None:
    answer, running = await fails_by(ending, tmp_path)
    assert answer.status == 200
    assert not answer.complete
    assert answer.raw.count(b"HTTP/1.1") == 1
    assert answer.body.count(b'"error"') == 1
    assert b"[DONE]" not in answer.body
    assert running.records.exchanges[0].outcome is outcome


@pytest.mark.parametrize("stream", [True, False], ids=["a stream", "a document"])
async def test_another_backend_may_still_answer(tmp_path: Path, stream: bool) -> None:
    go = asyncio.Event()

    async def failing(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE))
        await go.wait()
        call.close()

    async def document(call: Call) -> None:
        await call.send(whole(b"200 OK", b"{}"))

    async with backends(failing, good if stream else document) as (sick, well):
        async with gateway(tmp_path, routes(sick.url, well.url)) as running:
            count, asking = 0, asyncio.create_task(ask(running.port, chat()))
            while not sick.calls:
                if asking.done():
                    count, asking = count + 1, asyncio.create_task(ask(running.port, chat()))
                await asyncio.sleep(0.01)
            copies = [
                each._pipeline.responder
                for each in running.connections
                if isinstance(each._pipeline.responder, RequestLifecycle)
            ]
            await eventually(lambda: any(each._exchange.opened for each in copies))
            go.set()
            answer = await asking
            assert answer.raw.count(b"HTTP/1.1") == 1
            assert answer.body.startswith(b": waiting")
            assert answer.complete is stream
            assert answer.body.endswith(DONE) is stream
            last = await running.settled(count + 1)
            assert len(last.attempts) == 2
            assert last.outcome is (Outcome.OK if stream else Outcome.BACKEND_ERROR)
