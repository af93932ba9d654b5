"""Bytes of one client in, checked requests out."""

from typing import Final, Protocol, cast

import httptools

from gateway.errors import BadHttp, GatewayError, HeadersTooLarge, RequestTooLarge, TargetTooLong
from gateway.wire import closed, guard
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers
from gateway.wire.last_head import LastHead
from gateway.wire.phase import EXPECTS_CONTINUE, PART_OF_BODY, PART_OF_HEAD, Event
from gateway.wire.rope import complete, longer
from gateway.wire.service import Refusal, Request

_NO_FIELDS: Final[Headers] = []  # between two requests; never added to


class RequestReceiver(Protocol):
    """What takes the requests of a connection, while the bytes behind them are still to be parsed."""

    def authorize(self, head: Head) -> object:
        """Return who is calling, before any of the body is taken; raises a GatewayError for a client that may not."""

    def take(self, request: Request, pipelined: bool) -> None:
        """Take a whole request; `pipelined` if it began in the same read in which another one ended."""


class RequestReader:
    """Reads requests, and holds them against the guard and the limits. Its `on_...` methods are called by httptools."""

    __slots__ = (
        "_completed",
        "_fields",
        "_last_head",
        "_limits",
        "_pipelined",
        "_receiver",
        "_repeats",
        "_request",
        "_target",
        "_trailers",
        "_unparsed",
        "parser",
    )

    def __init__(self, receiver: RequestReceiver, limits: Limits) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self._receiver = receiver
        self._limits = limits
        self._last_head: LastHead | None = None
        self._repeats = False
        """Whether a head has come before."""
        self._target = b""
        self._fields = _NO_FIELDS
        self._request: Request | None = None
        """The request whose head has passed, and whose body is coming."""
        self._unparsed = self._trailers = 0
        self._completed = self._pipelined = False

    def __repr__(self) -> str:
        return f"<RequestReader {self.part or 'between requests'}>"

    def feed(self, data: bytes | memoryview) -> BaseException | None:
        """Parse what was read. Return what ended that: a GatewayError, or what broke the receiver."""
        last = self._last_head
        if last is not None and last.is_over:
            body = last.body_in(data, self._limits) if isinstance(data, bytes) else b""
            if body:
                return self._repeated(last, body)
            last.is_over = False
        begins = self._fields is _NO_FIELDS
        self._unparsed += len(data)
        self._completed = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            return error.__context__ or BadHttp(f"not proper HTTP/1.1: {error}")
        if self._unparsed > self._limits.head:
            return HeadersTooLarge(f"the head, or what frames the body, is over {self._limits.head} bytes")
        last = self._last_head
        if begins and self._completed and last is not None and isinstance(data, bytes):
            last.is_over = last.learn(data)
        return None

    @property
    def part(self) -> Event | None:
        """What has come of a request that is not whole; None between two requests."""
        if not self._unparsed:
            return None
        request = self._request
        if request is None:
            return PART_OF_HEAD
        return EXPECTS_CONTINUE if request.head.expects_continue and not request.body else PART_OF_BODY

    def refusal(self, error: GatewayError) -> Refusal:
        """Return what refuses the request in progress, and let go of it: nothing more is parsed."""
        self._request = None
        return Refusal(error, self._target, self._fields)

    def close(self) -> None:
        """Let go of httptools' parser, and it of this."""
        self.parser = closed.REQUESTS

    def on_url(self, part: bytes) -> None:
        """Start a head, and gather the target, which may come in pieces."""
        if self._fields is _NO_FIELDS:
            self._fields = []
            self._pipelined = self._completed
        self._target += part
        if len(self._target) > guard.MAX_TARGET:
            raise TargetTooLong(f"the request target is over {guard.MAX_TARGET} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a field; those after the head are trailers, counted like it, and dropped."""
        if self._request is None:
            self._fields.append((name.lower(), value))
            return
        self._trailers += len(name) + len(value) + 4
        if self._trailers > self._limits.head:
            raise HeadersTooLarge(f"the trailers are over {self._limits.head} bytes")

    def on_headers_complete(self) -> None:
        """Hold the head against the guard before any of the body is taken."""
        method = self.parser.get_method()
        if self._unparsed > self._limits.head or self._pipelined:
            guard.check_size(method, self._target, self._fields, self._limits)
        head = self._checked(method)
        caller = self._receiver.authorize(head)
        self._request = Request(head, self._fields, b"", keep_alive=False, received=0.0, caller=caller)
        self._unparsed, self._trailers = 1, 0  # counted from zero: the body's framing is not body

    def _checked(self, method: bytes) -> Head:
        """Check a head; raises as the guard does."""
        parser, last = self.parser, self._last_head
        if last is None:
            # Most connections with a single request carry a long stream: for them nothing is worth its memory.
            if not self._repeats:
                self._repeats = True
                return guard.check(method, self._target, parser.get_http_version(), self._fields, self._limits)
            last = self._last_head = LastHead()
        return last.check(parser, method, self._target, self._fields, self._limits)

    def _repeated(self, last: LastHead, body: bytes) -> BaseException | None:
        """Hand over a whole request with the same head as the last, which no parser has seen."""
        head = cast(Head, last.head)
        self._target, self._fields = last.target, last.fields
        try:
            caller = self._receiver.authorize(head)
            request = Request(head, last.fields, complete(body), keep_alive=True, received=0.0, caller=caller)
            self._target, self._fields = b"", _NO_FIELDS
            self._pipelined = False
            self._receiver.take(request, self._pipelined)
        except Exception as error:  # noqa: BLE001 - as what is raised while the parser is at work
            return error
        return None

    def on_body(self, piece: bytes) -> None:
        """Gather the body, bounded."""
        request = self._request
        if request is None:
            raise BadHttp("a body without a head")
        body = longer(request.body, piece) if request.body else piece
        if len(body) > self._limits.body:
            raise RequestTooLarge(f"the body is over the limit of {self._limits.body} bytes")
        request.body = body
        self._unparsed = 1

    def on_message_complete(self) -> None:
        """Hand the request over."""
        request = self._request
        if request is None:
            raise BadHttp("a request without a head")
        request.body = complete(request.body)
        request.keep_alive = self.parser.should_keep_alive()
        self._request = None
        self._target, self._fields = b"", _NO_FIELDS
        self._unparsed = 0
        self._completed = True
        self._receiver.take(request, self._pipelined)
