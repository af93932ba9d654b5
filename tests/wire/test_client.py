"""A client's connection: one request at a time, bounds that are held, and a service that breaks never makes it hang."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast

import pytest

from gateway.errors import GatewayError
from gateway.wire.client import Client
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers
from gateway.wire.outbox import Outbox
from gateway.wire.phase import LAST_CALL
from gateway.wire.pipeline import MAX_PIPELINED
from gateway.wire.service import Request, Writer
from gateway.wire.slices import Slices
from tests.waiting import DEADLINE, eventually
from tests.wire.playbook import Browser

pytestmark = pytest.mark.anyio
GET = b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n"


class Breaking:
    """A service that answers until it comes to the step, and the call of it, at which it breaks."""

    draining = False
    last_call = LAST_CALL

    def __init__(self, **breaks: int) -> None:
        self._left = breaks

    def _step(self, name: str) -> None:
        self._left[name] = self._left.get(name, 1000) - 1
        if self._left[name] < 0:
            raise RuntimeError(f"{name} is broken")

    def authorize(self, head: Head) -> object:
        self._step("authorize")
        return None

    def serve(self, request: Request, client: Writer) -> None:
        self._step("serve")
        client.reply(200, b"", b"served")
        client.finish()

    def refuse(self, error: GatewayError, target: bytes, headers: Headers, received: float, client: Writer) -> None:
        self._step("refuse")
        client.reply(error.status, b"", error.code.encode())
        client.finish()


@asynccontextmanager
async def listening(service: Breaking) -> AsyncIterator[tuple[Callable[[bytes], Any], set[object]]]:
    """Serve; give what sends bytes and returns all that comes until the connection closes, and the connections."""
    held: set[object] = set()

    def client() -> asyncio.Protocol:
        made = Client(service, held, Limits(), Outbox(), Slices(monotonic), clock=monotonic)
        return cast(asyncio.Protocol, made)

    async def ask(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            async with asyncio.timeout(DEADLINE):
                return await reader.read()
        finally:
            writer.close()

    server = await asyncio.get_running_loop().create_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield ask, held
    finally:
        server.close()


async def test_a_request_that_breaks_as_it_is_served_closes_its_connection() -> None:
    async with listening(Breaking(serve=0)) as (ask, held):
        assert await ask(GET) == b""
        await eventually(lambda: not held)


async def test_one_that_breaks_when_its_turn_comes_closes_its_connection_after_the_answers_before_it() -> None:
    async with listening(Breaking(serve=2)) as (ask, held):
        assert (await ask(4 * GET)).count(b"served") == 2
        await eventually(lambda: not held)


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_head_that_breaks_the_service_is_no_fault_of_the_client(before: int) -> None:
    async with listening(Breaking(authorize=before)) as (ask, held):
        answers = await ask((before + 1) * GET)
        assert answers.count(b"served") == before
        assert answers.endswith(b"internal_error")
        assert answers.count(b"HTTP/1.1 500 ") == 1
        await eventually(lambda: not held)


@pytest.mark.parametrize("data", [b"\x00\r\n\r\n", GET + b"\x00\r\n\r\n"], ids=["at once", "in its turn"])
async def test_a_refusal_that_breaks_closes_the_connection(data: bytes) -> None:
    async with listening(Breaking(refuse=0)) as (ask, held):
        assert (await ask(data)).count(b"served") == data.count(b"GET")
        await eventually(lambda: not held)


CHAT = b"/v1/chat/completions"
POST = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n" % CHAT
SERVED = [("authorize", CHAT), ("serve", CHAT, b"{}")]
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"


async def test_wherever_a_request_is_cut_it_is_served_once_it_is_whole() -> None:
    request = POST + b"{}"
    for cut in range(1, len(request)):
        browser = Browser()
        assert browser.says(request[:cut], request[cut:]) == SERVED
        assert await browser.answer() == ANSWER
        assert not browser.wire.is_closing()


async def test_who_is_calling_is_asked_before_the_body_comes() -> None:
    browser = Browser()
    assert browser.says(POST) == SERVED[:1]
    assert browser.says(b"{}") == SERVED[1:]


async def test_the_next_requests_wait_their_turn_and_nothing_is_read_meanwhile() -> None:
    browser = Browser()
    assert browser.says(3 * (POST + b"{}")) == [*SERVED, *2 * SERVED[:1]]
    assert not browser.wire.reading
    for left in (2, 1):
        assert await browser.answer() == ANSWER
        await eventually(lambda: bool(browser.calls()))
        assert browser.wire.reading == (left == 1)
    assert await browser.answer() == ANSWER


async def test_too_many_requests_at_once_are_refused_after_those_before() -> None:
    browser = Browser()
    calls = browser.says(POST + b"{}", *[POST + b"{}"] * (MAX_PIPELINED + 1))
    assert [call[0] for call in calls].count("serve") == 1
    served = 1
    while not any(call[0] == "refuse" for call in calls):
        await browser.answer()
        await asyncio.sleep(0)
        calls = browser.calls()
        served += sum(call[0] == "serve" for call in calls)
    assert served == MAX_PIPELINED + 1
    assert calls == [("refuse", "bad_http")]


async def test_a_client_that_waits_for_it_is_told_to_send_its_body() -> None:
    browser = Browser()
    browser.says(POST.replace(b"host: a", b"host: a\r\nexpect: 100-continue"))
    assert await browser.reads() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert browser.says(b"{}") == SERVED[1:]


@pytest.mark.parametrize("head", [b"connection: close\r\n", b""], ids=["asked for", "draining"])
async def test_an_answer_says_that_it_is_the_last(head: bytes) -> None:
    browser = Browser()
    browser.draining = not head
    browser.says(POST.replace(b"host: a\r\n", b"host: a\r\n" + head) + b"{}")
    assert b"\r\nconnection: close\r\n" in await browser.answer()
    assert browser.wire.closed


@pytest.mark.parametrize(
    ("read", "code"),
    [
        (b"\x16\x03\x01\r\n\r\n", "bad_http"),
        (b"GET /health HTTP/1.1\r\n\r\n", "bad_http"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", "target_too_long"),
        (b"GET /health HTTP/1.1\r\na: " + b"x" * 40_000, "headers_too_large"),
        (POST.replace(b"length: 2", b"length: 99999999999"), "request_too_large"),
    ],
)
async def test_what_is_refused_is_answered_and_the_connection_ends(read: bytes, code: str) -> None:
    browser = Browser()
    assert browser.says(read)[-1] == ("refuse", code)
    assert (await browser.reads()).endswith(code.encode())
    assert browser.says(POST + b"{}") == [], "nothing more is read"
    browser.waits(60.0)
    assert browser.wire.is_closing()


@pytest.mark.parametrize(("sent", "seconds"), [(b"POST ", 10.0), (POST + b"{", 10.0)], ids=["head", "body"])
async def test_a_request_that_does_not_come_in_time_is_refused(sent: bytes, seconds: float) -> None:
    browser = Browser()
    browser.says(sent)
    assert browser.waits(seconds - 0.1) == []
    assert browser.waits(0.2) == [("refuse", "request_timeout")]


async def test_a_connection_that_asks_nothing_ends() -> None:
    for seconds, asks in ((10.0, False), (75.0, True)):
        browser = Browser()
        if asks:
            browser.says(POST + b"{}")
            await browser.answer()
        browser.waits(seconds - 0.1)
        assert not browser.wire.is_closing()
        browser.waits(0.2)
        assert browser.wire.aborted


async def test_a_client_that_goes_is_told_to_its_request() -> None:
    browser = Browser()
    browser.says(POST + b"{}")
    browser.client.connection_lost(None)
    assert browser.calls() == [("gone",)]
    assert not browser.connections


async def test_a_client_that_reads_slowly_pauses_its_answer_and_one_that_reads_nothing_ends() -> None:
    browser = Browser()
    browser.says(POST + b"{}")
    browser.wire.unsent = 100
    browser.client.pause_writing()
    assert browser.calls() == [("pause",)]
    browser.waits(59.0)
    browser.wire.unsent = 50
    browser.waits(2.0)
    assert not browser.wire.is_closing(), "it has read on"
    browser.client.resume_writing()
    assert browser.calls() == [("resume",)]
    browser.client.pause_writing()
    browser.waits(61.0)
    assert browser.wire.aborted


async def test_a_request_in_progress_is_given_up_when_the_time_to_drain_is_over() -> None:
    browser = Browser()
    browser.says(POST + b"{}")
    browser.client.give_up(GatewayError("over"))
    assert browser.calls() == [("give up", "internal_error")]
    assert browser.wire.closed


async def test_a_connection_too_many_is_turned_away() -> None:
    held: set[object] = set()
    first, second = (Browser(Limits(connections=1), held) for _ in range(2))
    assert b" 503 " in await second.reads()
    assert (first.wire.closed, second.wire.closed) == (False, True)
    assert held == {first.client}


async def test_a_connection_tells_what_it_does() -> None:
    browser = Browser()
    assert repr(browser.client) == "<Client fresh queued 0>"
    browser.says(2 * (POST + b"{}"))
    assert repr(browser.client) == "<Client busy queued 1>"
