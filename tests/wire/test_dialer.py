"""A connection is made to whatever address of a name answers."""

import socket
from time import monotonic

import pytest

from gateway.wire.dialer import Dialer
from gateway.wire.idle_connections import IdleConnections
from gateway.wire.names import Name
from gateway.wire.outbox import Outbox
from tests.wire.dialling import before_dialling, listening

pytestmark = pytest.mark.anyio


def dialer(port: int, *addresses: str) -> Dialer:
    name = Name("engine", port, monotonic, lambda *_: addresses)
    owner = IdleConnections(name, monotonic)
    return Dialer(name, port, tls=None, owner=owner, outbox=Outbox(), clock=monotonic)


async def test_a_connection_knows_its_address_and_how_long_it_took() -> None:
    async with listening() as port:
        made = dialer(port, "127.0.0.1")
        upstream = await made.open()
        assert (upstream.address, upstream.busy, upstream.reuse.reused) == ("127.0.0.1", False, False)
        assert upstream.reuse.connect_seconds > 0.0
        assert repr(made) == f"<Dialer engine:{port} opened 1>"
        upstream.transport.close()


async def test_the_kernel_holds_little_of_what_an_engine_says() -> None:
    async with listening() as port:
        upstream = await dialer(port, "127.0.0.1").open()
        connection: socket.socket = upstream.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * 64 * 1024
        upstream.transport.close()


async def test_an_address_that_was_passed_over_comes_last_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = list[str]()

    async def refuses(address: str) -> None:
        dialled.append(address)
        if address == "127.0.0.2":
            raise ConnectionRefusedError(address)

    before_dialling(monkeypatch, refuses)
    async with listening() as port:
        made = dialer(port, "127.0.0.2", "127.0.0.1")
        for _ in range(2):
            (await made.open()).transport.close()
    assert dialled == ["127.0.0.2", "127.0.0.1", "127.0.0.1"]


async def test_the_last_failure_is_raised() -> None:
    with pytest.raises(ConnectionRefusedError):
        await dialer(1, "127.0.0.1").open()
