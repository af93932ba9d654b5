"""One request that an engine refuses: it is held back itself, and is no reason to refuse others."""

import asyncio
import json
from math import log2
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import monotonic
from gateway.exchange import AttemptEnd, Outcome
from gateway.policy.admission.limit import FIRST
from tests.e2e.fakes import Call, backends, good, whole
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.raw_client import Answer
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
LIMITED = b'{"error":{"message":"rate limited","code":429}}'


def routes(*urls: str, slots: int | None = None) -> str:
    entries: list[Any] = [{"url": url, "max_concurrency": slots} if slots else url for url in urls]
    return json.dumps(
        {
            "pools": {"gpu": {"backends": entries}},
            "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}, "timeouts": {"connect": "20s"}}},
        }
    )


class Picky:
    """An engine that refuses some requests, whatever else it has to do, and keeps others until it is told."""

    def __init__(self, *fields: bytes, status: bytes = b"429 Too Many Requests") -> None:
        self.refusal = whole(status, LIMITED, *fields)
        self.done = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if b"refused" in call.body:
            await call.send(self.refusal)
            return
        if b"long" in call.body:
            await self.done.wait()
        await good(call)


async def asks(running: Running, text: str, name: str = "interactive") -> Answer:
    body = chat() | {"messages": [{"role": "user", "content": text}]}
    return await ask(running.port, body, headers=f"x-gateway-class: {name}\r\n")


def refused(running: Running) -> int:
    return [end for _, end in running.records.attempts].count(AttemptEnd.SATURATED)


STATUSES = [b"429 Too Many Requests", b"503 Service Unavailable"]


@pytest.mark.parametrize("status", STATUSES, ids=["429", "503"])
async def test_what_an_idle_engine_refuses_makes_nobody_else_wait(tmp_path: Path, status: bytes) -> None:
    picky = Picky(b"retry-after: 30\r\n", status=status)
    async with backends(picky) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await asks(running, "hi")).status == 200
        batch = asyncio.create_task(asks(running, "refused", "batch"))
        await eventually(lambda: refused(running) == 1)
        for _ in range(10):
            assert (await asks(running, "hi")).status == 200
        assert [each.queued for each in running.records.exchanges] == [0.0] * 11
        assert refused(running) == 1, "its Retry-After is honoured"
        assert running.backend().limit.value == FIRST
        assert not batch.done()
        batch.cancel()
        await running.quiet()


async def test_one_that_an_idle_engine_refuses_again_and_again_gets_its_answer(tmp_path: Path) -> None:
    async with backends(Picky()) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await asks(running, "hi")).status == 200
        answer = await asks(running, "refused", "batch")
        assert (answer.status, answer.body) == (429, LIMITED)
        last = await running.settled(2)
        assert (len(last.attempts), last.outcome) == (3, Outcome.BACKEND_ERROR)
        (model,) = running.app.data.current.table
        assert model.memory.retries.retries == 2, "they are inside the budget"


async def test_one_asked_for_more_patience_than_it_has_is_told_at_once(tmp_path: Path) -> None:
    picky = Picky(b"retry-after: 30\r\n")
    async with backends(picky) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await asks(running, "hi")).status == 200
        answer = await asks(running, "refused")
        assert (answer.status, answer.headers["retry-after"]) == (429, "30")
        last = await running.settled(2)
        assert (len(last.attempts), last.queued) == (1, 0.0)


async def test_one_refused_among_others_refuses_none_of_them(tmp_path: Path) -> None:
    picky = Picky(b"retry-after: 30\r\n")
    async with backends(picky) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await asks(running, "hi")).status == 200
        long = asyncio.create_task(asks(running, "long", "batch"))
        await eventually(lambda: running.in_flight == 1)
        began = monotonic()
        batch = asyncio.create_task(asks(running, "refused", "batch"))
        await eventually(lambda: refused(running) >= 1)
        for _ in range(20):
            assert (await asks(running, "hi")).status == 200
        # Its pauses double from the third refusal on, which is followed by one of two seconds.
        assert refused(running) <= 4 + log2(1 + (monotonic() - began) / 2)
        picky.done.set()
        assert (await long).status == 200
        batch.cancel()
        await running.quiet()


