"""Failures before the first byte of an answer: the client notices nothing while another backend can serve."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd, Outcome
from tests.e2e.fakes import (
    DONE,
    JSON_ANSWER,
    LAST_CHUNK,
    ROLE,
    STREAM_HEAD,
    Call,
    Script,
    backends,
    chunked,
    closed_at_once,
    good,
    reset_at_once,
    whole,
)
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
ERROR = b'{"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}'


async def half_a_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-le")
    call.close()


async def junk(call: Call) -> None:
    await call.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await call.until_gone()


async def length_and_chunked(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    await call.until_gone()


async def redirect(call: Call) -> None:
    await call.send(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    await call.until_gone()


async def upgrade(call: Call) -> None:
    await call.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
    await call.until_gone()


async def huge_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\nx-filler: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n")
    await call.until_gone()


async def many_fields(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\n" + b"x-a: 1\r\n" * 101 + b"content-length: 0\r\n\r\n")
    await call.until_gone()


async def endless_early_hints(call: Call) -> None:
    await call.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 9 + whole(b"200 OK", JSON_ANSWER))
    await call.until_gone()


async def head_only(call: Call) -> None:
    await call.send(STREAM_HEAD)
    call.close()


async def role_only(call: Call) -> None:
    await call.send(STREAM_HEAD, chunked(ROLE))
    call.close()


async def empty_stream(call: Call) -> None:
    await call.send(STREAM_HEAD, LAST_CHUNK)


async def server_error(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", ERROR))


async def unavailable(call: Call) -> None:
    await call.send(whole(b"503 Service Unavailable", ERROR, b"retry-after: 99999999\r\n"))


async def saturated(call: Call) -> None:
    await call.send(whole(b"429 Too Many Requests", ERROR, b"retry-after: 7\r\n"))


async def compressed(call: Call) -> None:
    await call.send(whole(b"200 OK", b"\x1f\x8b123", b"content-encoding: gzip\r\n"))
    await call.until_gone()


async def error_event_first(call: Call) -> None:
    await call.send(STREAM_HEAD, chunked(b"data: " + ERROR + b"\n\n", DONE) + LAST_CHUNK)


async def short_body(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n" + JSON_ANSWER)
    call.close()


async def html_page(call: Call) -> None:
    await call.send(whole(b"200 OK", b"<!doctype html><title>nginx</title>").replace(b"application/json", b"text/html"))


async def empty_answer(call: Call) -> None:
    await call.send(whole(b"200 OK", b""))


async def no_content(call: Call) -> None:
    await call.send(b"HTTP/1.1 204 No Content\r\n\r\n")


async def busy_event_first(call: Call) -> None:
    event = b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"x"}}\n\n'
    await call.send(STREAM_HEAD, chunked(event), LAST_CHUNK)


async def rate_limit_document(call: Call) -> None:
    await call.send(whole(b"200 OK", b'{"error": {"message": "x", "code": "rate_limit_exceeded"}}'))


RETRIED = {
    "closed at once": (closed_at_once, AttemptEnd.CLOSED_EARLY),
    "reset at once": (reset_at_once, AttemptEnd.CLOSED_EARLY),
    "closed inside the head": (half_a_head, AttemptEnd.CLOSED_EARLY),
    "junk instead of HTTP": (junk, AttemptEnd.MALFORMED),
    "Content-Length with chunked": (length_and_chunked, AttemptEnd.MALFORMED),
    "a redirect": (redirect, AttemptEnd.MALFORMED),
    "an unasked upgrade": (upgrade, AttemptEnd.MALFORMED),
    "a head over 64 KiB": (huge_head, AttemptEnd.MALFORMED),
    "a head of 101 fields": (many_fields, AttemptEnd.MALFORMED),
    "nine informational answers": (endless_early_hints, AttemptEnd.MALFORMED),
    "a stream closed after its head": (head_only, AttemptEnd.CLOSED_EARLY),
    "a stream closed after the role": (role_only, AttemptEnd.CLOSED_EARLY),
    "a stream without events": (empty_stream, AttemptEnd.CLOSED_EARLY),
    "500": (server_error, AttemptEnd.SERVER_ERROR),
    "503": (unavailable, AttemptEnd.SERVER_ERROR),
    "429": (saturated, AttemptEnd.SATURATED),
    "an answer compressed unasked": (compressed, AttemptEnd.MALFORMED),
    "an error as first event": (error_event_first, AttemptEnd.ERROR_EVENT),
    "an HTML page": (html_page, AttemptEnd.MALFORMED),
    "an empty answer": (empty_answer, AttemptEnd.MALFORMED),
    "204": (no_content, AttemptEnd.MALFORMED),
    "busy as first event, by its type": (busy_event_first, AttemptEnd.SATURATED),
    "busy as a whole answer, by its code": (rate_limit_document, AttemptEnd.SATURATED),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
@pytest.mark.parametrize("fault", RETRIED)
async def test_a_fault_before_the_first_byte_is_retried_elsewhere(tmp_path: Path, fault: str, stream: bool) -> None:
    bad, end = RETRIED[fault]
    async with backends(bad, good) as (sick, healthy), gateway(tmp_path, routes(sick.url, healthy.url)) as running:
        asked = 0
        while not sick.calls:
            answer = await ask(running.port, chat(stream))
            asked += 1
            assert answer.status == 200
            assert answer.complete
            assert (answer.body.endswith(DONE)) is stream
        last = await running.settled(asked)
        assert last.outcome is Outcome.OK
        assert len(last.attempts) == 2
        assert answer.headers["x-gateway-attempts"] == "2"
        assert answer.headers["x-gateway-backend"].endswith(str(healthy.port))
        assert [e for _, e in running.records.attempts].count(end) == 1


class Starved(HandClock):
    """A clock that jumps at one of its readings: there the process was held up."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1

    def __call__(self) -> float:
        self.left -= 1
        if self.left == 0:
            self.advance(5.0)
        return self.now


