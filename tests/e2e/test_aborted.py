"""vLLM ends what it generates with `finish_reason: "abort"` and `[DONE]` when it is told to stop: no whole answer."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from tests.e2e.fakes import (
    DONE,
    JSON_ANSWER,
    LAST_CHUNK,
    ROLE,
    STREAM_HEAD,
    USAGE,
    Call,
    Script,
    backends,
    chunked,
    event,
    good,
    whole,
)
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect

pytestmark = pytest.mark.anyio
CAPTURES = Path(__file__).parents[1] / "captures" / "vllm-crash"
ABORTED = JSON_ANSWER.replace(b'"stop"', b'"abort"')


async def aborted_at_once(call: Call) -> None:
    """An engine's answer to what it had not begun when it was told to stop."""
    await call.send(STREAM_HEAD, chunked(ROLE, event("", "abort"), USAGE, DONE) + LAST_CHUNK)


async def aborted_document(call: Call) -> None:
    await call.send(whole(b"200 OK", ABORTED))


async def aborted_long_document(call: Call) -> None:
    """Longer than what the gateway holds."""
    await call.send(whole(b"200 OK", ABORTED.replace(b'"ok"', b'"%b"' % (b"long " * 50_000))))


@pytest.mark.parametrize("reason", ["abort", "error"])
@pytest.mark.parametrize("stripped", [True, False], ids=["usage unasked", "usage asked"])
async def test_an_aborted_stream_ends_with_an_error_event(tmp_path: Path, reason: str, stripped: bool) -> None:
    async def script(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE, event("a")))
        await call.passed.wait()
        await call.send(chunked(event("b", reason), USAGE, DONE) + LAST_CHUNK)

    options = {} if stripped else {"stream_options": {"include_usage": True}}
    async with backends(script, good) as (sick, healthy), gateway(tmp_path, routes(sick.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat() | options))
        client.unread(await client.reader.readuntil(b'"a"'))
        sick.calls[0].passed.set()
        answer = await client.answer()
        assert b'"stream_broken"' in answer.body
        assert b"[DONE]" not in answer.body
        assert not answer.complete
        last = await running.settled()
        assert (last.outcome, last.reason) == (Outcome.TRUNCATED, "the engine aborted the answer")
        assert [end for _, end in running.records.attempts] == [AttemptEnd.TRUNCATED]
        assert not healthy.calls


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
async def test_what_was_aborted_before_the_client_had_any_of_it_is_asked_for_elsewhere(
    tmp_path: Path, stream: bool
) -> None:
    script = aborted_at_once if stream else aborted_document
    async with backends(script) as (sick,), backends(good) as (healthy,):
        async with gateway(tmp_path, routes(sick.url, healthy.url)) as running:
            count = 0
            while not sick.calls:  # of two at once, each backend is asked by one
                for answer in await asyncio.gather(*(ask(running.port, chat(stream)) for _ in range(2))):
                    assert (answer.status, answer.complete, b'"abort"' in answer.body) == (200, True, False)
                count += 2
                assert (await running.settled(count)).outcome is Outcome.OK
            ends = {end for backend, end in running.records.attempts if backend.endswith(str(sick.port))}
            assert ends == {AttemptEnd.CLOSED_EARLY if stream else AttemptEnd.TRUNCATED}


@pytest.mark.parametrize("script", [aborted_at_once, aborted_document])
async def test_without_another_backend_it_is_502(tmp_path: Path, script: object) -> None:
    chosen = aborted_at_once if script is aborted_at_once else aborted_document
    async with backends(chosen) as (sick,), gateway(tmp_path, routes(sick.url)) as running:
        answer = await ask(running.port, chat(script is aborted_at_once))
        assert (answer.status, answer.json["error"]["code"]) == (502, "backend_error")
        assert (await running.settled()).outcome is Outcome.BACKEND_ERROR


