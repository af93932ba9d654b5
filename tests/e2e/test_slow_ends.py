"""Clients that read slowly, and whose connection ends with their answer."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.exchange import Outcome
from gateway.wire.client import Client
from tests.e2e.fakes import JSON_ANSWER, Call, FakeBackend, backends, whole
from tests.e2e.harness import Running, chat, gateway, post, routes
from tests.waiting import DEADLINE, HandClock, eventually

pytestmark = pytest.mark.anyio
LONG = JSON_ANSWER[:-1] + b',"more":"' + b"x" * 115_000 + b'"}'
FIRST = 66_000
"""Bytes that neither kernel holds all of, and that are just too many to be held until the document is whole."""


async def long_document(call: Call) -> None:
    answer = whole(b"200 OK", LONG)
    await call.send(answer[:FIRST])
    await call.passed.wait()
    await call.send(answer[FIRST:])


class SlowClient:
    """Reads a little at a time; neither kernel holds much of what it has not read."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._socket = socket.socket()
        self._socket.settimeout(0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.read = b""

    async def __aenter__(self) -> "SlowClient":
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._running.port))
        await eventually(lambda: len(self._running.connections) == 1)
        kernel = self.connection.transport.get_extra_info("socket")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def connection(self) -> Client:
        return self._running.connections[0]

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def until_answered(self, call: Call) -> None:
        """Wait until all that is left of the answer lies with the gateway."""
        connection = self.connection
        await self.takes(1)
        call.passed.set()
        await eventually(lambda: not connection.busy)
        assert connection.transport.get_write_buffer_size() > 20_000

    async def takes(self, size: int) -> None:
        """Read so many bytes."""
        until = len(self.read) + size
        async with asyncio.timeout(DEADLINE):
            while len(self.read) < until:
                assert await self._more(), "the connection has been closed"

    async def rest(self) -> bytes:
        """Read to the end; return all that was read."""
        async with asyncio.timeout(DEADLINE):
            while await self._more():
                pass
        return self.read

    async def _more(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        self.read += data
        return data


ENDINGS = ["its client wants it so", "the gateway drains", "it has been idle"]


async def asks(running: Running, client: SlowClient, fake: FakeBackend, ending: str) -> None:
    """Ask for something long, on a connection that ends so, and wait until the rest of it waits for the client."""
    running.app.data.gateway.draining = ending == "the gateway drains"
    await client.send(post(chat(stream=False), headers="connection: close\r\n" if ending == ENDINGS[0] else ""))
    await eventually(lambda: len(fake.calls) == 1)
    await client.until_answered(fake.calls[0])


@pytest.mark.parametrize("ending", ENDINGS)
async def test_all_of_an_answer_is_sent_before_its_connection_closes(tmp_path: Path, ending: str) -> None:
    clock = HandClock()
    async with backends(long_document) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        async with SlowClient(running) as client:
            await asks(running, client, fake, ending)
            for _ in range(3):
                clock.advance(50.0)  # more than the deadline of any head or idle connection, in all
                await asyncio.sleep(0.3)  # deadlines are looked at every tenth of a second
                await client.takes(8192)
            assert (await client.rest()).endswith(LONG)
        assert (await running.settled()).outcome is Outcome.OK


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_client_that_does_not_read_the_end_of_its_answer_is_let_go(tmp_path: Path, ending: str) -> None:
    clock = HandClock()
    async with backends(long_document) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        async with SlowClient(running) as client:
            await asks(running, client, fake, ending)
            await clock.passes(50.0, lambda: not running.connections)
            assert not (await client.rest()).endswith(LONG)
        await running.settled()
