"""What the kernel knows of a connection."""

import asyncio
import socket
from typing import Any

from gateway.wire.sockets import holds_more, is_readable, peer_of, was_reset
from tests.waiting import until


def transport(**known: Any) -> asyncio.Transport:
    """Return a transport that tells this of its connection."""
    return asyncio.Transport(known)


def test_the_peer_is_an_address_where_there_is_one() -> None:
    assert peer_of(transport(peername=("::1", 80, 0, 0))) == "::1"
    assert peer_of(transport(peername="")) == "", "as a Unix socket has it"
    assert peer_of(transport()) == ""


def test_what_has_come_and_was_not_read_is_seen(ends: tuple[socket.socket, socket.socket]) -> None:
    client, served = ends
    assert not is_readable(served)
    assert not holds_more(transport(socket=served))
    client.send(b"x")
    until(lambda: is_readable(served), "a byte")
    assert holds_more(transport(socket=served))


def test_an_end_is_something_to_read_and_no_reset(ends: tuple[socket.socket, socket.socket]) -> None:
    client, served = ends
    client.shutdown(socket.SHUT_WR)
    until(lambda: is_readable(served), "the client's end")
    assert not was_reset(transport(socket=served))


def test_a_client_that_is_gone_resets_what_is_written_to_it(ends: tuple[socket.socket, socket.socket]) -> None:
    client, served = ends
    client.close()
    served.send(b"x")
    until(lambda: was_reset(transport(socket=served)), "a reset")


def test_a_transport_without_a_socket_tells_nothing() -> None:
    assert not was_reset(transport())
    assert not holds_more(transport())
