"""The connection between the supervisor and one worker: messages in JSON, some with bytes behind them."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import msgspec

Message = dict[str, Any]
_LENGTHS = struct.Struct("!II")
_TURN = 0.01
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Message).decode


class Channel(asyncio.Protocol):
    """One end. `received` gets each message of the other side, and `closed` is called when that is gone."""

    def __init__(self, received: Callable[[Message, bytes], None], closed: Callable[[], None]) -> None:
        self._received, self._closed = received, closed
        self._came = bytearray()
        self._transport = cast(asyncio.Transport, None)

    @classmethod
    async def over(
        cls, connected: socket.socket, received: Callable[[Message, bytes], None], closed: Callable[[], None]
    ) -> "Channel":
        """Return one end of a connected pair of sockets."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(received, closed), sock=connected)
        return channel

    def send(self, message: Message, data: bytes = b"") -> None:
        """Have a message sent; without the other side nothing happens."""
        if not self._transport.is_closing():
            body = _encode(message)
            self._transport.write(_LENGTHS.pack(len(body), len(data)) + body + data)

    def close(self) -> None:
        """End it."""
        self._transport.close()

    async def sent(self) -> None:
        """Wait until everything is on its way, or the other side is gone."""
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():  # noqa: ASYNC110 - no event
            await asyncio.sleep(_TURN)

    @property
    def is_quiet(self) -> bool:
        """Whether no part of a message is on its way in this process: then another may go on with the socket."""
        return not self._came and not self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are whole."""
        self._came += data
        while len(self._came) >= _LENGTHS.size:
            body, more = _LENGTHS.unpack_from(self._came)
            end = _LENGTHS.size + body + more
            if len(self._came) < end:
                return
            whole = bytes(self._came[_LENGTHS.size : end])
            del self._came[:end]
            self._received(_decode(whole[:body]), whole[body:])

    def connection_lost(self, _: Exception | None) -> None:
        """Tell that the other side is gone."""
        self._closed()
