"""Requests that come just as a connection, or the listener, is about to close: none that has begun to come is lost."""

import asyncio
import ctypes
import errno
import os
import socket
import ssl
import struct
from math import inf
from pathlib import Path

import pytest

from gateway import listeners
from gateway.settings import Tls
from gateway.wire.guard import Limits
from gateway.wire.tls import Handshake
from tests.e2e.certificates import sign
from tests.e2e.fakes import backends, good
from tests.e2e.harness import chat, gateway, post, routes
from tests.e2e.raw_client import RawClient, connect
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


@pytest.mark.parametrize("drains", [False, True], ids=["serving", "draining"])
@pytest.mark.parametrize("served", [0, 1], ids=["fresh", "idle"])
async def test_a_request_that_lies_in_the_kernel_when_its_connection_has_been_idle_too_long_is_answered(
    tmp_path: Path, served: int, drains: bool
) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await eventually(lambda: len(running.connections) == 1)
        for _ in range(served):
            await client.send(post(chat(stream=False)))
            assert (await client.answer()).status == 200
        (connection,) = running.connections
        if drains:
            running.app.data.gateway.draining = True
            connection.shutdown()
        # Nothing else runs between the two: deadlines are looked at before the loop reads.
        os.write(client.writer.get_extra_info("socket").fileno(), post(chat(stream=False)))
        connection.check(inf)
        answer = await client.answer()
        assert (answer.status, answer.headers.get("connection")) == (200, "close" if drains else None)
        client.close()
        await running.settled(served + 1)


async def test_a_connection_that_is_idle_too_long_is_closed(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), limits=Limits(keep_alive=0.0)) as running:
        client = await connect(running.port)
        await client.send(post(chat(stream=False)))
        assert (await client.answer()).status == 200
        assert await client.closed()
        client.close()


async def test_tls_that_begins_at_the_last_moment_is_spoken(tmp_path: Path) -> None:
    sign(tmp_path)
    files = Tls(tmp_path / "server.pem", tmp_path / "server.key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    trusting.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spoken = trusting.wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        spoken.do_handshake()
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), tls=files) as running:
        client = await connect(running.port)
        await eventually(lambda: len(running.connections) == 1)
        (handshake,) = running.connections
        assert isinstance(handshake, Handshake)
        os.write(client.writer.get_extra_info("socket").fileno(), outgoing.read())
        handshake._end()
        async with asyncio.timeout(DEADLINE):
            incoming.write(await client.reader.read(65536))
        spoken.do_handshake()
        client.close()


def hold_answers(client: socket.socket) -> None:
    """Keep from a client what its peer's kernel says: its handshake does not end."""
    instructions = ctypes.create_string_buffer(_DROP_ALL)
    try:
        client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(instructions)))
    except PermissionError:
        pytest.skip("this system lets nobody filter packets")


async def test_a_connect_in_progress_as_the_listener_closes_is_served_and_later_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_HANDSHAKES_SECONDS", DEADLINE)
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        with socket.socket() as early:
            early.settimeout(0)
            hold_answers(early)
            assert early.connect_ex(("127.0.0.1", running.port)) == errno.EINPROGRESS
            running.app.stop()
            async with asyncio.timeout(DEADLINE):
                while True:
                    with socket.socket() as late:
                        late.settimeout(DEADLINE)
                        if late.connect_ex(("127.0.0.1", running.port)) == errno.ECONNREFUSED:
                            break
                    await asyncio.sleep(0.01)
            early.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            client = RawClient(*await asyncio.open_connection(sock=await established(early)))
            await client.send(post(chat(stream=False)))
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            client.close()
        await running.settled()


async def established(connecting: socket.socket) -> socket.socket:
    """Wait until a handshake has ended."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_writer(connecting, done.set)
    async with asyncio.timeout(DEADLINE):
        await done.wait()
    loop.remove_writer(connecting)
    assert connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    return connecting
