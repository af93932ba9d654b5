"""A client that sends whatever bytes a test wants."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

import h11

from tests.waiting import DEADLINE


@dataclass
class Answer:
    """An answer as the raw client got it: every byte, and what h11 makes of them."""

    raw: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


_CONNECTED: dict[int, list["RawClient"]] = {}


class RawClient:
    """A client that writes whatever bytes a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._left = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def unread(self, data: bytes) -> None:
        """Put back what was read, for `answer` to begin with."""
        self._left = data + self._left

    async def answer(self, method: str = "POST") -> Answer:
        """Read one answer, or what comes of it before the connection ends."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        answer = Answer(b"")
        data = self._left
        async with asyncio.timeout(DEADLINE):
            while True:
                if data:
                    parser.receive_data(data)
                    answer.raw += data
                if self._take(parser, answer):
                    self._left = parser.trailing_data[0]
                    return answer
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return answer
                if not data:
                    return answer

    @staticmethod
    def _take(parser: h11.Connection, answer: Answer) -> bool:
        while (event := parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                answer.complete = True
                return True
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return True
        return False

    async def answer_rest(self, seconds: float = DEADLINE) -> bytes:
        """Read until the gateway closes."""
        async with asyncio.timeout(seconds):
            return await self.reader.read()

    async def closed(self) -> bool:
        """Return whether the gateway has closed this connection (waits for it)."""
        async with asyncio.timeout(DEADLINE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        return True

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def connect(port: int, receive_buffer: int = 0) -> RawClient:
    """Connect; a `receive_buffer` in bytes makes a client whose kernel holds little."""
    sock = socket.socket()
    sock.settimeout(0)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    client = RawClient(*await asyncio.open_connection(sock=sock))
    _CONNECTED.setdefault(port, []).append(client)
    return client


def close_all(port: int) -> None:
    """Close every client that connected to this port.

    A test that fails half-way closes nothing, and a stream that outlives its loop fails a test beside it.
    """
    for client in _CONNECTED.pop(port, ()):
        client.close()
