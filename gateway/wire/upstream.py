"""One connection to one engine: requests out, parsed answers in. Knows no policy; tells its sink what came."""

import asyncio
import logging
import select
from collections.abc import Iterator
from typing import Protocol, cast

import httptools

from gateway.wire import closed
from gateway.wire.answer import MAX_FIELDS, MAX_HEAD, AnswerHead, Loss, Malformed, RequestSender, Sink, check_size
from gateway.wire.heads import Headers
from gateway.wire.outbox import Outbox
from gateway.wire.rope import Rope

_log = logging.getLogger(__name__)
MAX_INFORMATIONAL = 8
LEAST_IDLE = 1.0
"""Seconds after which an engine may have closed an idle connection just before the next request reached it."""
IMMEDIATE = 0.02
"""Seconds within which such a close comes to light, at least: longer ago, the engine may have begun to work."""


class Upstream:
    """A connection, idle or carrying one exchange. Every exchange ends in exactly one of: last data, lost, cancel."""

    __slots__ = (
        "_body",
        "_fields",
        "_full",
        "_informational",
        "_keep",
        "_outbox",
        "_parser",
        "_poll",
        "_rest",
        "_sender",
        "_sink",
        "_status",
        "_trailers",
        "_unparsed",
        "address",
        "answered",
        "connect_seconds",
        "ended",
        "idle_for",
        "idle_since",
        "on_body",
        "owner",
        "reused",
        "taken_at",
        "transport",
        "until_close",
    )

    def __init__(self, owner: "Owner", outbox: Outbox) -> None:
        self._outbox = outbox
        self.owner = owner
        self.transport = cast(asyncio.Transport, None)
        self.address = ""
        self._sender: RequestSender | None = None
        self._sink: Sink | None = None
        self.reused = False
        self.idle_since = self.idle_for = self.taken_at = self.connect_seconds = 0.0
        self.answered = False
        self.ended = False
        self.until_close = False
        self._body: list[bytes] = []
        self._fields: Headers | None = None
        self._status = 0
        self._keep = False
        self._unparsed = self._trailers = 0
        self._poll: select.poll | None = None
        self._rest: Iterator[bytes | bytearray | memoryview] | None = None
        self._full = False
        # What one read brings is gathered by the list itself: a method would cost a call for every chunk.
        self.on_body = self._body.append
        self._parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        state = "answering" if self._sink is not None else "idle" if self._sender is None else "waiting"
        return f"<Upstream {state}{' again' if self.reused else ''}>"

    @property
    def busy(self) -> bool:
        """Whether an exchange is going on."""
        return self._sender is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def is_clean(self) -> bool:
        """Whether an idle connection has nothing unread: bytes that no request asked for, or the engine's end.

        What waits in the kernel would be taken for the beginning of the next answer. One system call.
        """
        if self.transport.is_closing():
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return not self._poll.poll(0)

    def start(self, sender: RequestSender, request: bytes, body: Rope | None = None) -> None:
        """Send a request, and a long body behind it as fast as the engine takes it; `sender` gets its answer."""
        self._sender = sender
        self.answered = False
        self.ended = False
        self.until_close = False
        self._informational = 0
        self._unparsed = self._trailers = 0
        if body is None:
            self._outbox.write(self.transport, request)
        else:
            self.transport.write(request)
            self._rest = body.blocks()
            self._send_on()

    def pause_writing(self) -> None:
        """Wait: the engine takes its request more slowly."""
        self._full = True

    def resume_writing(self) -> None:
        """Send on."""
        self._full = False
        self._send_on()

    def _send_on(self) -> None:
        """Send one block of a long body in each turn of the loop; what breaks here ends the exchange."""
        if self._rest is None or self._full or self.transport.is_closing():
            return
        try:
            block = next(self._rest, None)
            if block is None:
                self._rest = None
                return
            self.transport.write(block)
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            if self._sender is not None:
                self._broken(self._sender)
            return
        if not self._full:
            asyncio.get_running_loop().call_soon(self._send_on)

    def cancel(self) -> None:
        """Give the exchange up: the engine notices the closed connection and stops its work."""
        self._sender = self._sink = self._rest = None
        self.transport.abort()

    # What the parser finds

    def on_message_begin(self) -> None:
        """Start a head."""
        if self.ended:
            raise Malformed("bytes after the end of the answer")
        self._fields = []
        self._status = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; what comes after the head is a trailer, and dropped."""
        fields = self._fields
        if fields is not None:
            fields.append((name.lower(), value))
            return
        self._trailers += len(name) + len(value) + 4
        if self._trailers > MAX_HEAD:
            raise Malformed(f"its trailers are over {MAX_HEAD} bytes")

    def on_headers_complete(self) -> None:
        """Pass a final head on; swallow an informational one (RFC 9110 section 15.2)."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._informational += 1
            if status == 101 or self._informational > MAX_INFORMATIONAL:
                raise Malformed(f"unasked status {status}")
            self._status = status
            return
        fields, self._fields = self._fields or [], None
        if len(fields) > MAX_FIELDS or self._unparsed > MAX_HEAD:
            check_size(fields)
        head = AnswerHead(status, fields)
        version = self._parser.get_http_version()
        if version != "1.1" and (head.chunked or version != "1.0"):
            raise Malformed(f"{'chunked' if head.chunked else 'an answer'} in HTTP/{version}")
        self._unparsed = 0
        self.until_close = head.until_close
        if head.idle is not None:
            self.owner.keeps_idle(head.idle)
        if self._sender is not None:
            self._sink = self._sender.head(head)

    def on_message_complete(self) -> None:
        """Note the end. Only here does the parser still know whether the connection may be kept."""
        if 100 <= self._status < 200:
            return
        self.ended = True
        self._keep = self._parser.should_keep_alive()

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        """Parse what came and hand it to the sink in one call."""
        if (sender := self._sender) is None:
            self.transport.abort()
            return
        self.answered = True
        if self._sink is None:
            self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.ended:
                cause = error.__context__
                if cause is not None and not isinstance(cause, Malformed):
                    _log.error("an answer broke the gateway", exc_info=cause)
                self._pass_on_rest(sender)
                self._fail(f"{Loss.MALFORMED.value}: {cause or error}")
                return
            self._keep = False
        sink, parts = self._sink, self._body
        if sink is None:
            self._check_head_in_progress()
            return
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        try:
            if self.ended:
                self._sender = self._sink = None
                self._give_back()
                sink.last(body)
            elif body:
                self._unparsed = 0
                sink.data(body)
            else:
                self._check_framing(len(data))
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            self._broken(sender)

    def _pass_on_rest(self, sender: RequestSender) -> None:
        """Hand over what was framed properly before the bytes that are malformed."""
        sink, body = self._sink, b"".join(self._body)
        if sink is not None and body:
            try:
                sink.data(body)
            except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
                self._broken(sender)

    def _give_back(self) -> None:
        """Have the connection kept, if nothing is left of this exchange in either direction."""
        if self._rest is not None or self.transport.get_write_buffer_size():
            self._rest = None
            self.transport.abort()  # answered before the whole request had gone: its rest would come next
        elif self._keep:
            self.owner.put(self)
        else:
            self.transport.close()

    def _check_framing(self, size: int) -> None:
        """Bound what is no body: chunk extensions and trailers, which the parser gathers until they are whole."""
        self._unparsed += size
        if self._unparsed > MAX_HEAD:
            self._fail(f"{Loss.MALFORMED.value}: over {MAX_HEAD} bytes of framing without a byte of its body")

    def _check_head_in_progress(self) -> None:
        """Bound a head that does not end."""
        self._body.clear()
        if self._unparsed > MAX_HEAD and self._sender is not None:
            self._fail(f"{Loss.MALFORMED.value}: its head is over {MAX_HEAD} bytes")

    def eof_received(self) -> None:
        """Let the transport close: an engine that ends its side has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that waits; an answer that only closing ends is complete now."""
        self.owner.forget(self)
        sender, sink = self._sender, self._sink
        self._sender = self._sink = self._rest = None
        self._parser = closed.ANSWERS
        if sender is None:
            return
        try:
            if sink is not None and self.until_close and exc is None:
                sink.last(b"")
            elif self._was_stale():
                sender.lost(Loss.STALE, Loss.STALE.value)
            else:
                (sink or sender).lost(Loss.CLOSED, f"{Loss.CLOSED.value}{f' ({exc})' if exc else ''}")
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            self._broken(sender)

    def _was_stale(self) -> bool:
        """Whether the engine had most likely closed the connection before the request came (RFC 9112 section 9.3.1)."""
        if self.answered or not self.reused or self.idle_for < LEAST_IDLE:
            return False
        return self.owner.now() - self.taken_at <= max(IMMEDIATE, 2 * self.connect_seconds)

    def _fail(self, detail: str) -> None:
        sender, sink = self._sender, self._sink
        self._sender = self._sink = self._rest = None
        self._body.clear()
        self.transport.abort()
        if sender is not None:
            try:
                (sink or sender).lost(Loss.MALFORMED, detail)
            except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
                self._broken(sender)

    def _broken(self, sender: RequestSender) -> None:
        """End an exchange that broke our code; once its answer has ended, the connection may be in use again."""
        _log.exception("an exchange with an engine broke the gateway")
        if not self.ended:
            self.cancel()
        sender.lost(Loss.MALFORMED, "the gateway failed on this request; its log says why")


class Owner(Protocol):
    """What keeps idle connections."""

    def put(self, upstream: Upstream) -> None:
        """Take a connection back whose exchange is over."""

    def forget(self, upstream: Upstream) -> None:
        """Learn that a connection is gone."""

    def keeps_idle(self, seconds: float) -> None:
        """Learn for how long the engine says that it keeps idle connections."""

    def now(self) -> float:
        """Return the time in seconds."""
