"""Who carries an engine's answer to the client: a relay of events, or of a document."""

from typing import Final

from gateway.clock import Clock
from gateway.exchange import AttemptEnd, BodyKind, Dialect, Exchange
from gateway.proxy.framing import DocumentFraming
from gateway.proxy.naming import Namer, Naming
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.relay import AttemptCallbacks, StreamRelay
from gateway.proxy.routed_request import RoutedRequest
from gateway.proxy.stored import Noting
from gateway.wire.answer import AnswerHead
from gateway.wire.service import Writer
from gateway.wire.sse import Scanner

# For proxies in front, which would hold back or recode what shall reach the client at once.
UNBUFFERED: Final = b"cache-control: no-transform\r\nx-accel-buffering: no\r\n"
_BINARY: Final[tuple[bytes, ...]] = (b"application/octet-stream", b"audio/", b"image/", b"multipart/")


def carrier(
    attempt: AttemptCallbacks,
    client: Writer,
    exchange: Exchange,
    routed: RoutedRequest,
    *,
    answer: AnswerHead,
    head: bytes,
    clock: Clock,
    max_event: int,
) -> StreamRelay | PlainRelay | Refusal:
    """Return the relay for this answer; `head` is what the client gets before its framing."""
    exchange.client_status = answer.status
    kind = answer.kind
    exchange.stream = kind.startswith(b"text/event-stream")
    is_json = not exchange.stream and (kind == b"application/json" or kind.find(b"json") >= 0)
    naming: Namer | None = None if routed.spec.asked is None else Naming(routed.spec.asked, routed.version.served_json)
    stored = routed.spec.endpoint.body is BodyKind.NONE
    if routed.spec.stored is not None:
        naming = Noting(routed.spec.stored, exchange, naming, routed.spec.asked)
    if exchange.stream:
        head += UNBUFFERED if head.find(b"x-accel-buffering") < 0 else b""
        return StreamRelay(
            attempt,
            client,
            exchange,
            Scanner(
                routed.spec.endpoint.dialect,
                strip_usage=routed.message.strip_usage,
                choices=routed.spec.choices,
                max_event=max_event,
                stored=stored,
            ),
            head=head + (b"\r\n" if routed.spec.http10 else b"transfer-encoding: chunked\r\n\r\n"),
            chunked=not routed.spec.http10,
            clock=clock,
            naming=naming,
        )
    if exchange.opened:
        exchange.stream = True
        beside = "a document, where a stream had been begun"
        return Refusal(answer, lambda _head, _body: attempt.fail(AttemptEnd.MALFORMED, beside), clock())
    return PlainRelay(
        attempt,
        client,
        exchange,
        dialect=Dialect.PLAIN if stored else routed.spec.endpoint.dialect,
        framing=DocumentFraming(head, length=answer.length, chunked=not routed.spec.http10),
        whole_json=answer.until_close and is_json,
        must_be_json=routed.spec.endpoint.answers_json and (is_json or not kind.startswith(_BINARY)),
        naming=naming if is_json else None,
    )
