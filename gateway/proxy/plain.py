"""Carrying answers that are not streams of events: whole JSON documents, plain text, and an engine's refusals."""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.exchange import AttemptEnd, Dialect, Exchange
from gateway.lateness import Lateness
from gateway.proxy.answers import JSON, chunk, joined, length, not_whole
from gateway.proxy.document_scan import DocumentScan, note_usage
from gateway.proxy.framing import DocumentFraming
from gateway.proxy.naming import Namer
from gateway.proxy.relay import AttemptCallbacks
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.error_status import begins_as_error, error_code
from gateway.wire.given_up import ERROR, document_given_up
from gateway.wire.service import Writer

MAX_HELD: Final = 64 * 1024
_DESCRIBES_BODY: Final = re.compile(rb"content-.*|.*digest|etag|last-modified|accept-ranges").fullmatch
"""Fields that tell of a body (RFC 9110 section 8, RFC 9530), which another body does not have."""
MAX_UNFRAMED: Final = 8 * 1024 * 1024
MAX_REFUSAL: Final = 256 * 1024
REFUSAL_SECONDS: Final = 3.0
"""Bytes and seconds that the body of an error may take: what it says is known by its status already."""
_MAY_BE_ERROR: Final = re.compile(rb'"(?:error"\s*+:\s*+[{"]|(?:object|type)"\s*+:\s*+"error")')
_BEGINS_JSON: Final = re.compile(rb"[ \t\r\n]*+(?:[{\[]|$)")


class PlainRelay(Sink):
    """Relays one document.

    Up to 64 KiB of it is held until it is whole, so that one cut short can be fetched elsewhere; what is longer flows.
    A document that only closing ends is held to its end, since nothing else tells whether it is whole. `must_be_json`
    says that nothing else can be an answer: an empty one, or the HTML page of a proxy in between, is a failure.
    """

    __slots__ = (
        "_attempt",
        "_client",
        "_dialect",
        "_exchange",
        "_framing",
        "_held",
        "_json",
        "_must_be_json",
        "_naming",
        "_scan",
        "_size",
    )

    def __init__(
        self,
        attempt: AttemptCallbacks,
        client: Writer,
        exchange: Exchange,
        *,
        dialect: Dialect,
        framing: DocumentFraming,
        whole_json: bool,
        must_be_json: bool,
        naming: Namer | None = None,
    ) -> None:
        self._attempt = attempt
        self._client = client
        self._exchange = exchange
        self._dialect = dialect
        self._framing = framing
        self._json = whole_json
        self._must_be_json = must_be_json
        self._naming = naming
        self._held: list[bytes] = []
        self._size = 0
        self._scan: DocumentScan | None = None  # once the document flows

    def data(self, pieces: list[bytes]) -> None:
        """Hold or pass on what was read."""
        scan, body = self._scan, joined(pieces)
        if scan is not None:
            self._client.write(chunk(body) if self._framing.chunked else body)
            self._exchange.answer_size += len(body)
            scan.look_at(body)
            return
        self._held.append(body)
        self._size += len(body)
        if self._must_be_json and not _BEGINS_JSON.match(self._held[0]):
            self._attempt.fail(AttemptEnd.MALFORMED, "the answer is not JSON")
        elif self._json and self._size > MAX_UNFRAMED:
            size = f"over the {MAX_UNFRAMED} bytes that the gateway holds"
            self._attempt.fail(AttemptEnd.TOO_LARGE, f"an answer without framing is {size}")
        elif not self._json and self._size > MAX_HELD:
            self._flow()

    def last(self, pieces: list[bytes]) -> None:
        """Pass on what is left and settle."""
        scan = self._scan
        if scan is not None:
            if pieces:
                self.data(pieces)
            if scan.aborted:
                self._attempt.fail(AttemptEnd.TRUNCATED, "the engine aborted the answer")
                return
            if self._framing.chunked:
                self._client.write(b"0\r\n\r\n")
            self._attempt.complete()
            return
        whole = joined([*self._held, *pieces] if self._held else pieces)
        if self._json and not _is_json(whole):
            self._attempt.fail(AttemptEnd.TRUNCATED, "the answer was cut: it is not whole JSON")
            return
        if self._must_be_json and not whole.startswith(b"{") and (not _BEGINS_JSON.match(whole) or not whole.strip()):
            self._attempt.fail(AttemptEnd.MALFORMED, "the answer is not JSON" if whole else "the answer is empty")
            return
        note_usage(self._exchange, whole)
        says_error = whole.rfind(ERROR) >= 0
        if says_error and _MAY_BE_ERROR.search(whole) and (code := error_code(whole)):
            self._attempt.refuse(code, whole)
            return
        if document_given_up(self._dialect, whole, says_error=says_error):
            self._attempt.fail(AttemptEnd.TRUNCATED, "the engine aborted the answer")
            return
        self._exchange.answer_size = len(whole)
        self._attempt.commit()
        self._client.write(self._framing.whole(self._named(whole)))
        self._attempt.complete()

    def lost(self, loss: Loss, detail: str) -> None:
        """Half a document is none."""
        self._attempt.fail(AttemptEnd.MALFORMED if loss is Loss.MALFORMED else AttemptEnd.TRUNCATED, detail)

    def _flow(self) -> None:
        body = b"".join(self._held)
        if begins_as_error(body):
            self._attempt.fail(AttemptEnd.ERROR_EVENT, f"an error of over {MAX_HELD} bytes")
            return
        self._held.clear()
        scan = self._scan = DocumentScan(self._dialect, self._exchange)
        self._exchange.answer_size = len(body)
        scan.look_at(body)
        self._attempt.commit()
        named = self._named(body)
        self._client.write(self._framing.beginning(named, len(named) - len(body)))

    def _named(self, document: bytes) -> bytes:
        renaming = self._naming.renaming(document) if self._naming is not None else None
        return document if renaming is None else document.replace(*renaming, 1)


