"""A client that has closed its own side: still waiting for its answer, or gone without a word."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from gateway.wire.sockets import was_reset

_PROBE_AFTER: Final = 0.08
_RESET_WITHIN: Final = 0.02


class Closing(Protocol):
    """The connection."""

    transport: asyncio.Transport

    def write(self, data: bytes) -> None:
        """Write a piece of the answer in progress."""


class HalfClosed:
    """Writes something meaningless, twice: if the client is gone its host says so, and the second write fails."""

    __slots__ = ("_connection", "_probe", "_probed_at")

    def __init__(self, connection: Closing, probe: Callable[[], bytes | None]) -> None:
        """Take what returns bytes that mean nothing at this point of the answer, None where there are none."""
        self._connection = connection
        self._probe = probe
        self._probed_at = 0.0

    def probe(self, now: float) -> bool:
        """Write; return whether to go on answering."""
        data = self._probe()
        if data is None:
            return False
        self._probed_at = now
        asyncio.get_running_loop().call_later(_RESET_WITHIN, self._look_for_reset)
        self._connection.write(data)
        return True

    def check(self, now: float) -> None:
        """Write once more, a while after the first time."""
        if self._probed_at and now - self._probed_at > _PROBE_AFTER:
            self.probe(now)
            self._probed_at = 0.0

    def _look_for_reset(self) -> None:
        transport = self._connection.transport
        if not transport.is_closing() and was_reset(transport):
            transport.abort()
