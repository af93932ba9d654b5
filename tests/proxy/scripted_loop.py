"""An event loop whose time and whose connections a test decides on; everything above the sockets is real."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from gateway.wire.upstream import Upstream

TURNS = 16
"""Turns of the loop in which whatever follows from one event has been done."""


class EngineSide(asyncio.Transport):
    """One end of a connection to an engine: what the gateway does to it is noted, what the engine does is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Upstream) -> None:
        super().__init__()
        self._loop = loop
        self._sockets = socket.socketpair()
        self.protocol = protocol
        self.closed = False
        self.read = b""
        """What the engine was sent."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sockets[0] if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: Any) -> None:
        """Let the engine read it."""
        self.read += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """What was sent has come already."""

    def resume_reading(self) -> None:
        """As above."""

    def close(self, error: Exception | None = None) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._lost, error)

    abort = close

    def _lost(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        for each in self._sockets:
            each.close()


class ScriptedLoop(asyncio.SelectorEventLoop):
    """Time stands still but for `now`; a connection is made, or fails, once a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.dials: list[asyncio.Future[OSError | None]] = []
        self.connections: list[EngineSide] = []
        self.broken: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.broken.append(context))

    def time(self) -> float:
        return self.now

    async def create_connection(self, factory: Callable[[], Any], *_: Any, **__: Any) -> Any:  # type: ignore[override]
        dial: asyncio.Future[OSError | None] = self.create_future()
        self.dials.append(dial)
        error = await dial
        if error is not None:
            raise error
        protocol = cast(Upstream, factory())
        side = EngineSide(self, protocol)
        protocol.connection_made(side)
        self.connections.append(side)
        return side, protocol

    def do(self, action: Callable[..., object], *args: object) -> None:
        """Take a step, and whatever follows from it at once."""
        self.run_until_complete(self._do(action, args))

    async def _do(self, action: Callable[..., object], args: tuple[object, ...]) -> None:
        action(*args)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close what connections are left, too."""
        for dial in self.dials:
            dial.cancel()
        for side in self.connections:
            side.close()
        self.do(lambda: None)
        super().close()
