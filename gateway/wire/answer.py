"""An engine's answer, as the connection that it comes on tells it to its receiver."""

import re
from enum import Enum
from typing import Final, Protocol

from gateway.marks import mypyc_attr
from gateway.wire.heads import Headers, named_by_connection

MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 100
_TIMEOUT: Final = re.compile(rb"(?i)\btimeout\s*=\s*(\d{1,6})\b")


class Loss(Enum):
    """How an exchange on a connection was cut short.

    STALE is a reused connection that was closed at once and without a byte: the engine hardly saw the request.
    """

    STALE = "an idle connection had been closed"
    CLOSED = "the connection was closed"
    MALFORMED = "the answer is not proper HTTP"


class AnswerHead:
    """A final head, read once.

    `length` is as declared, in bytes; `until_close` tells that only closing ends the body; `kind` and `coding` are the
    content type and the content coding; `connection` names fields that stop here (RFC 9110 section 7.6.1); `idle` is
    what `Keep-Alive` says of how long the engine keeps an idle connection, in seconds. What of it goes on to a client
    is noted as `forwarded`, for the next answer with the same head.
    """

    __slots__ = (
        "chunked",
        "coding",
        "connection",
        "fields",
        "forwarded",
        "idle",
        "kind",
        "length",
        "status",
        "until_close",
    )

    def __init__(self, status: int, fields: Headers) -> None:
        self.status = status
        self.fields = fields
        self.forwarded: bytes | None = None
        self.kind = b""
        self.coding: bytes | None = None
        self.connection: frozenset[bytes] | None = None
        self.length: int | None = None
        self.idle: float | None = None
        self.chunked = False
        for name, value in fields:
            if name == b"content-type":
                self.kind = value.lower()
            elif name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise Malformed(f"transfer coding {value[:40]!r}")
                self.chunked = True
            elif name == b"content-encoding" and value.lower() != b"identity":
                self.coding = value
            elif name == b"connection":
                self.connection = named_by_connection((value,))
            elif name == b"keep-alive" and (told := _TIMEOUT.search(value)) is not None:
                self.idle = float(told[1])
        self.until_close = self.length is None and not self.chunked and status not in {204, 304}


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink:
    """Where an answer's body goes, in pieces as its engine framed it. The lists are empty again after the call.

    A base class for the same reason as `Writer`.
    """

    __slots__ = ()

    def data(self, pieces: list[bytes]) -> None:
        """Take what one read brought."""
        raise NotImplementedError

    def chunk(self, data: bytes, piece: bytes) -> bool:  # noqa: ARG002 - a few sinks alone pass chunks on
        """Take a read that is one whole chunk, with this piece in it; False where it has to be given to `data`."""
        return False

    def last(self, pieces: list[bytes]) -> None:
        """Take the final pieces, which may be none: the answer is complete."""
        raise NotImplementedError

    def lost(self, loss: Loss, detail: str) -> None:
        """Learn that the answer will not be completed."""
        raise NotImplementedError


class RequestSender(Protocol):
    """The sender of a request."""

    def head(self, head: AnswerHead) -> Sink | None:
        """Take the final head and say where the body goes; None after giving the exchange up."""

    def lost(self, loss: Loss, detail: str) -> None:
        """Learn that no answer came."""


def check_size(fields: Headers) -> None:
    """Raise Malformed for a head beyond the bounds."""
    if len(fields) > MAX_FIELDS or sum(len(name) + len(value) + 4 for name, value in fields) > MAX_HEAD:
        raise Malformed(f"its head is over {MAX_FIELDS} fields or {MAX_HEAD} bytes")


class Malformed(Exception):
    """What came is no proper answer; raised inside parser callbacks it makes httptools stop."""
