"""What a connection has read and not parsed yet, where parsing it at once would hold everybody else up.

A read of 256 KiB may hold thousands of requests, or tens of thousands of chunks of a byte.
"""

import asyncio
from typing import Final, Protocol, cast

from gateway.wire.slices import Slices, Work

PIECE: Final = 16 * 1024
"""Bytes that are parsed at once whatever they hold."""
LONG_READ: Final = 64 * 1024
"""Bytes of one read after which others have their turn: libuv reads a socket up to 32 times while more is there."""
MARKS: Final = 256
"""Ends of lines in a longer read up to which it is parsed at once: heads, and chunks, have at least one each."""


def takes_long(data: bytes) -> bool:
    """Whether a read may hold so many heads or chunks that it should be parsed a piece at a time."""
    if len(data) <= PIECE:
        return False
    # `bytes.count` looks at every byte by itself: a millisecond for a megabyte, where the search takes 20 us.
    at = seen = 0
    while (at := data.find(b"\r", at) + 1) > 0:
        seen += 1
        if seen > MARKS:
            return True
    return False


class Parsing(Protocol):
    """What parses: one connection."""

    transport: asyncio.Transport

    @property
    def is_taking(self) -> bool:
        """Whether it takes more now; else it calls `resume` when it does."""

    def parse(self, data: bytes | memoryview) -> None:
        """Parse a piece."""


class Gone:
    """What stands in for a connection that is lost."""

    transport = cast(asyncio.Transport, None)
    is_taking = False

    def parse(self, data: bytes | memoryview) -> None:
        """Parse nothing."""


_GONE: Final = Gone()
_NOTHING: Final = memoryview(b"")
"""Shared, since a view takes 320 bytes and most connections never have anything to hold."""


class Backlog:
    """Bytes that wait to be parsed, a piece at a time, while the connection reads nothing."""

    __slots__ = ("_parsing", "_slices", "_working", "held")

    def __init__(self, parsing: Parsing, slices: Slices) -> None:
        self._parsing = parsing
        self._slices = slices
        self.held = _NOTHING
        self._working = False

    def add(self, data: bytes) -> None:
        """Take what was read."""
        self.held = memoryview(bytes(self.held) + data if self.held else data)
        self._parsing.transport.pause_reading()
        self.go_on()

    def go_on(self) -> None:
        """Parse, in the next turns of the loop."""
        if not self._working:
            self._working = True
            self._slices.start(self._work(), lambda _: None, self._broken)

    def resume(self) -> None:
        """Parse on, or read on where nothing is held: the connection takes more again."""
        if self.held:
            self.go_on()
        else:
            self._parsing.transport.resume_reading()

    def breathe(self) -> None:
        """Read no more in this turn of the loop."""
        self._parsing.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._read_on)

    def drop(self) -> None:
        """Forget the rest: it is not wanted."""
        self.held = _NOTHING

    def close(self) -> None:
        """Forget the rest and the connection, which is lost: it and this would keep each other in memory."""
        self.drop()
        self._parsing = _GONE

    def _work(self) -> Work[None]:
        while self.held and self._parsing.is_taking:
            piece, self.held = self.held[:PIECE], self.held[PIECE:]
            self._parsing.parse(piece)
            yield
        self._working = False
        if not self.held:
            self._read_on()

    def _read_on(self) -> None:
        if not self.held and self._parsing.is_taking and not self._parsing.transport.is_closing():
            self._parsing.transport.resume_reading()

    def _broken(self, error: Exception) -> None:
        self._working = False
        if self._parsing is not _GONE:
            self._parsing.transport.abort()
        raise error
