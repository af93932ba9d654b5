"""One client's connection, hosted by uvicorn: bytes in, checked requests out, and a place to write answers to."""

import asyncio
from typing import Final, cast

import httptools
import msgspec

from gateway.clock import Clock
from gateway.errors import BadHttp, GatewayError, HeadersTooLarge, RequestTimeout, RequestTooLarge, TargetTooLong
from gateway.wire import closed, guard
from gateway.wire.backlog import LONG_READ, MARKS, PIECE, Backlog
from gateway.wire.guard import Head, Limits
from gateway.wire.guarded import broken, guarded
from gateway.wire.half_closed import HalfClosed
from gateway.wire.heads import CONTINUE, Headers, status_line
from gateway.wire.outbox import Outbox
from gateway.wire.phase import BODY, COMING, FRESH, HEAD, IDLE, LAST_CALL, LINGER, Phase, lingers_until, seconds_in
from gateway.wire.rope import Rope, complete, longer
from gateway.wire.service import Request, Responder, Service
from gateway.wire.slices import Slices
from gateway.wire.sockets import holds_more, peer_of
from gateway.wire.turned_away import turn_away
from gateway.wire.unread import Unread

MAX_PIPELINED = 64
_NO_FIELDS: Final[Headers] = []  # between two requests; never added to