async def test_a_slot_that_comes_free_at_an_engine_at_capacity_is_used_at_once(tmp_path: Path) -> None:
    """It asked to be left alone for 30 s; the first that it completes shows that it can take another."""
    one = asyncio.Event()
    taken: list[Call] = []

    async def full(call: Call) -> None:
        if taken:
            await call.send(whole(b"503 Service Unavailable", LIMITED, b"retry-after: 30\r\n"))
            return
        if b"long" in call.body:
            taken.append(call)
            await one.wait()
            taken.clear()
        await good(call)

    async with backends(full) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await asks(running, "hi")).status == 200
        long = asyncio.create_task(asks(running, "long"))
        await eventually(lambda: len(taken) == 1)
        waits = asyncio.create_task(asks(running, "waits", "batch"))
        await eventually(lambda: refused(running) == 1 and running.waiting == 1)
        one.set()
        assert [(await each).status for each in (long, waits)] == [200, 200]
        await running.quiet()


async def test_an_engine_that_was_busy_is_asked_before_anyone_waits(tmp_path: Path) -> None:
    picky, other = Picky(b"retry-after: 30\r\n"), Picky()
    async with (
        backends(picky, other) as fakes,
        gateway(tmp_path, routes(*(fake.url for fake in fakes), slots=1)) as running,
    ):
        first, second = running.backend(0).health, running.backend(1).health
        first.refused(monotonic(), 30.0, busy=True, alone=True)
        long = asyncio.create_task(asks(running, "long"))
        await eventually(lambda: second.slots.in_flight == 1)
        assert (await asks(running, "hi")).status == 200
        assert running.records.exchanges[-1].queued == 0.0
        other.done.set()
        assert (await long).status == 200
        await running.quiet()


LONG = b'{"error":{"message":"' + b"too long: " * 30_000 + b'","code":400}}'
NOT_WHOLE: dict[str, tuple[bytes, int, str]] = {
    "too long": (
        whole(b"400 Bad Request", LONG),
        400,
        'is over 262144 bytes, and begins: {"error":{"message":"too long',
    ),
    "cut": (whole(b"400 Bad Request", LONG)[:200], 400, 'was cut, and begins: {"error":{"message":"too long: '),
    "a page": (
        b"HTTP/1.1 500 Oops\r\ncontent-type: text/html\r\netag: x\r\ncontent-language: de\r\n"
        b"connection: close\r\n\r\n<html>" + b"\xff" * 300_000,
        500,
        "is over 262144 bytes, and begins: <html>",
    ),
}


@pytest.mark.parametrize(("sent", "status", "words"), NOT_WHOLE.values(), ids=NOT_WHOLE)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_of_an_error_that_is_not_whole_is_told_how_it_begins(
    tmp_path: Path, sent: bytes, status: int, words: str, path: str
) -> None:
    async def engine(call: Call) -> None:
        await call.send(sent)
        call.close()

    async with backends(engine) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat() | {"max_tokens": 5}, path=path)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert words in answer.json["error"]["message"]
        assert not {"etag", "content-language"} & answer.headers.keys()
        assert len(answer.body) < 5000
        assert (await running.settled()).client_status == status


async def test_a_long_error_within_the_bound_is_passed_on_as_it_is(tmp_path: Path) -> None:
    said = b'{"detail":"' + b"x" * (256 * 1024 - 13) + b'"}'

    async def engine(call: Call) -> None:
        await call.send(whole(b"422 Unprocessable Entity", said))

    async with backends(engine) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert (answer.status, answer.body) == (422, said)


HANGS: dict[str, bytes] = {
    "silent after its head": b"HTTP/1.1 %b\r\ncontent-type: text/html\r\ncontent-length: 500\r\n\r\n",
    "silent within its body": b"HTTP/1.1 %b\r\ncontent-length: 500\r\n\r\n<html>",
    "no last chunk": b"HTTP/1.1 %b\r\ntransfer-encoding: chunked\r\n\r\n6\r\n<html>\r\n",
    "only closing would end it": b"HTTP/1.1 %b\r\nconnection: close\r\n\r\n<html>",
}


