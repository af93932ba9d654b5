"""Answers that cannot be read, or that break the gateway's own code: each request ends, and its slot is free."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.proxy import plain
from gateway.proxy.attempt import Attempt
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.relay import StreamRelay
from gateway.proxy.request_lifecycle import RequestLifecycle
from gateway.wire.answer import AnswerHead, Loss, Sink
from tests.e2e.fakes import JSON_ANSWER, ROLE, STREAM_HEAD, Call, Script, backends, chunked, event, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.raw_client import connect
from tests.wire.test_sse import UNREADABLE_ERRORS

pytestmark = pytest.mark.anyio


def routes(url: str) -> str:
    """Return routes in which one request that keeps its slot would be in the way of the next."""
    return json.dumps({"models": {"m": {"backends": [{"url": url, "max_concurrency": 1}]}}})


async def is_well(running: Running, count: int) -> None:
    """See that nothing is left of a request, and that the next one is answered."""
    await running.settled(count)
    assert (await ask(running.port, chat())).complete
    await running.settled(count + 1)


def first_then_good(script: Script) -> Script:
    served = 0

    async def serve(call: Call) -> None:
        nonlocal served
        served += 1
        await (script(call) if served == 1 else good(call))

    return serve


@pytest.mark.parametrize("framed", ["a length", "the end of the connection", "chunks, on and on"])
@pytest.mark.parametrize("error", UNREADABLE_ERRORS)
async def test_an_error_object_that_cannot_be_read_is_an_error(tmp_path: Path, error: str, framed: str) -> None:
    body = UNREADABLE_ERRORS[error]

    async def answer(call: Call) -> None:
        if framed == "a length":
            await call.send(whole(b"200 OK", body))
        elif framed == "the end of the connection":
            await call.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + body)
            call.close()
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            await call.send(head, chunked(body, b" " * plain.MAX_HELD), b"0\r\n\r\n")

    async with backends(first_then_good(answer)) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        told = await ask(running.port, chat(stream=False))
        assert told.status in {500, 502}
        last = await running.settled()
        assert last.outcome is Outcome.BACKEND_ERROR
        assert running.records.attempts[-1][1] in {AttemptEnd.ERROR_EVENT, AttemptEnd.TRUNCATED}
        await is_well(running, 1)


@pytest.mark.parametrize("error", UNREADABLE_ERRORS)
@pytest.mark.parametrize("begun", [False, True])
async def test_an_error_event_that_cannot_be_read_is_an_error(tmp_path: Path, error: str, begun: bool) -> None:
    async def answer(call: Call) -> None:
        before = chunked(ROLE, event("a")) if begun else b""
        await call.send(STREAM_HEAD + before + chunked(b"data: " + UNREADABLE_ERRORS[error] + b"\n\n"))

    async with backends(first_then_good(answer)) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        told = await ask(running.port, chat())
        assert (told.status, told.complete) == ((200, False) if begun else (500, True))
        assert (await running.settled()).outcome is (Outcome.TRUNCATED if begun else Outcome.BACKEND_ERROR)
        assert running.records.attempts[-1][1] is AttemptEnd.ERROR_EVENT
        await is_well(running, 1)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
async def test_unreadable_documents_of_every_dialect_come_to_an_end(tmp_path: Path, path: str, status: bytes) -> None:
    documents = [b'{"id":"resp_1","text":%b}' % (b"[" * 20_000 + b"]" * 20_000), b'{"id":"\xff","message":"\xff"}']

    async def answer(call: Call) -> None:
        await call.send(whole(status, documents[len(fake.calls) - 1]))

    async with backends(answer) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for _ in documents:
            told = await ask(running.port, {"model": "m", "input": "hi", "messages": []}, path=path)
            assert told.status == int(status[:3])
        await running.settled(len(documents))


def breaks(*_: object, **__: object) -> Any:
    raise ValueError("out of order")


async def document(call: Call) -> None:
    await call.send(whole(b"200 OK", JSON_ANSWER))


async def pieces(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")


async def until_closed(call: Call) -> None:
    await call.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + JSON_ANSWER)
    call.close()


async def cut(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
    call.close()


async def bad_framing(call: Call) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    await call.send(head + b"1\r\n{\r\n", b"zz\r\n")


async def refusal(call: Call) -> None:
    await call.send(whole(b"400 Bad Request", b"{}"))


async def stream(call: Call) -> None:
    await call.send(STREAM_HEAD + chunked(ROLE, event("a")))


class Breaking(Sink):
    """A sink of the gateway's one of whose methods breaks; calls between compiled classes cannot be patched."""

    def __init__(self, sink: Sink, method: str, on: bytes = b"") -> None:
        self._sink, self._method, self._on = sink, method, on

    def _breaks(self, method: str, pieces: list[bytes]) -> None:
        if method == self._method and self._on in b"".join(pieces):
            breaks()

    def data(self, pieces: list[bytes]) -> None:
        self._breaks("data", pieces)
        self._sink.data(pieces)

    def chunk(self, data: bytes, piece: bytes) -> bool:
        self._breaks("data", [piece])
        return self._sink.chunk(data, piece)

    def last(self, pieces: list[bytes]) -> None:
        self._breaks("last", pieces)
        self._sink.last(pieces)

    def lost(self, loss: Loss, detail: str) -> None:
        self._breaks("lost", [])
        self._sink.lost(loss, detail)


