"""A client's connection whose service breaks: it is told, or the connection closes; it never hangs."""

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
from gateway.wire.service import Request, Writer
from gateway.wire.slices import Slices
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio
GET = b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n"


class Breaking:
    """A service that answers until it comes to the step, and the call of it, at which it breaks."""

    draining = False

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
