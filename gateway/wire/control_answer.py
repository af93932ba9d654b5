"""One answer to a question of the gateway's own, as it comes in: whole, uncompressed, and never beyond a bound."""

from typing import Final

import httptools

from gateway.wire import closed
from gateway.wire.answer import MAX_FIELDS, MAX_HEAD, AnswerHead, Malformed, check_size
from gateway.wire.heads import Headers

_OK: Final = 200
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
_MAX_INFORMATIONAL: Final = 8
_SHORT: Final = 64 * 1024
"""Bytes up to which an answer that is not wanted is read all the same, so that its connection can be kept."""


class ControlAnswer:
    """Bytes in, an answer out. It is `complete` when its end has come, and then tells whether to `keep` its connection.

    `most` bounds the body that is wanted, in bytes; 0 asks for the status alone.
    """

    __slots__ = (
        "_fields",
        "_informational",
        "_most",
        "_parser",
        "_parts",
        "_size",
        "_unparsed",
        "complete",
        "head",
        "keep",
    )

    def __init__(self, most: int) -> None:
        self._most = most
        self._fields: Headers = []
        self._informational = 0
        self._parts: list[bytes] = []
        self._size = self._unparsed = 0
        self.head: AnswerHead | None = None
        self.complete = self.keep = False
        self._parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"<ControlAnswer {self.status} {self._size} bytes{'' if self.complete else ' so far'}>"

    @property
    def status(self) -> int:
        """The status, 0 before the head has come."""
        return 0 if self.head is None else self.head.status

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return self._unparsed > 0 or self.head is not None

    @property
    def body(self) -> bytes | None:
        """The body; None where the status is not 200, the body compressed or too long, or not all of it there."""
        if not self.complete or not self._wanted or self._size > self._most:
            return None
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    @property
    def settled(self) -> bool:
        """Whether nothing that may still come would change what it says."""
        if self.complete:
            return True
        if self.head is None:
            return False
        if not self._wanted and (self.head.length is None or self.head.length > _SHORT):
            return True
        return self._size > max(self._most, _SHORT)

    def feed(self, data: bytes) -> None:
        """Take what came; raises Malformed."""
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise Malformed(str(error.__context__ or error)) from None
            self.keep = False  # bytes after its end
        if self._unparsed > MAX_HEAD and not self.settled:
            what = "its head is" if self.head is None else "the framing of its body is"
            raise Malformed(f"{what} over {MAX_HEAD} bytes")

    def feed_eof(self) -> bool:
        """Learn that the connection was closed; return whether that is the proper end."""
        if self.head is not None and self.head.until_close:
            self.complete = True
        return self.complete

    def release(self) -> None:
        """Let go of the parser, which holds this."""
        self._parser = closed.ANSWERS

    # What the parser finds

    def on_message_begin(self) -> None:
        """Start a head."""
        if self.complete:
            raise Malformed("bytes after the end of the answer")
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; trailers are dropped."""
        if self.head is None:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Read a final head; swallow an informational one (RFC 9110 section 15.2)."""
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL:
            self._informational += 1
            if status == _SWITCHING_PROTOCOLS or self._informational > _MAX_INFORMATIONAL:
                raise Malformed(f"unasked status {status}")
            return
        if len(self._fields) > MAX_FIELDS or self._unparsed > MAX_HEAD:
            check_size(self._fields)
        self.head = AnswerHead(status, self._fields)
        self._unparsed = 0

    def on_body(self, data: bytes) -> None:
        """Keep what is wanted."""
        self._unparsed = 0
        self._size += len(data)
        if self._wanted and self._size <= self._most:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """Note the end. Only here does the parser still know whether the connection may be kept."""
        if self.head is not None:
            self.complete = True
            self.keep = self._parser.should_keep_alive()

    @property
    def _wanted(self) -> bool:
        head = self.head
        return self._most > 0 and head is not None and head.status == _OK and head.coding is None