def break_at(patch: pytest.MonkeyPatch, owner: type[Attempt | Sink], method: str, on: bytes = b"") -> None:
    """Have a method of an attempt break, or one of the sinks of a class where `on` is in what it gets."""
    if owner is Attempt:
        patch.setattr(owner, method, breaks)
        return
    read = Attempt.head

    def head(attempt: Attempt, answer: AnswerHead) -> Sink | None:
        sink = read(attempt, answer)
        return Breaking(sink, method, on) if isinstance(sink, owner) else sink

    patch.setattr(Attempt, "head", head)


BROKEN: dict[str, tuple[Script, type[Attempt | Sink], str]] = {
    "the head": (document, Attempt, "head"),
    "a piece": (pieces, PlainRelay, "data"),
    "the end": (document, PlainRelay, "last"),
    "the end by closing": (until_closed, PlainRelay, "last"),
    "a cut": (cut, PlainRelay, "lost"),
    "bad framing": (bad_framing, PlainRelay, "lost"),
    "a refusal": (refusal, Refusal, "last"),
    "an event": (stream, StreamRelay, "data"),
}


@pytest.mark.parametrize("where", BROKEN)
async def test_an_exception_of_ours_ends_the_request_and_gives_its_slot_back(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, owner, method = BROKEN[where]
    async with backends(first_then_good(script)) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        with monkeypatch.context() as patch:
            break_at(patch, owner, method)
            told = await ask(running.port, chat(stream=script is stream))
            assert (told.status, told.json["error"]["type"]) == (502, "backend_error")
        assert (await running.settled()).outcome is Outcome.BACKEND_ERROR
        assert [end for _, end in running.records.attempts] == [AttemptEnd.MALFORMED]
        await is_well(running, 1)


async def test_an_exception_of_ours_in_a_stream_that_has_begun_breaks_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(call: Call) -> None:
        await call.send(STREAM_HEAD + chunked(ROLE, event("a")))
        await call.passed.wait()
        await call.send(chunked(event("b")))

    async with backends(first_then_good(two)) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        break_at(monkeypatch, StreamRelay, "data", b'"b"')
        client = await connect(running.port)
        await client.send(post(chat()))
        client.unread(await client.reader.readuntil(b'"a"'))
        fake.calls[0].passed.set()
        told = await client.answer()
        client.close()
        assert (told.complete, b"its log says why" in told.body) == (False, True)
        assert (await running.settled()).outcome is Outcome.TRUNCATED


async def test_an_exception_of_ours_before_the_first_attempt_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        with monkeypatch.context() as patch:
            patch.setattr(RequestLifecycle, "start", breaks)
            assert (await ask(running.port, chat(stream=False))).status == 500
        assert (await running.settled()).outcome is Outcome.INTERNAL
        await is_well(running, 1)
