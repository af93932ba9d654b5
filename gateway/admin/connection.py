"""A connection to the admin listener: uvicorn's, with bounds and deadlines, since uvicorn has hardly any.

Places are few, so that a crowd here cannot take the data plane's descriptors. A client that finds all taken gets
the place of the connection that has been idle for the longest time: a probe always gets in.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.clock import Clock
from gateway.errors import BadHttp, GatewayError, HeadersTooLarge, RequestTooLarge, TargetTooLong
from gateway.wire.guard import MAX_FIELDS, MAX_TARGET
from gateway.wire.heads import status_line

_PIPELINED = 8
_LINGER = 2.0


class _Connection(Protocol):
    """A connection, or a handshake that becomes one."""

    since: float

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""

    def give_up(self, _: object = None) -> None:
        """End at once."""


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """Bounds on what clients of the admin listener may hold open and send, in connections, bytes and seconds.

    `request_seconds` is for a body and its answer, `idle_seconds` between two requests.
    """

    connections: int = 64
    head: int = 32 * 1024
    body: int = 64 * 1024
    head_seconds: float = 10.0
    request_seconds: float = 30.0
    idle_seconds: float = 5.0

    def admit(self, connections: set[object]) -> bool:
        """Whether there is a place for one more, if need be that of the connection that has been idle the longest."""
        if len(connections) < self.connections:
            return True
        idle = [each for each in cast(set[_Connection], connections) if not each.busy]
        if idle:
            min(idle, key=lambda each: each.since).give_up()
        return bool(idle)


class AdminConnection(HttpToolsProtocol):
    """One connection; the listener's sweep calls `check`."""

    def __init__(self, *, limits: AdminLimits, clock: Clock, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._limits = limits
        self._clock = clock
        self._deadline = 0.0
        self._size = self._body_size = 0
        self._has_head = False
        self._refusal: GatewayError | None = None
        self.since = clock()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, if need be that of another."""
        self.transport = transport
        if not self._limits.admit(cast(set[object], self.connections)):
            transport.abort()
            return
        super().connection_made(transport)
        self._deadline = self._clock() + self._limits.head_seconds

    def data_received(self, data: bytes) -> None:
        """Parse, within bounds."""
        if self._refusal is not None:
            return
        if not self._size and not self.busy:
            self._deadline = self._clock() + self._limits.head_seconds
        self._size += len(data)
        super().data_received(data)
        most = self._limits.head + (self._limits.body if self._has_head else 0)
        if self._size > most and self._refusal is None:
            self._refuse(HeadersTooLarge(f"the head, or what frames the body, is over {self._limits.head} bytes"))

    def on_url(self, url: bytes) -> None:
        """Gather the target."""
        super().on_url(url)
        if len(self.url) > MAX_TARGET:
            self._break_off(TargetTooLong(f"the request target is over {MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a field."""
        super().on_header(name, value)
        if len(self.headers) > MAX_FIELDS:
            self._break_off(HeadersTooLarge(f"the head has more than {MAX_FIELDS} fields"))
        if name.lower() == b"content-length" and value.isdigit() and int(value) > self._limits.body:
            self._break_off(RequestTooLarge(f"the body is over the limit of {self._limits.body} bytes"))

    def on_headers_complete(self) -> None:
        """Begin to answer, unless too many requests wait on this connection."""
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > self._limits.head:
            self._break_off(HeadersTooLarge(f"the head is over {self._limits.head} bytes"))
        if len(self.pipeline) >= _PIPELINED:
            self._break_off(BadHttp(f"more than {_PIPELINED} requests at once on one connection"))
        self._has_head = True
        self._body_size = 0
        self._deadline = self._clock() + self._limits.request_seconds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Gather the body."""
        self._body_size += len(body)
        if self._body_size > self._limits.body:
            self._break_off(RequestTooLarge(f"the body is over the limit of {self._limits.body} bytes"))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._has_head = False
        self._size = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, for a while."""
        self.since = self._clock()
        self._deadline = self.since + self._limits.idle_seconds + _LINGER  # uvicorn closes it before
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn calls it with words of its own
        """Answer what the parser, or a bound, has refused."""
        self._refuse(self._refusal or BadHttp("not proper HTTP/1.1"))

    def check(self, now: float) -> None:
        """Hold the deadline; called about ten times a second."""
        if now > self._deadline:
            self.transport.abort()

    def give_up(self, _: object = None) -> None:
        """End at once."""
        self.connections.discard(cast(Any, self))
        self.transport.abort()

    def _break_off(self, error: GatewayError) -> None:
        """End the parsing; uvicorn then calls `send_400_response`."""
        self._refusal = error
        raise error

    def _refuse(self, error: GatewayError) -> None:
        """Answer, and read away what still comes for a moment, since closing on it would destroy the answer."""
        self._refusal = error
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = msgspec.json.encode(error.body())
        fields = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(status_line(error.status) + fields + body)
        self._deadline = self._clock() + _LINGER
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