@pytest.mark.parametrize("sent", HANGS.values(), ids=HANGS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
async def test_an_error_whose_body_does_not_end_is_told_by_its_status(
    tmp_path: Path, sent: bytes, stream: bool
) -> None:
    async def hangs(call: Call) -> None:
        await call.send(sent % b"400 Bad Request")
        await call.until_gone()

    clock = HandClock()
    async with backends(hangs) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        asking = asyncio.create_task(ask(running.port, chat(stream)))
        await clock.passes(4.0, asking.done)
        answer = await asking
        assert (answer.status, answer.complete, answer.json["error"]["code"]) == (400, True, "error_not_whole")
        assert (await running.settled()).outcome is Outcome.CLIENT_ERROR
        assert [end for _, end in running.records.attempts] == [AttemptEnd.CLIENT_ERROR]
        await fake.calls[0].gone.wait()


async def test_an_error_that_drips_is_told_by_its_status(tmp_path: Path) -> None:
    async def drips(call: Call) -> None:
        await call.send(b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n")
        while not call.writer.is_closing():
            await call.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)

    clock = HandClock()
    async with backends(drips) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        asking = asyncio.create_task(ask(running.port, chat()))
        await clock.passes(0.5, asking.done)
        answer = await asking
        assert (answer.status, answer.json["error"]["code"]) == (400, "error_not_whole")
        last = await running.settled()
        assert last.outcome is Outcome.CLIENT_ERROR
        assert last.e2e < 10.0


async def test_of_an_error_without_end_no_more_is_read_than_may_be_passed_on(tmp_path: Path) -> None:
    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        for _ in range(1000):
            await call.send(b"x" * 65536)
        raise AssertionError("the gateway has read 64 MiB of an error")

    async with backends(endless) as (fake,), gateway(tmp_path, routes(fake.url), now=HandClock()) as running:
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (400, "error_not_whole")
        assert (await running.settled()).outcome is Outcome.CLIENT_ERROR


async def test_a_request_whose_time_is_over_first_gets_the_status_too(tmp_path: Path) -> None:
    async def hangs(call: Call) -> None:
        await call.send(b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 9\r\n\r\n")
        await call.until_gone()

    clock = HandClock()
    async with backends(hangs) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        asking = asyncio.create_task(ask(running.port, chat(), headers="x-request-timeout: 1\r\n"))
        await eventually(lambda: len(fake.calls) == 1)
        await clock.passes(0.9, asking.done)
        assert (await asking).status == 422
        assert (await running.settled()).outcome is Outcome.CLIENT_ERROR


async def test_a_failure_whose_body_hangs_is_tried_elsewhere(tmp_path: Path) -> None:
    async def hangs(call: Call) -> None:
        await call.send(b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\n")
        await call.until_gone()

    clock = HandClock()
    async with (
        backends(hangs, good) as fakes,
        gateway(tmp_path, routes(*(fake.url for fake in fakes)), now=clock) as running,
    ):
        count = 0
        while not fakes[0].calls:  # of two at once, each backend is asked by one
            asking = [asyncio.create_task(ask(running.port, chat())) for _ in range(2)]
            await clock.passes(4.0, lambda asking=asking: all(each.done() for each in asking))  # type: ignore[misc]
            assert [(await each).status for each in asking] == [200, 200]
            count += 2
            await running.settled(count)
        assert AttemptEnd.SERVER_ERROR in [end for _, end in running.records.attempts]


async def test_an_error_that_comes_in_two_parts_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async def slow(call: Call) -> None:
        answer = whole(b"400 Bad Request", LIMITED)
        await call.send(answer[:-20])
        await clock.passes(2.0, lambda: True)
        await asyncio.sleep(0.3)  # deadlines are looked at every tenth of a second
        await call.send(answer[-20:])

    clock = HandClock()
    async with backends(slow) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        for _ in range(2):
            answer = await ask(running.port, chat())
            assert (answer.status, answer.body) == (400, LIMITED)
        await running.settled(2)
        assert fake.connections == 1