async def test_a_pause_of_the_process_at_any_moment_of_a_failure_is_counted_once(tmp_path: Path) -> None:
    clock, failed = Starved(), 0
    async with AsyncExitStack() as stack:

        async def fails_first(call: Call) -> None:
            nonlocal failed
            if failed < len(running.records.exchanges) + 1:
                failed += 1
                clock.left = failed
                call.close()
            else:
                await good(call)

        fakes = await stack.enter_async_context(backends(fails_first, fails_first))
        text = routes(*(fake.url for fake in fakes), first_token="1h", total="2h")
        running = await stack.enter_async_context(gateway(tmp_path, text, now=clock))
        for asked in range(1, 16):
            assert (await ask(running.port, chat())).status == 200
            assert len((await running.settled(asked)).attempts) == 2


ALONE: dict[str, tuple[Callable[[Call], Awaitable[None]], int, str]] = {
    "closed at once": (closed_at_once, 502, "backend_error"),
    "junk instead of HTTP": (junk, 502, "backend_error"),
    "a redirect": (redirect, 502, "backend_error"),
    "a stream closed after its head": (head_only, 502, "backend_error"),
    "an answer compressed unasked": (compressed, 502, "backend_error"),
    "a document cut short": (short_body, 502, "backend_error"),
}


@pytest.mark.parametrize("fault", ALONE)
async def test_without_another_backend_the_client_gets_a_clear_error(tmp_path: Path, fault: str) -> None:
    script, status, code = ALONE[fault]
    async with backends(script) as (sick,), gateway(tmp_path, routes(sick.url)) as running:
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert sick.url.removeprefix("http://") in answer.json["error"]["message"]
        assert answer.headers["x-request-id"]
        assert (await running.settled()).outcome is Outcome.BACKEND_ERROR
        assert len(sick.calls) == 1


@pytest.mark.parametrize(("script", "status"), [(server_error, 500), (unavailable, 503), (saturated, 429)])
async def test_when_all_fail_the_last_real_status_is_passed_on(tmp_path: Path, script: Script, status: int) -> None:
    async with backends(script, script, script, script) as fakes:
        spec = json.loads(routes(*(fake.url for fake in fakes)))
        spec["classes"] = {"standard": {"priority": 10, "max_queue_wait": "300ms"}}  # in vain, where all say 429
        async with gateway(tmp_path, json.dumps(spec)) as running:
            answer = await ask(running.port, chat())
            assert answer.status == status
            assert answer.body == ERROR
            attempts = len((await running.settled()).attempts)
            assert attempts == sum(len(fake.calls) for fake in fakes) == 3
            if status == 503:
                assert answer.headers["retry-after"] == "60"
            if status == 429:
                assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [b"400 Bad Request", b"404 Not Found", b"413 Too Large", b"422 X", b"501 N"])
async def test_the_clients_own_errors_pass_unchanged(tmp_path: Path, status: bytes) -> None:
    async def refuse(call: Call) -> None:
        await call.send(whole(status, b'{"error":{"message":"no","code":400}}', b"x-engine: yes\r\n"))

    async with backends(refuse, refuse) as fakes, gateway(tmp_path, routes(*(f.url for f in fakes))) as running:
        answer = await ask(running.port, chat())
        assert answer.status == int(status[:3])
        assert answer.body == b'{"error":{"message":"no","code":400}}'
        assert answer.headers["x-engine"] == "yes"
        assert (await running.settled()).outcome is Outcome.CLIENT_ERROR
        assert len(fakes[0].calls) + len(fakes[1].calls) == 1


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
async def test_a_backend_that_rejects_our_key_is_our_fault_and_stays_hidden(tmp_path: Path, status: bytes) -> None:
    async def reject(call: Call) -> None:
        await call.send(whole(status, b'{"error":"Unauthorized, key sk-ours"}'))

    async with backends(reject, good) as fakes, gateway(tmp_path, routes(fakes[0].url)) as running:
        answer = await ask(running.port, chat())
        assert answer.status == 502
        assert b"sk-ours" not in answer.raw
        await running.settled()
        assert running.records.attempts[0][1] is AttemptEnd.UNAUTHORIZED


