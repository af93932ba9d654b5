"""What happens once an answer has begun: everything passes byte for byte, and a break is told, never hidden."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.wire.guard import Limits
from tests.e2e.fakes import (
    DONE,
    LAST_CHUNK,
    ROLE,
    STREAM_HEAD,
    USAGE,
    Call,
    Script,
    backends,
    chunked,
    event,
    good_stream,
)
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import Answer, connect
from tests.e2e.test_silence import pass_slowly
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
BEGINNING = chunked(ROLE, event("a"), event("b"))
WORDS = event("a") + event("b")


def last_event(answer: Answer) -> dict[str, dict[str, str]]:
    events = answer.body.split(b"\n\n")
    assert events[-1] == b"", "a stream must end with a whole event"
    parsed: dict[str, dict[str, str]] = json.loads(events[-2].removeprefix(b"data: "))
    return parsed


async def cut(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING)
    call.close()


async def reset(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING)
    await call.passed.wait()  # the kernel drops what was not read before the RST
    call.reset()


async def cut_inside_an_event(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, chunked(event("half")[:40]))
    call.close()


async def bad_chunk_size(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING)
    await call.passed.wait()  # in one read with the rest, nothing would have gone to the client yet
    await call.send(b"zz\r\n")
    await call.until_gone()


async def no_terminator(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, LAST_CHUNK)


async def stalled(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING)
    await call.until_gone()


async def stalled_with_comments(call: Call) -> None:
    """vLLM after SIGTERM: no token comes any more, and comments go on."""
    await call.send(STREAM_HEAD, BEGINNING)
    while not call.writer.is_closing():
        await call.send(chunked(b": keep-alive\n\n"))
        await asyncio.sleep(0.05)


async def endless_event(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING)
    while True:
        await call.send(chunked(b"a" * 65536))


BROKEN: dict[str, tuple[Script, AttemptEnd]] = {
    "cut": (cut, AttemptEnd.TRUNCATED),
    "reset": (reset, AttemptEnd.TRUNCATED),
    "cut inside an event": (cut_inside_an_event, AttemptEnd.TRUNCATED),
    "a bad chunk size": (bad_chunk_size, AttemptEnd.MALFORMED),
    "no terminator": (no_terminator, AttemptEnd.TRUNCATED),
    "a stall": (stalled, AttemptEnd.STALLED),
    "a stall with comments": (stalled_with_comments, AttemptEnd.STALLED),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_stream_ends_with_one_error_event_and_no_proper_end(tmp_path: Path, fault: str) -> None:
    script, end = BROKEN[fault]
    async with backends(script, good_stream) as (sick, healthy):
        async with gateway(
            tmp_path, routes(sick.url, stall="400ms" if end is AttemptEnd.STALLED else "60s")
        ) as running:
            client = await connect(running.port)
            await client.send(post(chat()))
            beginning = await client.reader.readuntil(b'"b"')
            sick.calls[0].passed.set()
            client.unread(beginning)
            answer = await client.answer()
            assert answer.status == 200
            assert not answer.complete
            assert b"[DONE]" not in answer.raw
            assert answer.raw.endswith(b"\r\n")
            assert not answer.raw.endswith(LAST_CHUNK)
            assert last_event(answer)["error"]["code"] == "stream_broken"
            assert answer.body.count(b'"error"') == 1
            assert (ROLE + WORDS) in answer.body
            last = await running.settled()
            assert (last.outcome, len(last.attempts), last.content_events) == (Outcome.TRUNCATED, 1, 2)
            assert running.records.attempts == [(running.backend().id, end)]
            assert running.backend().pool.idle == (fault == "no terminator")
            assert not healthy.calls


async def test_an_event_over_the_limit_blames_nobody_and_is_not_asked_for_again(tmp_path: Path) -> None:
    async with backends(endless_event, endless_event) as (one, other):
        async with gateway(tmp_path, routes(one.url, other.url), max_event=200_000) as running:
            for _ in range(4):
                answer = await ask(running.port, chat())
                error = last_event(answer)["error"]
                assert (error["code"], "200000 bytes" in error["message"]) == ("answer_too_large", True)
                assert not answer.complete
                assert b"[DONE]" not in answer.raw
            await running.settled(4)
            assert {end for _, end in running.records.attempts} == {AttemptEnd.TOO_LARGE}
            assert {each.outcome for each in running.records.exchanges} == {Outcome.TOO_LARGE}
            assert (len(running.records.attempts), running.records.retries) == (4, [])


async def test_an_event_just_below_the_limit_passes_and_is_read(tmp_path: Path) -> None:
    ids = b",".join([b"123456"] * 500_000)
    long = event("long", prompt_token_ids="@").replace(b'"@"', b"[" + ids + b"]")

    async def script(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE, long), chunked(event("b", "stop"), USAGE, DONE) + LAST_CHUNK)

    async with backends(script) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert answer.complete
        assert answer.body == ROLE + long + event("b", "stop") + DONE
        exchange = await running.settled()
        assert (exchange.outcome, exchange.content_events, exchange.output_tokens) == (Outcome.OK, 2, 3)


async def close_without_last_chunk(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, chunked(event("c", "stop"), DONE))
    call.close()


async def finish_without_done(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, chunked(event("c", "stop")), LAST_CHUNK)


async def done_without_blank_line(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, chunked(event("c", "stop"), b"data: [DONE]\n"), LAST_CHUNK)


async def surplus_after_done(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, chunked(event("c", "stop"), DONE), chunked(event("surplus")))
    await call.until_gone()


async def never_ends_its_framing(call: Call) -> None:
    await call.send(STREAM_HEAD, BEGINNING, chunked(event("c", "stop"), DONE))
    await call.until_gone()


async def close_delimited(call: Call) -> None:
    head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    await call.send(head, ROLE + WORDS + event("c", "stop") + DONE)
    call.close()


WHOLE: dict[str, tuple[Script, int]] = {
    "closed after [DONE]": (close_without_last_chunk, 0),
    "a finish reason without [DONE]": (finish_without_done, 1),
    "[DONE] without its blank line": (done_without_blank_line, 1),
    "bytes after [DONE]": (surplus_after_done, 0),
    "framing that never ends": (never_ends_its_framing, 0),
    "an HTTP/1.0 stream": (close_delimited, 0),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_a_whole_stream_is_a_success_however_its_connection_ends(tmp_path: Path, case: str) -> None:
    script, kept = WHOLE[case]
    async with backends(script) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert answer.complete
        assert answer.body.startswith(ROLE + WORDS + event("c", "stop"))
        assert b"surplus" not in answer.body
        last = await running.settled()
        assert (last.outcome, last.content_events) == (Outcome.OK, 3)
        assert running.backend().pool.idle == kept


async def test_an_error_event_in_the_middle_is_passed_through_and_ends_the_answer(tmp_path: Path) -> None:
    """vLLM whose engine core died: an error event, then [DONE], a clean end, status 200. It is no proper end here."""
    error = b'data: {"error": {"message": "EngineCore", "type": "InternalServerError", "param": null, "code": 500}}\n\n'

    async def dying(call: Call) -> None:
        await call.send(STREAM_HEAD, BEGINNING, chunked(error), chunked(DONE) + LAST_CHUNK)

    async with backends(dying) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert answer.body == ROLE + WORDS + error
        assert not answer.complete
        last = await running.settled()
        assert last.outcome is Outcome.TRUNCATED
        assert last.reason == "the engine ended the stream with an error, code 500"
        assert running.records.attempts[0][1] is AttemptEnd.ERROR_EVENT


@pytest.mark.parametrize("asked", [True, False], ids=["asked for by the client", "asked for by the gateway"])
async def test_the_usage_chunk_reaches_whoever_asked_for_it(tmp_path: Path, asked: bool) -> None:
    async with backends(good_stream) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        body = chat(stream_options={"include_usage": True}) if asked else chat()
        answer = await ask(running.port, body)
        expected = ROLE + WORDS + event("c", "stop") + (USAGE if asked else b"") + DONE
        assert answer.body == expected
        assert fake.calls[0].json["stream_options"] == {"include_usage": True}
        last = await running.settled()
        assert (last.prompt_tokens, last.output_tokens) == (7, 3)


async def test_a_thousand_events_in_one_read_are_one_arrival(tmp_path: Path) -> None:
    async def burst(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE, *[event("x")] * 1000, event("y", "stop"), DONE) + LAST_CHUNK)

    async with backends(burst) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert answer.body == ROLE + event("x") * 1000 + event("y", "stop") + DONE
        last = await running.settled()
        assert last.content_events == 1001
        assert sum(last.itl) == 1000


async def test_two_choices_need_two_finish_reasons(tmp_path: Path) -> None:
    async def one_of_two(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(event("a"), event("b", index=1), event("c", "stop")), LAST_CHUNK)

    async with backends(one_of_two) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert not (await ask(running.port, chat(n=2))).complete
        assert (await running.settled()).outcome is Outcome.TRUNCATED


async def test_a_slow_reader_holds_back_its_own_engine_and_nothing_else(tmp_path: Path) -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.send(STREAM_HEAD, chunked(ROLE))
        piece = chunked(event("x" * 900)) * 16
        for _ in range(800):
            await call.send(piece)
            sent += 1
        await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)

    clock = HandClock()
    async with backends(flood) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        client = await connect(running.port, receive_buffer=16 * 1024)
        await client.send(post(chat(), headers="connection: close\r\n"))
        await eventually(lambda: any(c.transport.get_write_buffer_size() > 0 for c in running.connections))
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 800
        await pass_slowly(clock, running, 5.0)
        assert max(c.transport.get_write_buffer_size() for c in running.connections) <= 256 * 1024
        rest = await client.answer_rest()
        assert rest.endswith(DONE + b"\r\n" + LAST_CHUNK)
        assert rest.count(b'xxx"') == 800 * 16
        client.close()
        last = await running.settled()
        assert last.outcome is Outcome.OK
        assert sum(last.itl[10:]) == 0, "the pause was the client's, not the engine's"


async def test_a_reader_without_progress_is_cut_off_and_nobody_is_blamed(tmp_path: Path) -> None:
    async def flood(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE))
        while not call.writer.is_closing():
            await call.send(chunked(event("x" * 900)) * 16)

    async with backends(flood) as (fake,):
        async with gateway(tmp_path, routes(fake.url), limits=Limits(write_silence=0.5)) as running:
            client = await connect(running.port)
            await client.send(post(chat()))
            last = await running.settled()
            assert last.outcome is Outcome.CLIENT_GONE
            assert await client.closed()
            client.close()


async def test_a_client_that_half_closes_is_still_answered(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(call: Call) -> None:
        await release.wait()
        await call.send(STREAM_HEAD, BEGINNING)
        await asyncio.sleep(0.3)
        await call.send(chunked(event("c", "stop"), DONE) + LAST_CHUNK)

    async with backends(slow) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat()))
        client.writer.write_eof()
        await eventually(lambda: bool(fake.calls))
        await asyncio.sleep(0.3)
        release.set()
        answer = await client.answer()
        client.close()
        assert answer.status == 200
        assert answer.complete
        assert answer.body.replace(b":\n\n", b"") == ROLE + WORDS + event("c", "stop") + DONE
        assert (await running.settled()).outcome is Outcome.OK


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["prefill", "stream", "document"])
async def test_a_client_that_hangs_up_stops_its_engine(tmp_path: Path, when: str, how: str) -> None:
    async def slow(call: Call) -> None:
        if when == "stream":
            await call.send(STREAM_HEAD, BEGINNING)
        await call.until_gone()

    async with backends(slow) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat(stream=when != "document")))
        await eventually(lambda: bool(fake.calls))
        if when == "stream":
            await client.reader.readuntil(b'"b"')
        getattr(client, how)()
        await eventually(fake.calls[0].gone.is_set)
        last = await running.settled()
        assert last.outcome is Outcome.CLIENT_GONE
        assert running.records.attempts[0][1] is AttemptEnd.CLIENT_GONE


async def test_a_hundred_clients_hang_up_at_random_moments_and_nothing_is_left(tmp_path: Path) -> None:
    async def steady(call: Call) -> None:
        await call.send(STREAM_HEAD)
        for _ in range(20_000):  # a minute and more: only who is stopped ends early
            await call.send(chunked(event("x")))
            await asyncio.sleep(0.005)
        await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)

    async def visit(port: int, seconds: float) -> None:
        client = await connect(port)
        await client.send(post(chat()))
        await asyncio.sleep(seconds)
        client.close()

    async with backends(steady, steady) as fakes, gateway(tmp_path, routes(*(f.url for f in fakes))) as running:
        await asyncio.gather(*(visit(running.port, 0.007 * i) for i in range(100)))
        await running.quiet()
        await eventually(lambda: len(running.records.exchanges) == 100)


async def test_an_engine_that_knows_no_n_gives_a_whole_stream_of_one_choice(tmp_path: Path) -> None:
    async def script(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE, event("a"), event("b", "stop")) + LAST_CHUNK)

    async with backends(script) as (engine,), gateway(tmp_path, routes(engine.url)) as running:
        answer = await ask(running.port, chat(n=2))
        assert answer.complete
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (await running.settled()).outcome is Outcome.OK
