"""TLS handshakes are connections: they count, they have an end, and they take nothing from those who serve."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gateway.control.drain import DrainTimes
from gateway.settings import Tls
from gateway.wire.guard import Limits
from tests.e2e.certificates import known, sign
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, chat, gateway, post, routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio
SHORT = Limits(head_seconds=1.0)
PATIENT = Limits(head_seconds=600.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    sign(folder)
    return folder


@asynccontextmanager
async def tls_gateway(folder: Path, files: Path, limits: Limits, drain: float = 5.0) -> AsyncIterator[Running]:
    tls = Tls(files / "server.pem", files / "server.key")
    async with (
        backends(good) as (fake,),
        gateway(
            folder, routes(fake.url), tls=tls, admin_tls=tls, limits=limits, drain=DrainTimes(0.0, drain)
        ) as running,
    ):
        yield running


async def silent(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


def ended(running: Running, listener: str = "data") -> dict[str, int]:
    """How handshakes have ended, without the ways in which none has."""
    counts = running.app.files.handshakes()
    return {result: count for (name, result), count in counts.items() if name == listener and count}


def admin_port(running: Running) -> int:
    return int(running.admin.rsplit(":", 1)[1])


async def test_a_client_that_never_finishes_is_closed_in_time_and_counted(tmp_path: Path, files: Path) -> None:
    async with tls_gateway(tmp_path, files, SHORT) as running:
        for listener, port in (("data", running.port), ("admin", admin_port(running))):
            idle = [await silent(port) for _ in range(3)]
            idle[1][1].write(b"\x16\x03\x01")
            if listener == "data":
                await eventually(lambda: len(running.connections) + ended(running).get("timed_out", 0) == 3)
            for reader, writer in idle:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            await eventually(lambda listener=listener: ended(running, listener) == {"timed_out": 3})  # type: ignore[misc]
        await eventually(lambda: not running.connections)
        async with patient_client(verify=known(files, certificate=False), trust_env=False) as web:
            text = (await web.get(f"{running.admin}/metrics")).text
        assert 'tidegate_tls_handshakes_total{listener="data",result="timed_out"} 3.0' in text
        assert 'tidegate_tls_handshakes_total{listener="admin",result="timed_out"} 3.0' in text


async def test_handshakes_are_among_the_connections_that_may_be(tmp_path: Path, files: Path) -> None:
    async with tls_gateway(tmp_path, files, Limits(connections=4, head_seconds=600.0)) as running:
        idle = [await silent(running.port) for _ in range(4)]
        await eventually(lambda: len(running.connections) == 4)
        async with patient_client(verify=known(files, certificate=False), trust_env=False) as web:
            with pytest.raises(httpx.TransportError):
                await web.get(f"{running.data}/ready")
            assert ended(running) == {"turned_away": 1}
            for _, writer in idle:
                writer.close()
            await eventually(lambda: not running.connections)
            assert ended(running) == {"turned_away": 1, "gone": 4}
            assert (await web.get(f"{running.data}/ready")).status_code == 200
            assert len(running.connections) == 1
        await eventually(lambda: not running.connections)


async def test_a_probe_of_the_admin_listener_gets_in_among_a_crowd_of_handshakes(tmp_path: Path, files: Path) -> None:
    async with tls_gateway(tmp_path, files, PATIENT) as running:
        idle = [await silent(admin_port(running)) for _ in range(200)]
        async with patient_client(verify=known(files, certificate=False), trust_env=False) as web:
            assert (await web.get(f"{running.admin}/health")).status_code == 200
        for _, writer in idle:
            writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def junk(writer: asyncio.StreamWriter) -> None:
    writer.write(post(chat()))


async def half_a_hello(writer: asyncio.StreamWriter) -> None:
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    writer.write(outgoing.read()[:100])
    writer.write_eof()


async def hello_and_away(writer: asyncio.StreamWriter) -> None:
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    writer.write(outgoing.read())
    writer.close()


@pytest.mark.parametrize("misbehave", [reset, junk, half_a_hello, hello_and_away])
async def test_counts_go_back_however_a_handshake_ends(
    tmp_path: Path, files: Path, misbehave: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> None:
    async with tls_gateway(tmp_path, files, PATIENT) as running:
        writers = []
        for _ in range(20):
            _, writer = await silent(running.port)
            writers.append(writer)
            await misbehave(writer)
        await eventually(lambda: sum(ended(running).values()) == 20)
        await eventually(lambda: not running.connections)
        assert set(ended(running)) <= {"gone", "failed"}
        for writer in writers:
            writer.close()
        async with patient_client(verify=known(files, certificate=False), trust_env=False) as web:
            assert (await web.post(f"{running.data}/v1/chat/completions", json=chat())).status_code == 200


async def by_hand(
    files: Path, reader: asyncio.StreamReader, send: Callable[[bytes], Awaitable[None]]
) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """Shake hands, but for the last bytes, which are still to be sent; return TLS, what it reads and what it writes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = known(files, certificate=False).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    while True:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            await send(outgoing.read())
            incoming.write(await reader.read(65536))
        else:
            return client, incoming, outgoing


async def test_what_comes_with_the_end_of_a_handshake_is_served(tmp_path: Path, files: Path) -> None:
    """A client may send its request in one segment with the last bytes of its handshake."""
    async with tls_gateway(tmp_path, files, PATIENT) as running:
        reader, writer = await silent(running.port)

        async def whole(hello: bytes) -> None:
            writer.write(hello)

        client, incoming, outgoing = await by_hand(files, reader, whole)
        client.write(post(chat(stream=False)) + post(chat(stream=False)))
        writer.write(outgoing.read())
        got = b""
        while got.count(b"HTTP/1.1 200 OK") < 2:
            incoming.write(await reader.read(65536))
            try:
                while True:
                    got += client.read(65536)
            except ssl.SSLWantReadError:
                pass
        writer.close()


async def test_a_hello_in_many_pieces_is_a_hello(tmp_path: Path, files: Path) -> None:
    async with tls_gateway(tmp_path, files, PATIENT) as running:
        reader, writer = await silent(running.port)

        async def in_pieces(hello: bytes) -> None:
            for byte in hello:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)

        _, _, outgoing = await by_hand(files, reader, in_pieces)
        writer.write(outgoing.read())
        await eventually(lambda: ended(running) == {"done": 1})
        writer.close()


async def test_a_drain_waits_for_no_handshake(tmp_path: Path, files: Path) -> None:
    async with tls_gateway(tmp_path, files, PATIENT, drain=600.0) as running:
        _, writer = await silent(running.port)
        await eventually(lambda: len(running.connections) == 1)
        running.app.stop()
        await running.task
        writer.close()
