"""What a client leaves unread of its answer, and for how long."""

import asyncio


class Unread:
    """An answer that waits for its client to read on; each byte that it takes gives it new time."""

    __slots__ = ("_left", "_since", "_transport")

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self._left = transport.get_write_buffer_size()
        self._since = now

    def lasts(self, now: float) -> float:
        """Return the seconds for which the client has taken nothing."""
        left = self._transport.get_write_buffer_size()
        if left < self._left:
            self._left, self._since = left, now
        return now - self._since
