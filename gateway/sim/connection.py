"""One client's connection: uvicorn's, plus a direct way for tokens and notice of a hang-up."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "tidegate.sim.connection"
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Connection(HttpToolsProtocol):
    """Lets a streaming answer write its chunks without a task switch for each of them."""

    _on_hangup: Callable[[], None] | None = None

    @classmethod
    def of(cls, request: Request) -> "Connection":
        """Return the connection that a request arrived on."""
        connection = request.scope["extensions"][_EXTENSION]["connection"]
        assert isinstance(connection, cls)  # noqa: S101 - the server is only ever hosted with this class
        return connection

    def on_message_begin(self) -> None:
        """Tell the application which connection this is."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"connection": self}}

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the hang-up on at once."""
        super().connection_lost(exc)
        if self._on_hangup is not None:
            self._on_hangup()

    @contextmanager
    def watched(self, on_hangup: Callable[[], None]) -> Iterator[None]:
        """Have `on_hangup` called when the client goes, at once if it has gone already."""
        self._on_hangup = on_hangup
        if self.transport.is_closing():
            on_hangup()
        try:
            yield
        finally:
            self._on_hangup = None

    @property
    def congested(self) -> bool:
        """Whether the client reads too slowly for more to be written now."""
        return self.flow.write_paused

    def write_chunk(self, data: bytes) -> None:
        """Send bytes as one HTTP/1.1 chunk of an answer whose head has been sent; none if the client has gone."""
        if data and not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        await self.flow.drain()

    def reset(self) -> None:
        """End the connection with a TCP reset, unsent data dropped."""
        handle = self.transport.get_extra_info("socket")
        with socket.socket(fileno=socket.dup(handle.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.transport.abort()
        self.cycle.disconnected = True
