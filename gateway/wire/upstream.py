"""One connection to one engine: requests out, parsed answers in. Knows no policy; tells its sink what came."""

import asyncio
import logging
import select
from typing import Protocol, cast

import httptools

from gateway.wire.answer import Loss, Malformed, RequestSender, Sink
from gateway.wire.answer_reader import AnswerReader
from gateway.wire.body_writer import BodyWriter
from gateway.wire.chunks import is_only_chunk, only_chunk
from gateway.wire.last_answer import LastAnswer
from gateway.wire.outbox import Outbox
from gateway.wire.reuse import Reuse
from gateway.wire.rope import Rope

_log = logging.getLogger(__name__)


class Upstream:
    """A connection, idle or carrying one exchange. Every exchange ends in exactly one of: last data, lost, cancel.

    An exchange has two states: it waits for a head while there is a `_sender` alone, and relays an answer once that has
    named the `_sink` for the body. Bytes that come to an idle connection were not asked for, and close it.
    """

    __slots__ = (
        "_between_chunks",
        "_body_writer",
        "_outbox",
        "_poll",
        "_reader",
        "_sender",
        "_sink",
        "address",
        "owner",
        "reuse",
        "transport",
    )

    def __init__(self, owner: "Owner", outbox: Outbox, last: LastAnswer | None = None) -> None:
        self._outbox = outbox
        self._reader = AnswerReader(last)
        self._body_writer: BodyWriter | None = None  # short bodies need none
        self._sender: RequestSender | None = None
        self._sink: Sink | None = None
        self._between_chunks = False  # as the parser has been seen to stand
        self._poll: select.poll | None = None
        self.owner = owner
        self.reuse = Reuse()
        self.transport = cast(asyncio.Transport, None)
        self.address = ""

    def __repr__(self) -> str:
        state = "answering" if self._sink is not None else "idle" if self._sender is None else "waiting"
        return f"<Upstream {state}{' again' if self.reuse.reused else ''}>"

    @property
    def busy(self) -> bool:
        """Whether an exchange is going on."""
        return self._sender is not None

    @property
    def answered(self) -> bool:
        """Whether anything has come of the answer that is waited for."""
        return self._sink is not None or self._reader.unparsed > 0

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
        self._between_chunks = False
        self._reader.begin()
        if body is None:
            self._outbox.write(self.transport, request)
        else:
            self.transport.write(request)
            if self._body_writer is None:
                self._body_writer = BodyWriter()
            self._body_writer.start(self.transport, body, self._body_broke)

    def cancel(self) -> None:
        """Give the exchange up: the engine notices the closed connection and stops its work."""
        self._sender = self._sink = None
        self._stop_body()
        self.transport.abort()

    # What the transport tells

    def pause_writing(self) -> None:
        """Wait: the engine takes its request more slowly."""
        if self._body_writer is not None:
            self._body_writer.pause()

    def resume_writing(self) -> None:
        """Send on."""
        if self._body_writer is not None:
            self._body_writer.resume()

    def data_received(self, data: bytes) -> None:
        """Parse what came and hand it to the sink in one call."""
        sender, sink, reader = self._sender, self._sink, self._reader
        if sender is None:
            self.transport.abort()
            return
        if sink is None:
            reader.expect(data)
        elif self._between_chunks and self._passed(sink, sender, data):
            return
        try:
            between = reader.feed(data, between=self._between_chunks)
        except httptools.HttpParserError as error:
            if not reader.ended:
                self._malformed(sender, error)
                return
            reader.reusable = False
        if sink is None and (sink := self._take_head(sender)) is None:
            return
        pieces = reader.body
        try:
            if reader.ended:
                self._sender = self._sink = None
                self._give_back()
                sink.last(pieces)
            elif pieces:
                reader.unparsed = 0
                self._between_chunks = between or (len(pieces) == 1 and is_only_chunk(data, pieces[0]))
                sink.data(pieces)
            else:
                self._without_body(len(data))
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            self._broken(sender)
        pieces.clear()

    def eof_received(self) -> None:
        """Let the transport close: an engine that ends its side has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that waits; an answer that only closing ends is complete now."""
        self.owner.forget(self)
        sender, sink, answered = self._sender, self._sink, self.answered
        self._sender = self._sink = None
        self._stop_body()
        self._reader.close()
        if sender is None:
            return
        try:
            if sink is not None and self._reader.until_close and exc is None:
                sink.last([])
            elif not answered and self.reuse.was_stale(self.owner.now()):
                sender.lost(Loss.STALE, Loss.STALE.value)
            else:
                (sink or sender).lost(Loss.CLOSED, f"{Loss.CLOSED.value}{_cause(exc)}")
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            self._broken(sender)

    def _passed(self, sink: Sink, sender: RequestSender, data: bytes) -> bool:
        """Have a whole chunk passed on as it is, if it can be: the parser, which is between two, need not see it."""
        piece = only_chunk(data)
        if len(piece) == 0:
            return False
        try:
            return sink.chunk(data, piece)
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            self._broken(sender)
            return True

    def _without_body(self, size: int) -> None:
        """Learn that a read had none of the body in it: where the parser stands is not known any more."""
        self._between_chunks = False
        if (fault := self._reader.framing_fault(size)) is not None:
            self._fail(fault)

    def _take_head(self, sender: RequestSender) -> Sink | None:
        """Hand a head on that is whole; return where its body goes, None without a head or once it was given up."""
        reader = self._reader
        head, reader.head = reader.head, None
        if head is None:
            if (fault := reader.head_fault()) is not None:
                self._fail(fault)
            return None
        if head.idle is not None:
            self.owner.keeps_idle(head.idle)
        try:
            self._sink = sender.head(head)
        except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
            self._broken(sender)
        if self._sink is None:
            reader.body.clear()
        return self._sink

    def _give_back(self) -> None:
        """Have the connection kept, if nothing is left of this exchange in either direction."""
        writer = self._body_writer
        if (writer is not None and writer.sending) or self.transport.get_write_buffer_size():
            self._stop_body()
            self.transport.abort()  # answered before the whole request had gone: its rest would come next
        elif self._reader.reusable:
            self.owner.put(self)
        else:
            self.transport.close()

    def _malformed(self, sender: RequestSender, error: httptools.HttpParserError) -> None:
        """Lose an answer that is not proper HTTP, after what was framed properly before that."""
        cause = error.__context__
        if cause is not None and not isinstance(cause, Malformed):
            _log.error("an answer broke the gateway", exc_info=cause)
        if self._reader.head is not None:
            self._take_head(sender)
        sink, pieces = self._sink, self._reader.body
        if sink is not None and pieces:
            try:
                sink.data(pieces)
            except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
                self._broken(sender)
        self._fail(str(cause or error))

    def _fail(self, fault: str) -> None:
        sender, sink = self._sender, self._sink
        self._reader.body.clear()
        self.cancel()
        if sender is not None:
            try:
                (sink or sender).lost(Loss.MALFORMED, f"{Loss.MALFORMED.value}: {fault}")
            except Exception:  # noqa: BLE001 - `_broken` ends the exchange and logs it
                self._broken(sender)

    def _broken(self, sender: RequestSender) -> None:
        """End an exchange that broke our code; once its answer has ended, the connection may be in use again."""
        _log.exception("an exchange with an engine broke the gateway")
        if self._sender is sender:
            self.cancel()
        sender.lost(Loss.MALFORMED, "the gateway failed on this request; its log says why")

    def _stop_body(self) -> None:
        if self._body_writer is not None:
            self._body_writer.stop()

    def _body_broke(self) -> None:
        if self._sender is not None:
            self._broken(self._sender)


def _cause(error: Exception | None) -> str:
    """Return what broke a connection, in parentheses, without the number that Python puts before it."""
    if error is None:
        return ""
    return f" ({(isinstance(error, OSError) and error.strerror) or error})"


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
