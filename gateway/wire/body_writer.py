"""Sending a long request body to an engine."""

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

from gateway.wire.rope import Rope


class BodyWriter:
    """Sends one block in each turn of the loop, as fast as the engine takes them. A connection has one for all bodies.

    `failed` is called when a block cannot be sent, while the exception is being handled.
    """

    __slots__ = ("_blocks", "_failed", "_full", "_transport")

    def __init__(self) -> None:
        self._blocks: Iterator[bytes | bytearray | memoryview] | None = None
        self._failed: Callable[[], None] | None = None
        self._full = False
        self._transport = cast(asyncio.Transport, None)

    def __repr__(self) -> str:
        return f"<BodyWriter {'idle' if not self.sending else 'waiting' if self._full else 'sending'}>"

    @property
    def sending(self) -> bool:
        """Whether part of a body has not been written yet."""
        return self._blocks is not None

    def start(self, transport: asyncio.Transport, body: Rope, failed: Callable[[], None]) -> None:
        """Send a body, the first block now."""
        self._transport = transport
        self._failed = failed
        self._blocks = body.blocks()
        self._send()

    def stop(self) -> None:
        """Send no more."""
        self._blocks = self._failed = None

    def pause(self) -> None:
        """Wait: the engine takes its request more slowly."""
        self._full = True

    def resume(self) -> None:
        """Send on."""
        self._full = False
        self._send()

    def _send(self) -> None:
        if self._blocks is None or self._full or self._transport.is_closing():
            return
        try:
            block = next(self._blocks, None)
            if block is None:
                self.stop()
                return
            self._transport.write(block)
        except Exception:  # noqa: BLE001 - `failed` ends the exchange and logs it
            if self._failed is not None:
                self._failed()
            return
        if not self._full:
            asyncio.get_running_loop().call_soon(self._send)
