"""Reading the answers on a connection: bytes in; a head, pieces of a body and an end out. Knows no transport."""

from typing import TYPE_CHECKING, Final

import httptools

from gateway.wire import closed
from gateway.wire.answer import MAX_FIELDS, MAX_HEAD, AnswerHead, Malformed, check_size
from gateway.wire.chunks import take_chunks
from gateway.wire.heads import Headers
from gateway.wire.last_answer import LastAnswer

if TYPE_CHECKING:
    from mypy_extensions import i64

MAX_INFORMATIONAL: Final = 8
_LONG_READ: Final = 2048
"""Bytes of a read that has a head and, most likely, more than a few chunks."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_HTTP11: Final = b"HTTP/1.1 "


class AnswerReader:
    """What has been read of the answer in progress. A connection has one reader for all its answers.

    Bytes go into `feed`, which raises HttpParserError for what is no proper answer; those of a head are given to
    `expect` before. Afterwards `head` is a final head that has just come, `body` holds the pieces that the bytes
    brought, and `ended` says that the answer is complete. The connection takes `head` and empties `body`. `reusable`
    says whether the engine keeps the connection open.
    """

    __slots__ = (
        "_beside",
        "_fields",
        "_http11",
        "_last",
        "body",
        "ended",
        "head",
        "on_body",
        "parser",
        "reusable",
        "unparsed",
        "until_close",
    )

    def __init__(self, last: LastAnswer | None = None) -> None:
        """Take what is known of the engine's last answer, which its connections share."""
        self._last = LastAnswer() if last is None else last
        self.head: AnswerHead | None = None
        self.body: list[bytes] = []
        self.ended = False
        self.reusable = False
        self.until_close = False
        self.unparsed = 0  # bytes of the head, or of framing since the last bytes of the body
        self._fields: Headers | None = None
        self._http11 = False
        self._beside = 0  # informational heads before the answer's own; then bytes of trailers
        # What one read brings is gathered by the list itself: a method would cost a call for every chunk.
        self.on_body = self.body.append
        self.parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        state = "ended" if self.ended else "in a head" if self._fields is not None else "in a body"
        return f"<AnswerReader {state}>"

    def begin(self) -> None:
        """Expect the next answer."""
        self.ended = False
        self.until_close = False
        self.unparsed = self._beside = 0

    def expect(self, data: bytes) -> None:
        """Count bytes that belong to a head, and note how they begin."""
        if not self.unparsed:
            self._http11 = data[:9] == _HTTP11
        self.unparsed += len(data)

    def feed(self, data: bytes, *, between: bool) -> bool:
        """Take bytes, `between` two chunks or not as far as is known; return that for the bytes that follow.

        The parser gets what is no whole chunk as engines write them: of a burst, the head and the end. Raises
        HttpParserError.
        """
        at: i64 = 0
        if self.unparsed and len(data) >= _LONG_READ and (end := data.find(_END_OF_HEAD)) >= 0:
            at = end + len(_END_OF_HEAD)
            self.parser.feed_data(data[:at])
            head = self.head
            # Behind a head that ends earlier, in an odd way, there is some of a body now.
            between = head is not None and head.chunked and not (self.ended or self.body)
        if between:
            at = take_chunks(data, at, self.body)
        if at == len(data):
            return between
        self.parser.feed_data(data[at:] if at else data)
        return False

    def close(self) -> None:
        """Read nothing more. The parser and this reader hold each other until then."""
        self.parser = closed.ANSWERS

    def head_fault(self) -> str | None:
        """Return what is wrong with a head that has not ended yet."""
        return f"its head is over {MAX_HEAD} bytes" if self.unparsed > MAX_HEAD else None

    def framing_fault(self, size: int) -> str | None:
        """Return what is wrong with so many bytes more that held none of the body.

        They are chunk extensions and trailers, which the parser gathers until they are whole.
        """
        self.unparsed += size
        return f"over {MAX_HEAD} bytes of framing without a byte of its body" if self.unparsed > MAX_HEAD else None

    # What the parser finds

    def on_message_begin(self) -> None:
        """Start a head."""
        if self.ended:
            raise Malformed("bytes after the end of the answer")
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field. What comes after the head is a trailer, and dropped."""
        fields = self._fields
        if fields is not None:
            fields.append((name.lower(), value))
            return
        self._beside += len(name) + len(value) + 4
        if self._beside > MAX_HEAD:
            raise Malformed(f"its trailers are over {MAX_HEAD} bytes")

    def on_headers_complete(self) -> None:
        """Read a final head; swallow an informational one (RFC 9110 section 15.2)."""
        status = self.parser.get_status_code()
        if 100 <= status < 200:
            self._beside += 1
            if status == 101 or self._beside > MAX_INFORMATIONAL:
                raise Malformed(f"unasked status {status}")
            return
        fields, self._fields = self._fields or [], None
        if len(fields) > MAX_FIELDS or self.unparsed > MAX_HEAD:
            check_size(fields)
        head = self._last.head(status, fields)
        if not self._http11 or self._beside:
            self._check_version(head)
        self.unparsed = self._beside = 0
        self.until_close = head.until_close
        self.head = head

    def on_message_complete(self) -> None:
        """Note the end. Only here does the parser still know whether the connection may be kept."""
        if self._fields is not None:
            return  # of an informational answer
        self.ended = True
        self.reusable = self.parser.should_keep_alive()

    def _check_version(self, head: AnswerHead) -> None:
        """Refuse versions that we do not speak. Asking the parser takes 0.3 us, so it is asked only in doubt."""
        version = self.parser.get_http_version()
        if version != "1.1" and (head.chunked or version != "1.0"):
            raise Malformed(f"{'chunked' if head.chunked else 'an answer'} in HTTP/{version}")