async def test_an_error_event_with_a_clients_code_becomes_that_status(tmp_path: Path) -> None:
    async def too_long(call: Call) -> None:
        error = b'{"error": {"message": "too long", "type": "BadRequestError", "param": null, "code": 400}}'
        await call.send(STREAM_HEAD, chunked(b"data: " + error + b"\n\n", DONE) + LAST_CHUNK)

    async with backends(too_long, too_long) as fakes, gateway(tmp_path, routes(*(f.url for f in fakes))) as running:
        answer = await ask(running.port, chat())
        assert answer.status == 400
        assert answer.json["error"]["message"] == "too long"
        assert (await running.settled()).outcome is Outcome.CLIENT_ERROR
        assert len(running.records.attempts) == 1


async def test_nobody_listening_is_503_with_retry_after(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        url = fake.url
    async with gateway(tmp_path, routes(url), wait_ready=False) as running:
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
        assert answer.headers["retry-after"] == "1"
        assert (await running.settled()).outcome is Outcome.NO_BACKEND


async def test_a_dead_engine_is_left_out_while_its_probe_fails(tmp_path: Path) -> None:
    async with backends(good, good) as (dead, healthy), gateway(tmp_path, routes(dead.url, healthy.url)) as running:
        dead.health = b"503 Service Unavailable"
        await eventually(lambda: running.backend(0).readiness.state == "not_ready")
        for _ in range(20):
            assert (await ask(running.port, chat(stream=False))).status == 200
        assert not dead.calls
        dead.health = b"200 OK"
        await running.ready()


async def test_informational_answers_are_swallowed(tmp_path: Path) -> None:
    async def hints(call: Call) -> None:
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 7)
        await call.send(whole(b"200 OK", JSON_ANSWER))

    async with backends(hints) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=False))
        assert (answer.status, answer.body) == (200, JSON_ANSWER)
        assert b"HTTP/1.1 10" not in answer.raw
        await running.settled()


@pytest.mark.parametrize("whole_json", [True, False])
async def test_an_http10_answer_counts_only_when_it_is_whole(tmp_path: Path, whole_json: bool) -> None:
    async def old(call: Call) -> None:
        body = JSON_ANSWER if whole_json else JSON_ANSWER[:-9]
        await call.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + body)
        call.close()

    async with backends(old) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=False))
        assert answer.status == (200 if whole_json else 502)
        await running.settled()


async def test_a_stream_answered_with_a_document_is_passed_as_one(tmp_path: Path) -> None:
    async def document(call: Call) -> None:
        await call.send(whole(b"200 OK", JSON_ANSWER))

    async with backends(document) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=True))
        assert (answer.status, answer.body) == (200, JSON_ANSWER)
        last = await running.settled()
        assert (last.stream, last.ttft, last.output_tokens) == (False, None, 3)


async def test_time_for_all_attempts_is_the_requests_own(tmp_path: Path) -> None:
    async def silent(call: Call) -> None:
        await call.until_gone()

    async with backends(silent, silent) as fakes:
        text = routes(*(fake.url for fake in fakes), first_token="300ms")
        async with gateway(tmp_path, text) as running:
            answer = await ask(running.port, chat())
            assert (answer.status, answer.json["error"]["code"]) == (504, "first_token_timeout")
            assert len((await running.settled()).attempts) == 2
            short = await ask(running.port, chat(stream=False), headers="x-request-timeout: 0.3\r\n")
            assert (short.status, short.json["error"]["code"]) == (504, "deadline_exceeded")
            last = await running.settled(2)
            assert (len(last.attempts), last.outcome) == (1, Outcome.CLIENT_TIMEOUT)


async def test_the_first_token_is_awaited_elsewhere_when_one_backend_is_silent(tmp_path: Path) -> None:
    clock = HandClock()

    async def silent(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(b": keep-alive\n\n"), chunked(ROLE))
        gone = asyncio.ensure_future(call.until_gone())
        await clock.passes(61.0, gone.done)

    async with backends(silent, good) as (sick, healthy):
        async with gateway(tmp_path, routes(sick.url, healthy.url, first_token="60s"), now=clock) as running:
            asked = 0
            while not sick.calls:
                answer = await ask(running.port, chat())
                asked += 1
                assert answer.body.endswith(DONE)
            assert len((await running.settled(asked)).attempts) == 2
            assert b"keep-alive" not in answer.body


async def test_keep_alive_connections_are_reused(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        for turn in range(20):
            await client.send(post(chat(stream=turn % 2 == 0)))
            answer = await client.answer()
            assert answer.complete
        client.close()
        await running.settled(20)
        assert fake.connections == 1
        assert running.backend().pool.idle == 1
