"""One connection's bytes never hold the loop, however many requests or chunks a read holds."""

import asyncio
from array import array

import pytest
from httptools import HttpRequestParser

from gateway.errors import GatewayError
from gateway.wire.backlog import MARKS, PIECE, takes_long
from gateway.wire.client import Client
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers
from gateway.wire.outbox import Outbox
from gateway.wire.phase import LAST_CALL
from gateway.wire.service import Request, Responder, Writer
from gateway.wire.slices import SECONDS, Slices
from tests.waiting import eventually
from tests.wire.playbook import Wire

pytestmark = pytest.mark.anyio
GET = b"GET /health HTTP/1.1\r\nhost: a\r\nx-pad: %b\r\n\r\n" % (b"x" * 400)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"


class Instant:
    """Answers at once."""

    draining = False
    last_call = LAST_CALL

    def __init__(self) -> None:
        self.served: list[tuple[int, Request]] = []
        self.refused: list[GatewayError] = []
        self.turn = 0

    def authorize(self, head: Head) -> object:
        return None

    def serve(self, request: Request, client: Writer) -> Responder | None:
        self.served.append((self.turn, request))
        client.reply(200, b"", b"")
        client.finish()
        return None

    def refuse(self, error: GatewayError, target: bytes, headers: Headers, received: float, client: Writer) -> None:
        self.refused.append(error)
        client.reply(error.status, b"", b"")
        client.finish()

    def tick(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self.tick)


class Watched(HttpRequestParser):
    """A connection's parser that notes which turn of the loop parsed how much."""

    def __init__(self, client: Client, service: Instant) -> None:
        super().__init__(client.reader)
        self.pieces: list[tuple[int, int]] = []
        self._service = service

    def feed_data(self, data: "bytes | bytearray | memoryview | array[int]") -> None:
        self.pieces.append((self._service.turn, len(data)))
        super().feed_data(data)


class Slow:
    """A clock by which everything takes as long as slices may in one turn."""

    now = 0.0

    def __call__(self) -> float:
        self.now += SECONDS
        return self.now


def connection(service: Instant) -> tuple[Client, Wire]:
    clock = Slow()
    limits = Limits(head_seconds=1e9, body_seconds=1e9, body_silence=1e9, keep_alive=1e9)
    client, wire = Client(service, set(), limits, Outbox(), Slices(clock), clock=clock), Wire()
    client.reader.parser = Watched(client, service)
    client.connection_made(wire)
    service.tick()
    return client, wire


async def test_requests_in_one_read_are_answered_one_a_turn_and_in_order() -> None:
    service = Instant()
    client, wire = connection(service)
    client.data_received(GET * 600)
    assert not wire.reading
    await eventually(lambda: len(service.served) == 600 and wire.reading)
    turns = [turn for turn, _ in service.served]
    assert len(set(turns)) == 600
    assert wire.out.count(b"HTTP/1.1 200") == 600
    assert not service.refused


async def test_a_body_in_chunks_of_a_byte_is_parsed_a_piece_a_turn() -> None:
    service = Instant()
    client, _ = connection(service)
    chunks = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n"
    client.data_received(chunks)
    await eventually(lambda: len(service.served) == 1)
    assert len(service.served[0][1].body) == 40_000
    assert isinstance(client.reader.parser, Watched)
    pieces = client.reader.parser.pieces
    assert max(size for _, size in pieces) <= PIECE
    assert len({turn for turn, _ in pieces}) == len(pieces)


async def test_an_ordinary_long_read_is_parsed_at_once() -> None:
    service = Instant()
    client, wire = connection(service)
    body = b'{"text": "%b"}' % (b"line\\n" * 8000)
    client.data_received(HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    assert [request.body for _, request in service.served] == [body]
    assert wire.reading


async def test_after_a_long_read_others_have_their_turn() -> None:
    service = Instant()
    client, wire = connection(service)
    client.data_received(HEAD + b"content-length: 1000000\r\n\r\n" + b"x" * 200_000)
    assert not wire.reading
    await eventually(lambda: wire.reading)
    client.data_received(b"x" * 800_000)
    assert len(service.served[0][1].body) == 1_000_000


async def test_what_is_left_after_broken_input_is_forgotten() -> None:
    service = Instant()
    client, wire = connection(service)
    client.data_received(GET * 3 + b"\0" + b"\r\n" * (PIECE + MARKS))
    await eventually(lambda: len(service.refused) == 1 and wire.reading)
    assert len(service.served) == 3


def test_what_takes_long_is_long_and_has_many_lines() -> None:
    rest = b"x" * PIECE
    assert [takes_long(rest + b"\r\n" * lines) for lines in (0, 1, MARKS, MARKS + 1)] == [False, False, False, True]
    assert not takes_long(b"\r\n" * (PIECE // 2))
    assert takes_long(b"\r\n" * (PIECE // 2) + b"\r")