async def test_a_long_document_that_was_aborted_is_cut_off(tmp_path: Path) -> None:
    async with backends(aborted_long_document) as (sick,), gateway(tmp_path, routes(sick.url)) as running:
        await ask(running.port, chat(stream=False))
        assert (await running.settled()).outcome is Outcome.TRUNCATED


async def test_a_text_that_tells_of_an_abort_is_whole(tmp_path: Path) -> None:
    told = event('{"finish_reason":"abort"}') + event("", "stop")

    async def script(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE, told, DONE) + LAST_CHUNK)

    async with backends(script) as (engine,), gateway(tmp_path, routes(engine.url)) as running:
        assert (await ask(running.port, chat())).complete
        assert (await running.settled()).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/completions", "completions_sigterm_stream"),
        ("/v1/chat/completions", "chat_sigterm"),
        ("/v1/messages", "messages_sigterm"),
        ("/v1/messages", "messages_stream_sigterm_waiting"),
        ("/v1/responses", "responses_sigterm"),
        ("/v1/responses", "responses_stream_sigterm_waiting"),
    ],
)
async def test_what_a_vllm_sent_that_was_told_to_stop_is_no_good_answer(tmp_path: Path, path: str, name: str) -> None:
    stream = "stream" in name
    async with backends(captured(name)) as (engine,), gateway(tmp_path, routes(engine.url)) as running:
        answer = await ask(running.port, asked(path, stream=stream), path=path)
        assert answer.status == 502
        assert (await running.settled()).outcome is Outcome.BACKEND_ERROR


async def test_a_message_that_was_given_up_in_its_middle_ends_with_an_error_event(tmp_path: Path) -> None:
    _, _, body = (CAPTURES / "messages_stream_sigterm.txt").read_bytes().partition(b"\r\n\r\n")
    output, mark, end = body.partition(b"event: content_block_stop")

    async def script(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(output))
        await call.passed.wait()
        await call.send(chunked(mark + end) + LAST_CHUNK)

    async with backends(script) as (engine,), gateway(tmp_path, routes(engine.url)) as running:
        client = await connect(running.port)
        await client.send(post(asked("/v1/messages", stream=True), path="/v1/messages"))
        client.unread(await client.reader.readuntil(b"content_block_delta"))
        engine.calls[0].passed.set()
        answer = await client.answer()
        assert answer.status == 200
        assert b"event: error\n" in answer.body
        assert b"message_stop" not in answer.body
        assert not answer.complete
        assert (await running.settled()).outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("given_up", [True, False])
async def test_a_long_message_without_a_stop_reason_is_cut_off(tmp_path: Path, given_up: bool) -> None:
    """Longer than what the gateway holds."""
    said = {
        "type": "message",
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "long " * 50_000}],
        "usage": {"input_tokens": 1, "output_tokens": 50_000},
    }
    if given_up:
        del said["stop_reason"]

    async def script(call: Call) -> None:
        await call.send(whole(b"200 OK", json.dumps(said).encode()))

    async with backends(script) as (engine,), gateway(tmp_path, routes(engine.url)) as running:
        await ask(running.port, asked("/v1/messages"), path="/v1/messages")
        assert (await running.settled()).outcome is (Outcome.TRUNCATED if given_up else Outcome.OK)


def captured(name: str) -> Script:
    """Return the script of an engine that sends what a vLLM has sent."""
    _, _, body = (CAPTURES / f"{name}.txt").read_bytes().partition(b"\r\n\r\n")

    async def script(call: Call) -> None:
        if "stream" in name:
            await call.send(STREAM_HEAD, chunked(body) + LAST_CHUNK)
        else:
            await call.send(whole(b"200 OK", body))

    return script


def asked(path: str, *, stream: bool = False) -> dict[str, Any]:
    said: dict[str, Any] = {
        "/v1/completions": {"prompt": "hi"},
        "/v1/responses": {"input": "hi"},
    }.get(path, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9})
    return {"model": "m", "stream": stream, **said}
