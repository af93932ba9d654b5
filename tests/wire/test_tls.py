"""Handshakes whose surroundings break: the connection is closed, and counts no longer."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.wire.tls import Credentials, Door, Handshake, Handshaken
from tests.e2e.certificates import known, sign
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    sign(folder)
    return folder


class Fails(asyncio.Protocol):
    """What cannot begin to serve."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("it cannot be served")


class NoContext(Credentials):
    """Credentials that break when they are used."""

    @property
    def context(self) -> ssl.SSLContext:
        raise RuntimeError("there is no context")

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        pass


def not_made() -> asyncio.Protocol:
    raise RuntimeError("nothing serves it")


@asynccontextmanager
async def listening(door: Door, serve: Callable[[], asyncio.Protocol]) -> AsyncIterator[tuple[int, set[object]]]:
    held: set[object] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Handshake(door, held, lambda _: True, serve), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], held
    finally:
        server.close()


@pytest.mark.parametrize("serve", [Fails, not_made])
async def test_what_cannot_be_served_after_its_handshake_is_closed(
    files: Path, serve: Callable[[], asyncio.Protocol]
) -> None:
    credentials = Credentials(files / "server.pem", files / "server.key", None)
    credentials.load()
    door = Door(credentials, DEADLINE)
    async with listening(door, serve) as (port, held):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=known(files, certificate=False))
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert +door.ended == {Handshaken.DONE: 1}
        assert not held


async def test_a_handshake_that_breaks_is_a_failed_one(files: Path) -> None:
    door = Door(NoContext(files / "server.pem", files / "server.key", None), DEADLINE)
    async with listening(door, Fails) as (port, held):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=known(files, certificate=False))
        await eventually(lambda: not held)
        assert +door.ended == {Handshaken.FAILED: 1}