class Refusal(Sink):
    """Gathers an engine's error answer, so that it can be given to the client if no other backend does better.

    Of one that is not whole, cut, over 256 KiB or not there after 3 s, the gateway tells how it begins: half a document
    helps no client. It is `done` with such a one at once, and its connection has to be closed.
    """

    __slots__ = ("_began", "_body", "_done", "_head", "_size")

    def __init__(self, head: AnswerHead, done: Callable[[AnswerHead, bytes], None], now: float) -> None:
        self._head = head
        self._done = done
        self._began = now
        self._body: list[bytes] = []
        self._size = 0

    def data(self, pieces: list[bytes]) -> None:
        """Gather, bounded: an error needs few words."""
        self._gather(pieces)
        if self._size > MAX_REFUSAL:
            self._tell(f"is over {MAX_REFUSAL} bytes")

    def last(self, pieces: list[bytes]) -> None:
        """Hand over what was gathered."""
        self._gather(pieces)
        if self._size > MAX_REFUSAL:
            self._tell(f"is over {MAX_REFUSAL} bytes")
        else:
            self._done(self._head, b"".join(self._body))

    def lost(self, _loss: Loss, _detail: str) -> None:
        """Report the error with what has come of its body."""
        self._tell("was cut")

    def check(self, now: float, resumed: float, deadline: float, lateness: Lateness) -> None:
        """Wait no longer than it may take; `resumed` is when the client last let the gateway read on."""
        if now > deadline or lateness.has_passed(REFUSAL_SECONDS, max(self._began, resumed), now):
            self._tell(f"had not ended after {now - self._began:.1f} s")

    def _gather(self, pieces: list[bytes]) -> None:
        self._body += pieces
        self._size += length(pieces)

    def _tell(self, what: str) -> None:
        head = self._head
        head.fields = [*(field for field in head.fields if not _DESCRIBES_BODY(field[0])), JSON]
        self._done(head, not_whole(head.status, b"".join(self._body), what))


def _is_json(document: bytes) -> bool:
    try:
        msgspec.json.decode(document, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
