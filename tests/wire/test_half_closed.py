"""A client that has closed its own side is probed twice, and answered on as long as it is there."""

import asyncio
import socket
from typing import cast

import pytest

from gateway.wire.half_closed import HalfClosed
from tests.waiting import eventually
from tests.wire.playbook import Wire

pytestmark = pytest.mark.anyio


class Connection:
    """A connection whose answer has got as far as `probe` says."""

    def __init__(self, *probes: bytes | None, peer: socket.socket | None = None) -> None:
        self.wire = Wire()
        self.wire.socket = peer
        self.transport = cast(asyncio.Transport, self.wire)
        self.half_closed = HalfClosed(self, iter(probes).__next__)

    def write(self, data: bytes) -> None:
        self.wire.write(data)


async def test_it_is_answered_on_and_probed_once_more_a_while_later() -> None:
    connection = Connection(b": first\n\n", b": second\n\n")
    assert connection.half_closed.probe(100.0)
    connection.half_closed.check(100.05)
    assert connection.wire.took() == b": first\n\n"
    connection.half_closed.check(100.1)
    assert connection.wire.took() == b": second\n\n"
    connection.half_closed.check(200.0)
    assert connection.wire.took() == b""


async def test_where_no_bytes_mean_nothing_it_is_taken_for_gone() -> None:
    connection = Connection(None)
    assert not connection.half_closed.probe(100.0)
    assert connection.wire.took() == b""


async def test_a_client_that_is_gone_answers_with_a_reset_and_its_connection_ends(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, served = ends
    connection = Connection(b"x", peer=served)
    client.close()
    served.send(b"x")
    connection.half_closed.probe(100.0)
    await eventually(lambda: connection.wire.aborted)


async def test_a_client_that_is_there_keeps_its_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    client, served = ends
    connection = Connection(b"x", peer=served)
    client.shutdown(socket.SHUT_WR)
    connection.half_closed.probe(100.0)
    await eventually(lambda: connection.wire.looks == 1)
    assert not connection.wire.aborted
