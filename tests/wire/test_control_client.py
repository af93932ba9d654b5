"""Asking one engine over real sockets: one connection that is kept, and every way in which an engine may fail."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from gateway.wire.control_client import ControlClient
from gateway.wire.control_connection import ControlError, SilentError
from gateway.wire.names import FRESH
from loadtest.bench.listening import Listener
from tests.e2e.certificates import known, sign
from tests.waiting import DEADLINE, HandClock, eventually

pytestmark = pytest.mark.anyio
REQUEST = b"GET /health HTTP/1.1\r\nhost: engine\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
REFUSED = r"(?i)refused|connect call failed"
Turn = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Engine:
    """An engine that serves each request by the next of its turns, and the rest by the last one.

    `connections` counts those that asked anything, `ended` those that the gateway closed, `requests` what was asked.
    """

    def __init__(self, *turns: Turn) -> None:
        self._turns = list(turns)
        self._listener = Listener(self)
        self.connections = self.requests = self.ended = 0
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted = False
        try:
            while not writer.is_closing():
                assert await reader.readuntil(b"\r\n\r\n") == REQUEST
                self.connections += not counted
                counted = True
                self.requests += 1
                turn = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
                await turn(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended += 1
            raise

    @asynccontextmanager
    async def asked(
        self, *, tls: tuple[ssl.SSLContext, ssl.SSLContext] | tuple[None, None] = (None, None)
    ) -> AsyncIterator[ControlClient]:
        """Serve, and give a client until the block ends; `tls` is the engine's and the client's."""
        self.port = await self._listener.start(tls=tls[0])
        client = ControlClient("127.0.0.1", self.port, tls=tls[1], clock=monotonic)
        try:
            yield client
        finally:
            client.close()
            await self._listener.stop()


async def well(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def well_in_chunks(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n")


async def well_and_closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    writer.close()


async def well_in_http10(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nhi")
    writer.close()


async def well_and_half_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    writer.write_eof()
    await reader.read()


async def well_and_more(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"and more")


async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def half_closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def breaks_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK[:-1])
    writer.close()


async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)


async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x15\x03\x01\x00\x02\x02\x46")


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.01)  # the pace of its bytes


async def ask(client: ControlClient, patience: float = DEADLINE, total: float = DEADLINE) -> bytes | None:
    return (await client.ask(REQUEST, most=64, patience=patience, until=monotonic() + total)).body


async def ask_until_it_fails(client: ControlClient) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            await ask(client)


@pytest.mark.parametrize("turn", [well, well_in_chunks])
async def test_one_connection_serves_one_question_after_the_other(turn: Turn) -> None:
    engine = Engine(turn)
    async with engine.asked() as client:
        for _ in range(5):
            assert await ask(client) == b"hi"
        assert (client.opened, engine.connections, engine.requests) == (1, 1, 5)
        assert repr(client) == f"<ControlClient 127.0.0.1:{engine.port} kept>"


@pytest.mark.parametrize("turn", [well_and_closes, well_in_http10, well_and_half_closes, well_and_more])
async def test_an_engine_that_ends_its_connection_is_asked_on_another(turn: Turn) -> None:
    engine = Engine(turn)
    async with engine.asked() as client:
        for _ in range(5):
            assert await ask(client) == b"hi"
        assert client.opened == 5


@pytest.mark.parametrize("turn", [closes, half_closes, resets])
async def test_a_kept_connection_that_turns_out_closed_costs_no_answer(turn: Turn) -> None:
    engine = Engine(well, turn, well)
    async with engine.asked() as client:
        for _ in range(3):
            assert await ask(client) == b"hi"
        assert (client.opened, engine.requests) == (2, 4)


async def test_it_is_tried_again_only_once() -> None:
    engine = Engine(well, closes)
    async with engine.asked() as client:
        await ask(client)
        with pytest.raises(ControlError, match="the connection was closed"):
            await ask(client)
        assert (client.opened, engine.requests) == (2, 3)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (closes, "the connection was closed"),
        (half_closes, "the connection was closed"),
        (resets, "the connection was closed"),
        (breaks_off, "the connection was closed"),
        (garbage, "the answer is not proper HTTP: Expected HTTP/"),
    ],
)
async def test_a_new_connection_that_fails_is_the_end(turn: Turn, words: str) -> None:
    engine = Engine(turn, well)
    async with engine.asked() as client:
        with pytest.raises(ControlError, match=words):
            await ask(client)
        assert engine.requests == 1
        assert await ask(client) == b"hi"


async def test_an_engine_that_breaks_off_is_not_asked_again_even_on_a_kept_connection() -> None:
    engine = Engine(well, breaks_off)
    async with engine.asked() as client:
        await ask(client)
        with pytest.raises(ControlError, match="the connection was closed"):
            await ask(client)
        assert engine.requests == 2


async def test_one_that_is_silent_is_given_up_and_its_connection_closed() -> None:
    engine = Engine(says_nothing, well)
    async with engine.asked() as client:
        with pytest.raises(SilentError, match="no answer in time"):
            await ask(client, 0.05)
        await eventually(lambda: engine.ended == 1)
        assert await ask(client) == b"hi"


async def test_one_that_drips_is_given_up_when_its_time_is_over() -> None:
    engine = Engine(drips, well)
    async with engine.asked() as client:
        with pytest.raises(SilentError, match="no answer in time"):
            await ask(client, total=0.1)
        assert await ask(client) == b"hi"


async def test_a_question_that_is_given_up_closes_its_connection() -> None:
    engine = Engine(drips, well)
    async with engine.asked() as client:
        asking = asyncio.create_task(ask(client))
        await eventually(lambda: engine.requests == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: engine.ended == 1)
        assert await ask(client) == b"hi"


async def test_questions_at_the_same_time_have_connections_of_their_own_of_which_one_is_kept() -> None:
    engine = Engine(well)
    async with engine.asked() as client:
        assert await asyncio.gather(*(ask(client) for _ in range(4))) == [b"hi"] * 4
        await eventually(lambda: engine.ended == 3)
        assert await ask(client) == b"hi"
        assert client.opened == 4


async def test_one_that_is_closed_keeps_nothing() -> None:
    answering = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering.wait()
        await well(reader, writer)

    engine = Engine(well, waits)
    async with engine.asked() as client:
        await ask(client)
        asking = asyncio.create_task(ask(client))
        await eventually(lambda: engine.requests == 2)
        client.close()
        answering.set()
        assert await asking == b"hi"
        await eventually(lambda: engine.ended == 1)
        assert repr(client) == f"<ControlClient 127.0.0.1:{engine.port} idle>"


async def test_where_nobody_listens_it_says_so() -> None:
    engine = Engine(well)
    async with engine.asked() as client:
        pass
    with pytest.raises(ControlError, match=REFUSED):
        await ask(client)


async def test_a_name_that_is_not_found_is_an_error_and_one_that_is_looked_for_is_silence() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    client = ControlClient("engine", 80, tls=None, clock=monotonic, lookup=unknown)
    with pytest.raises(ControlError, match="Name or service not known"):
        await ask(client)

    found = Event()

    def slow(_host: str, _port: int) -> list[str]:
        found.wait(DEADLINE)
        return ["127.0.0.1"]

    client = ControlClient("engine", 80, tls=None, clock=monotonic, lookup=slow)
    try:
        with pytest.raises(SilentError, match=r"no connection within 0\.05 s"):
            await ask(client, 0.05)
    finally:
        found.set()


async def test_an_address_that_the_name_has_no_more_is_left() -> None:
    clock, addresses, looks = HandClock(monotonic()), ["127.0.0.1"], []

    def look_up(_host: str, _port: int) -> list[str]:
        looks.append(addresses[0])
        return [*addresses]

    engine = Engine(well)
    async with engine.asked() as client:
        named = ControlClient("engine", client.port, tls=None, clock=clock, lookup=look_up)
        assert await ask(named) == b"hi"
        addresses[0] = "127.0.0.2"
        clock.advance(FRESH)
        assert await ask(named) == b"hi", "the look has just begun"
        with pytest.raises(ControlError, match=REFUSED):
            await ask_until_it_fails(named)
        assert looks == ["127.0.0.1", "127.0.0.2"]
        await eventually(lambda: engine.ended == 1)
        named.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_is_spoken_with_whom_the_authorities_vouch_for(tmp_path: Path, trusted: bool) -> None:
    sign(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    client = known(tmp_path, certificate=False) if trusted else ssl.create_default_context()
    async with Engine(well).asked(tls=(server, client)) as asked:
        if trusted:
            assert [await ask(asked), await ask(asked)] == [b"hi", b"hi"]
            assert asked.opened == 1
        else:
            with pytest.raises(ControlError, match="CERTIFICATE_VERIFY_FAILED"):
                await ask(asked)