class Client:
    """A client's connection: at most one request in progress, the next ones wait their turn, in order."""

    __slots__ = (
        "_backlog",
        "_body",
        "_body_size",
        "_caller",
        "_clock",
        "_completed",
        "_connections",
        "_deadline",
        "_fields",
        "_half_closed",
        "_head",
        "_http10",
        "_keep",
        "_last_read",
        "_limits",
        "_outbox",
        "_phase",
        "_pipelined",
        "_queue",
        "_responder",
        "_service",
        "_target",
        "_trailers",
        "_unparsed",
        "_unread",
        "busy",
        "parser",
        "transport",
    )

    def __init__(
        self,
        service: Service,
        connections: set[object],
        limits: Limits,
        outbox: Outbox,
        slices: Slices,
        *,
        clock: Clock,
    ) -> None:
        self._service = service
        self._outbox = outbox
        self._backlog = Backlog(self, slices)
        self._connections = connections
        self._limits = limits
        self._clock = clock
        self.transport = cast(asyncio.Transport, None)
        self.parser = httptools.HttpRequestParser(self)
        self.busy = self._http10 = self._completed = self._pipelined = False
        self._responder: Responder | None = None
        self._queue: tuple[Request | GatewayError, ...] = ()  # most clients never pipeline
        self._phase, self._keep = FRESH, True
        self._deadline = self._last_read = 0.0
        self._unread: Unread | None = None
        self._half_closed: HalfClosed | None = None
        self._unparsed = self._trailers = self._body_size = 0
        self._head: Head | None = None
        self._caller: object = None
        self._fields = _NO_FIELDS
        self._body: bytes | Rope = b""
        self._target = b""

    def __repr__(self) -> str:
        return f"<Client {'busy' if self.busy else self._phase.name.lower()} queued {len(self._queue)}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the listener's connections; the head has ten seconds to come."""
        self.transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= self._limits.connections:
            self._phase = LINGER
            asyncio.get_running_loop().call_soon(turn_away, self.transport)  # uvloop cannot close it yet
            return
        self._connections.add(self)
        self._deadline = self._clock() + self._limits.head_seconds

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it with the cause
        """Tell the request in progress; those that wait are forgotten."""
        self._connections.discard(self)
        self._queue = ()
        self._backlog.close()
        self._keep = self.busy = False
        self.parser = closed.REQUESTS
        responder, self._responder, self._half_closed, self._unread = self._responder, None, None, None
        if responder is not None:
            responder.client_gone()

    def data_received(self, data: bytes) -> None:
        """Parse, now or a piece at a time; whole requests are served, or wait for the one in progress."""
        if len(data) > LONG_READ:
            self._backlog.breathe()
        if self._backlog.held or (len(data) > PIECE and data.count(b"\r\n") > MARKS):
            self._backlog.add(data)
        else:
            self.parse(data)

    def parse(self, data: bytes | memoryview) -> None:
        """Parse a piece of what was read."""
        if self._phase is LINGER:
            self._deadline = lingers_until(self._last_read, self._clock())
            return
        self._unparsed += len(data)
        self._completed = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if cause is None or isinstance(cause, GatewayError):
                self._reject(cause or BadHttp(f"not proper HTTP/1.1: {error}"))
            elif self.busy and self._responder is None and not self._queue:
                self.give_up(broken(cause, self))  # serving it broke: some of its answer may be written
            else:
                self._reject(broken(cause, self))
            return
        if self._unparsed:
            self._await_rest()

    def eof_received(self) -> bool:
        """Go on answering a client that has only closed its own side, once it is known to be there."""
        if not self.busy or self.transport.get_extra_info("sslcontext") is not None:
            self._outbox.flush()
            return False
        self._keep = self._keep and bool(self._queue)  # which holds a refusal: nothing is read behind a request
        self._half_closed = HalfClosed(self, lambda: self._responder.probe() if self._responder is not None else None)
        return self._half_closed.probe(self._clock())

    def pause_writing(self) -> None:
        """Stop the answer: the client reads too slowly."""
        self._unread = Unread(self.transport, self._clock())
        if self._responder is not None:
            self._responder.pause()

    def resume_writing(self) -> None:
        """Let the answer go on."""
        self._unread = None
        if self._responder is not None:
            self._responder.resume()

    def on_message_begin(self) -> None:
        """Start a head."""
        self._target = self._body = b""
        self._fields = []
        self._head = None
        self._body_size = 0
        self._pipelined = self._completed

    def on_url(self, part: bytes) -> None:
        """Gather the target, which may come in pieces."""
        self._target += part
        if len(self._target) > guard.MAX_TARGET:
            raise TargetTooLong(f"the request target is over {guard.MAX_TARGET} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a field; those after the head are trailers, counted like it, and dropped."""
        if self._head is None:
            self._fields.append((name.lower(), value))
            return
        self._trailers += len(name) + len(value) + 4
        if self._trailers > self._limits.head:
            raise HeadersTooLarge(f"the trailers are over {self._limits.head} bytes")

    def on_headers_complete(self) -> None:
        """Hold the head against the guard before any of the body is taken."""
        parser, method = self.parser, self.parser.get_method()
        if self._unparsed > self._limits.head or self._pipelined:
            guard.check_size(method, self._target, self._fields, self._limits)
        version = parser.get_http_version()
        self._http10 = version != "1.1"
        self._head = guard.check(method, self._target, version, self._fields, self._limits)
        self._caller = self._service.authorize(self._head)
        self._unparsed, self._trailers = 1, 0  # counted from zero: the body's framing is not body
        if self._head.expects_continue and not self.busy:
            self.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Gather the body, bounded."""
        self._body_size += len(body)
        if self._body_size > self._limits.body:
            raise RequestTooLarge(f"the body is over the limit of {self._limits.body} bytes")
        self._unparsed = 1
        self._body = longer(self._body, body) if self._body else body

    def on_message_complete(self) -> None:
        """Serve the request, or let it wait its turn."""
        head, body = self._head, complete(self._body)
        if head is None:
            raise BadHttp("a request without a head")
        self._unparsed = 0
        self._completed = True
        self._phase = IDLE
        self._body = b""
        self._head = None
        kept = self.parser.should_keep_alive()
        request = Request(
            head, self._fields, body, http10=self._http10, keep_alive=kept, received=self._clock(), caller=self._caller
        )
        self._fields = _NO_FIELDS
        if not self.busy and not self._pipelined:
            self._serve(request)
            return
        if len(self._queue) >= MAX_PIPELINED:
            raise BadHttp(f"more than {MAX_PIPELINED} requests at once on one connection")
        self._queue += (request,)
        self.transport.pause_reading()
        if not self.busy:
            self.busy = True  # one request in each turn of the loop, however quickly they are answered
            asyncio.get_running_loop().call_soon(guarded, self, self._next)

    @property
    def is_taking(self) -> bool:
        """Whether more may be parsed: nothing waits for its turn."""
        return not self._queue

    @property
    def _holds_its_body(self) -> bool:
        """Whether the client waits to be told to send the body of its next request, once that has its turn."""
        head = self._head
        return self._phase is BODY and head is not None and head.expects_continue and not self._body_size

    @property
    def keep_alive(self) -> bool:
        """Whether the connection will outlive the answer in progress; an answer's head has to say so if not."""
        self._keep = self._keep and not self._service.draining
        return self._keep

    @property
    def peer(self) -> str:
        """The address of the client, "" where it has none."""
        return peer_of(self.transport)

    def write(self, data: bytes) -> None:
        """Write a piece of the answer in progress."""
        self._outbox.write(self.transport, data)

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer; `head` are fields, each line ended. `finish` has to follow."""
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self.write(b"%b%b%bcontent-length: %d\r\n\r\n%b" % (status_line(status), head, close, len(body), body))

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        """Write a whole answer in JSON. `finish` has to follow."""
        self.reply(status, head + b"content-type: application/json\r\n", msgspec.json.encode(value))

    def finish(self) -> None:
        """End the answer in progress: close, or take the next request."""
        self._responder = None
        if not self._keep:
            self.busy = False
            self._close()
            return
        if self._queue:
            asyncio.get_running_loop().call_soon(guarded, self, self._next)
            return
        self.busy = False
        if self._holds_its_body:
            self.write(CONTINUE)
            self._enter(BODY)
        elif self._phase is IDLE:
            self._enter(IDLE)

    def break_off(self) -> None:
        """End an answer that cannot be completed: what is written goes out, no proper end follows."""
        self._responder = None
        self._keep = self.busy = False
        self._outbox.flush()
        self.transport.close()

    def check(self, now: float) -> None:
        """Hold this connection's deadlines; called about ten times a second."""
        if self._unread is not None and self._unread.lasts(now) > self._limits.write_silence:
            self.transport.abort()
            return
        if not self.busy or (self._phase in COMING and not self._queue and not self._holds_its_body):
            silent = self._phase is BODY and now - self._last_read > self._limits.body_silence
            if silent or now > self._deadline:
                self._expire(now)
        if not self.busy:
            return
        if self._half_closed is not None:
            self._half_closed.check(now)
        if self._responder is not None:
            self._responder.check(now)

    def shutdown(self) -> None:
        """Close soon: answers say so now, and a client that was not told may ask once more, so that nothing is lost."""
        if self._phase in {FRESH, IDLE}:
            self._deadline = self._clock() + LAST_CALL

    def give_up(self, error: GatewayError) -> None:
        """End at once: the time to drain is over."""
        self._keep = False
        if self._responder is not None:
            self._responder.give_up(error)
        elif not self.transport.is_closing():
            self.break_off()

    def _serve(self, request: Request) -> None:
        self.busy = True
        self._keep = self._keep and request.keep_alive
        responder = self._service.serve(request, self)
        if self.busy and responder is not None:
            self._responder = responder
            if self._unread is not None:
                responder.pause()

    def _next(self) -> None:
        if not self._queue:
            return
        item, self._queue = self._queue[0], self._queue[1:]
        if isinstance(item, GatewayError):
            self._refuse(item)
            return
        if not self._queue:
            if self._backlog.held:
                self._backlog.go_on()
            else:
                self.transport.resume_reading()
            if self._phase in COMING:  # nothing of it was read while others waited before it
                self._enter(self._phase)
        self._serve(item)

    def _reject(self, error: GatewayError) -> None:
        """Answer broken input in its turn, and read nothing more."""
        self._phase, self._body = LINGER, b""
        self._backlog.drop()
        if self.busy:
            self._queue += (error,)
        else:
            guarded(self, self._refuse, error)

    def _refuse(self, error: GatewayError) -> None:
        self.busy, self._keep, self._phase = True, False, LINGER
        self._service.refuse(error, self._target, self._fields, self._clock(), self)

    def _close(self) -> None:
        """Close for good, after reading away what still comes, since closing on it would destroy the answer."""
        self._outbox.flush()
        if self._phase is LINGER and self._half_closed is None and not self.transport.is_closing():
            self._enter(LINGER)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._last_read = self._clock()
        self._deadline = self._last_read + seconds_in(phase, self._limits, draining=self._service.draining)

    def _await_rest(self) -> None:
        """Give the rest of a request its time; what comes whole, as most do, needs no deadline."""
        if self._unparsed > self._limits.head:
            self._reject(HeadersTooLarge(f"the head, or what frames the body, is over {self._limits.head} bytes"))
            return
        if self._phase is not (phase := HEAD if self._head is None else BODY):
            self._enter(phase)
        self._last_read = self._clock()

    def _expire(self, now: float) -> None:
        if self._phase is BODY or (self._phase is HEAD and self._unparsed):
            self._reject(RequestTimeout("the request did not come in time"))
        elif self._phase is not LINGER and self.transport.get_write_buffer_size():
            self._unread = self._unread or Unread(self.transport, now)  # the client is slow to read its answer's end
            self._phase, self._deadline = LINGER, now + self._limits.write_silence
            self.transport.close()
        elif self._unread is None and (self._phase is LINGER or not holds_more(self.transport)):
            self.transport.abort()
