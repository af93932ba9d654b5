"""Connections without sockets: bytes go in, and a test reads what was written and whom the connection told what.

An exchange reads as a play: `engine.says(b"HTTP/1.1 200 OK...")` returns the calls that these bytes led to, in order.
"""

import asyncio
import socket
from typing import Any, cast

from gateway.errors import GatewayError
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.client import Client
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers
from gateway.wire.outbox import Outbox
from gateway.wire.phase import LAST_CALL
from gateway.wire.rope import Rope
from gateway.wire.service import Request, Writer
from gateway.wire.slices import Slices
from gateway.wire.upstream import Upstream
from tests.waiting import HandClock

Call = tuple[Any, ...]


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it and what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.reading = True
        self.closed = self.aborted = False
        self.unsent = 0
        """Bytes that the other end has not taken yet."""
        self.socket: socket.socket | None = None
        self.looks = 0
        """How often somebody asked for the socket."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.out += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name != "socket":
            return default
        self.looks += 1
        return self.socket

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def took(self) -> bytes:
        """Return what was written since the last call."""
        out, self.out = self.out, b""
        return out


class Engine(Sink):
    """An engine's end of a connection: what it says, and what the gateway's end makes of it.

    Calls are `("head", status)`, `("data", bytes)`, `("last", bytes)`, `("lost", loss)` to what sent the request, and
    `("kept",)`, `("gone",)` and `("keeps idle", seconds)` to what owns the connection. What `passes` whole chunks on is
    also told `("chunk", data)`.
    """

    def __init__(self, *, passes: bool = False) -> None:
        self.passes = passes
        self.clock, self.wire = HandClock(), Wire()
        self.upstream = Upstream(self, Outbox())
        self.upstream.connection_made(self.wire)
        self.details: list[str] = []
        self._calls: list[Call] = []

    def is_asked(self, request: bytes = b"GET / HTTP/1.1\r\n\r\n", body: Rope | None = None) -> None:
        """Send a request on the connection."""
        self.upstream.start(self, request, body)

    def says(self, *reads: bytes) -> list[Call]:
        """Hand over what comes, read by read; return the calls."""
        for data in reads:
            self.upstream.data_received(data)
        return self.calls()

    def hangs_up(self, error: Exception | None = None) -> list[Call]:
        """Close the connection; return the calls."""
        self.upstream.connection_lost(error)
        return self.calls()

    def calls(self) -> list[Call]:
        """Return the calls since the last time."""
        calls, self._calls = self._calls, []
        return calls

    # What sent the request, and takes the answer

    def head(self, head: AnswerHead) -> Sink | None:
        self._calls.append(("head", head.status))
        return self

    def chunk(self, data: bytes, piece: bytes) -> bool:
        assert piece in data
        if self.passes and piece.startswith(b"data:"):
            self._calls.append(("chunk", data))
            return True
        return False

    def data(self, pieces: list[bytes]) -> None:
        self._calls.append(("data", b"".join(pieces)))

    def last(self, pieces: list[bytes]) -> None:
        self._calls.append(("last", b"".join(pieces)))

    def lost(self, loss: Loss, detail: str) -> None:
        self._calls.append(("lost", loss))
        self.details.append(detail)

    # What owns the connection

    def put(self, upstream: Upstream) -> None:
        assert upstream is self.upstream
        self._calls.append(("kept",))

    def forget(self, upstream: Upstream) -> None:
        assert upstream is self.upstream
        self._calls.append(("gone",))

    def keeps_idle(self, seconds: float) -> None:
        self._calls.append(("keeps idle", seconds))

    def now(self) -> float:
        return self.clock()


class Browser:
    """A client's end of a connection: what it says, and what the service behind the gateway's end hears.

    Calls are `("authorize", path)`, `("serve", path, body)` and `("refuse", code)`; a refusal is answered at once. A
    request is answered by `answer`, and meanwhile hears of `("gone",)`, `("pause",)` and `("resume",)`.
    """

    draining = False
    last_call = LAST_CALL

    def __init__(self, limits: Limits | None = None, connections: set[object] | None = None) -> None:
        self.clock, self.wire = HandClock(), Wire()
        self.connections = set() if connections is None else connections
        self.client = Client(self, self.connections, limits or Limits(), Outbox(), Slices(self.clock), clock=self.clock)
        self._calls: list[Call] = []
        self._writer: Writer | None = None
        self.client.connection_made(self.wire)

    def says(self, *reads: bytes) -> list[Call]:
        """Hand over what comes, read by read; return the calls."""
        for data in reads:
            self.client.data_received(data)
        return self.calls()

    def waits(self, seconds: float) -> list[Call]:
        """Let time pass without a byte; return the calls."""
        self.clock.advance(seconds)
        self.client.check(self.clock())
        return self.calls()

    async def answer(self, body: bytes = b"answer") -> bytes:
        """Answer the request in progress; return what was written in this turn of the loop."""
        assert self._writer is not None
        self._writer.reply(200, b"", body)
        self._writer.finish()
        return await self.reads()

    async def reads(self) -> bytes:
        """Return what was written up to the end of this turn of the loop."""
        await asyncio.sleep(0)
        return self.wire.took()

    def calls(self) -> list[Call]:
        """Return the calls since the last time."""
        calls, self._calls = self._calls, []
        return calls

    # The service

    def authorize(self, head: Head) -> object:
        self._calls.append(("authorize", head.path))
        return None

    def serve(self, request: Request, client: Writer) -> "Browser":
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body.blocks())
        self._calls.append(("serve", request.head.path, body))
        self._writer = client
        return self

    def refuse(self, error: GatewayError, target: bytes, headers: Headers, received: float, client: Writer) -> None:
        self._calls.append(("refuse", error.code))
        client.reply(error.status, b"", error.code.encode())
        client.finish()

    # A request in progress

    def client_gone(self) -> None:
        self._calls.append(("gone",))

    def pause(self) -> None:
        self._calls.append(("pause",))

    def resume(self) -> None:
        self._calls.append(("resume",))

    def check(self, now: float) -> None:
        """Hold no deadline."""

    def probe(self) -> bytes | None:
        return None

    def give_up(self, error: GatewayError) -> None:
        self._calls.append(("give up", error.code))
        cast(Writer, self._writer).break_off()
