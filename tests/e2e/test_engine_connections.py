"""Connections to engines that are used again: no request runs twice uncounted, or gets the bytes of another."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd, Outcome
from loadtest.bench.listening import listening
from tests.e2e.fakes import (
    DONE,
    JSON_ANSWER,
    LAST_CHUNK,
    ROLE,
    STREAM_HEAD,
    Call,
    backends,
    chunked,
    closed_at_once,
    event,
    good,
    reset_at_once,
    whole,
)
from tests.e2e.harness import Running, ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, HandClock, eventually

pytestmark = pytest.mark.anyio
Ending = Callable[[Call], Awaitable[None]]


def idle_for(running: Running, seconds: float) -> None:
    """Let every idle connection have been idle for longer."""
    for upstream in running.backend().pool.idle_connections._connections:
        upstream.reuse.idle_since -= seconds


CLOCK = HandClock()


async def die_after_work(call: Call) -> None:
    CLOCK.advance(0.3)
    call.reset()


async def half_a_line(call: Call) -> None:
    await call.send(b"HTTP/1.1 20")
    call.close()


async def an_early_hint(call: Call) -> None:
    await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    call.close()


ENDINGS: dict[str, tuple[Ending, float, bool]] = {
    "closed at once, after 2 s": (closed_at_once, 2.0, True),
    "reset at once, after 2 s": (reset_at_once, 2.0, True),
    "closed at once, hardly idle": (closed_at_once, 0.0, False),
    "dead after work, after 2 s": (die_after_work, 2.0, False),
    "dead after work, hardly idle": (die_after_work, 0.0, False),
    "half a status line": (half_a_line, 2.0, False),
    "100 Continue": (an_early_hint, 2.0, False),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_request_is_sent_again_only_where_the_engine_hardly_saw_it(tmp_path: Path, ending: str) -> None:
    script, idle, resent = ENDINGS[ending]
    served = 0

    async def second_ends(call: Call) -> None:
        nonlocal served
        served += 1
        await (script(call) if served == 2 else good(call))

    async with backends(second_ends) as (fake,), gateway(tmp_path, routes(fake.url), now=CLOCK) as running:
        assert (await ask(running.port, chat(stream=False))).status == 200
        idle_for(running, idle)
        answer = await ask(running.port, chat(stream=False))
        last = await running.settled(2)
        ends = [end for _, end in running.records.attempts]
        if resent:
            assert (answer.status, len(last.attempts)) == (200, 2)
            assert ends == [AttemptEnd.OK, AttemptEnd.STALE, AttemptEnd.OK]
            assert running.records.retries == [AttemptEnd.STALE]
        else:
            assert (answer.status, len(last.attempts)) == (502, 1)
            assert ends == [AttemptEnd.OK, AttemptEnd.CLOSED_EARLY]
        assert len(fake.calls) == len(ends), "every execution is counted"


async def test_what_is_sent_again_takes_from_the_retry_budget(tmp_path: Path) -> None:
    served = 0

    async def second_closes(call: Call) -> None:
        nonlocal served
        served += 1
        await (closed_at_once(call) if served == 2 else good(call))

    async with backends(second_closes) as (fake,), gateway(tmp_path, routes(fake.url), now=CLOCK) as running:
        await ask(running.port, chat(stream=False))
        idle_for(running, 2.0)
        retries = next(iter(running.app.data.current.table)).memory.retries
        while retries.take(CLOCK()):
            pass
        assert (await ask(running.port, chat(stream=False))).status == 502
        await running.settled(2)
        assert len(fake.calls) == 2


async def test_what_must_not_run_twice_never_meets_a_used_connection(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        await ask(running.port, chat(stream=False))
        body = {"model": "m", "input": "hi", "background": True}
        await ask(running.port, body, path="/v1/responses")
        await running.settled(2)
        assert fake.connections == 2


OTHER = JSON_ANSWER.replace(b'"ok"', b'"not yours"')
SURPLUS = {
    "a second answer": whole(b"200 OK", OTHER),
    "half a head": b"HTTP/1.1 200 OK\r\nx-surplus: y",
    "an early hint": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a few bytes": b"xyz",
    "an empty line": b"\r\n",
    "a chunk": b"5\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("when", ["with the answer", "while idle", "as the next request comes"])
@pytest.mark.parametrize("surplus", SURPLUS)
async def test_surplus_bytes_never_reach_the_next_request(tmp_path: Path, surplus: str, when: str) -> None:
    data = SURPLUS[surplus]

    async def generous(call: Call) -> None:
        first = call is fake.calls[0] and when == "with the answer"
        await call.send(whole(b"200 OK", JSON_ANSWER) + (data if first else b""))

    async with backends(generous) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat(stream=False)))
        assert (await client.answer()).body == JSON_ANSWER
        engine = fake.calls[0].writer.get_extra_info("socket").fileno()
        if when == "while idle":
            os.write(engine, data)
            await eventually(lambda: running.backend().pool.idle == 0)
        request = post(chat(stream=False))
        if when == "as the next request comes":
            # Nothing else runs between the two: both lie in the kernel when the gateway next looks.
            os.write(client.writer.get_extra_info("socket").fileno(), request)
            os.write(engine, data)
        else:
            await client.send(request)
        answer = await client.answer()
        client.close()
        assert (answer.status, answer.body) == (200, JSON_ANSWER)
        await running.settled(2)
        assert len(fake.calls) == 2
        assert [end for _, end in running.records.attempts] == [AttemptEnd.OK, AttemptEnd.OK]


async def test_an_answer_before_the_whole_request_was_taken_ends_the_connection(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            heads.append(head)
            writer.write(whole(b"413 Content Too Large", b"{}"))
        else:
            listed = json.dumps({"data": [{"id": "m"}]}).encode()
            writer.write(whole(b"200 OK", listed, b"connection: close\r\n"))
        await writer.drain()
        if not head.startswith(b"POST"):
            return
        async with asyncio.timeout(DEADLINE):
            while await reader.read(65536):
                pass

    async with listening(hasty) as url, gateway(tmp_path, routes(url)) as running:
        for _ in range(2):
            answer = await ask(running.port, chat(stream=False, filler="x" * 8_000_000))
            assert answer.status == 413
        await running.settled(2)
        assert (len(heads), running.backend().pool.idle) == (2, 0)


@pytest.mark.parametrize("version", [b"2.0", b"0.9"])
async def test_an_answer_in_a_version_that_was_not_spoken_is_malformed(tmp_path: Path, version: bytes) -> None:
    async def other(call: Call) -> None:
        await call.send(whole(b"200 OK", JSON_ANSWER).replace(b"1.1", version, 1))

    async with backends(other) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(stream=False))).status == 502
        await running.settled()
        assert [end for _, end in running.records.attempts] == [AttemptEnd.MALFORMED]


CHUNK = b"%x\r\n%b\r\n" % (len(JSON_ANSWER), JSON_ANSWER)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
LIMIT = 64 * 1024


def trailers(size: int) -> bytes:
    """Return trailers that count so many bytes: names, values, and four for each field."""
    return b"0\r\nx-a: 1\r\nx-b: %b\r\n\r\n" % (b"b" * (size - 8 - 7))


@pytest.mark.parametrize(("size", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 502), (4_000_000, 502)])
async def test_trailers_of_an_engine_count_against_the_limit_of_its_head(
    tmp_path: Path, size: int, status: int
) -> None:
    async def long_winded(call: Call) -> None:
        await call.send(CHUNKED + CHUNK + trailers(size))

    async with backends(long_winded) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(stream=False))).status == status
        await running.settled()


@pytest.mark.parametrize("endless", [b"5;" + b"a" * 70, b"0\r\nx-a: " + b"a" * 70, b"0\r\n" + b"x-a: 1\r\n" * 10])
async def test_an_engine_that_never_ends_its_framing_is_left(tmp_path: Path, endless: bytes) -> None:
    async def never_ends(call: Call) -> None:
        await call.send(CHUNKED + endless)
        more = endless.removeprefix(b"0\r\n")[-70:] * 100
        for _ in range(1000):
            await call.send(more)
        raise AssertionError("the gateway has read seven megabytes of framing")

    async with backends(never_ends) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(stream=False))).status == 502
        await running.settled()
        assert running.records.attempts[-1][1] is AttemptEnd.MALFORMED


async def test_a_fresh_connection_that_is_closed_at_once_is_a_failed_attempt(tmp_path: Path) -> None:
    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go away\r\n")

    async with listening(slam) as url, gateway(tmp_path, routes(url), wait_ready=False) as running:
        for _ in range(20):
            assert (await ask(running.port, chat(stream=False))).status in {502, 503}
        await running.quiet()
        assert {each.outcome for each in running.records.exchanges} <= {Outcome.BACKEND_ERROR, Outcome.NO_BACKEND}


async def test_a_stream_whose_engine_writes_on_after_its_end_stays_whole(tmp_path: Path) -> None:
    async def talkative(call: Call) -> None:
        await good(call)
        await call.send(STREAM_HEAD)

    async with backends(talkative) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for _ in range(5):
            answer = await ask(running.port, chat())
            assert (answer.complete, answer.body.endswith(b"[DONE]\n\n")) == (True, True)
        await running.settled(5)


BROKEN: dict[str, bytes] = {
    "no size": b"zz\r\n",
    "no end of a chunk": b"3\r\nabcdef",
    "another answer": b"HTTP/1.1 200 OK\r\n\r\n",
    "endless trailers": b"0\r\nx: " + b"x" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("reads", [1, 2])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_what_came_before_malformed_bytes_of_the_same_read_reaches_the_client(
    tmp_path: Path, broken: bytes, reads: int
) -> None:
    async def breaks(call: Call) -> None:
        if reads == 2:
            await call.send(STREAM_HEAD, chunked(ROLE, event("a")))
            await call.passed.wait()
            await call.send(chunked(event("b")) + broken)
        else:
            await call.send(STREAM_HEAD + chunked(ROLE, event("a")) + chunked(event("b")) + broken)
        await call.until_gone()

    async with backends(breaks) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat()))
        read = await client.reader.readuntil(b'"content":"a"')
        fake.calls[0].passed.set()
        rest = read + await client.answer_rest()
        client.close()
        assert rest.index(b'"content":"b"') < rest.index(b"the answer is not proper HTTP")
        assert b"[DONE]" not in rest
        assert not rest.endswith(LAST_CHUNK)
        assert (await running.settled()).outcome is Outcome.TRUNCATED
        assert [end for _, end in running.records.attempts] == [AttemptEnd.MALFORMED]


async def test_a_stream_that_is_whole_before_malformed_bytes_of_the_same_read_is_whole(tmp_path: Path) -> None:
    async def breaks(call: Call) -> None:
        await call.send(STREAM_HEAD + chunked(ROLE, event("a", "stop"), DONE) + b"zz\r\n")
        await call.until_gone()

    async with backends(breaks) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert (answer.complete, answer.body) == (True, ROLE + event("a", "stop") + DONE)
        assert (await running.settled()).outcome is Outcome.OK
        await fake.calls[0].gone.wait()


async def test_a_long_document_breaks_off_where_its_framing_does(tmp_path: Path) -> None:
    half = JSON_ANSWER[:-1] + b',"more":"' + b"x" * 100_000

    async def breaks(call: Call) -> None:
        await call.send(CHUNKED + b"%x\r\n%b\r\nzz\r\n" % (len(half), half))
        await call.until_gone()

    async with backends(breaks) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=False))
        assert (answer.status, answer.complete, answer.body) == (200, False, half)
        assert (await running.settled()).outcome is Outcome.TRUNCATED
