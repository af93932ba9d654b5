"""Heads of engines' answers as clients get them; one that refuses work says when to ask again."""

from collections.abc import Callable
from typing import Final

from gateway.backends.backend import Backend
from gateway.exchange import Exchange
from gateway.proxy.answers import answer_head
from gateway.proxy.retrying import Refused
from gateway.proxy.routed_request import RoutedRequest
from gateway.wire.answer import AnswerHead
from gateway.wire.heads import Headers, find, forwarded_response

_REFUSES_WORK: Final = frozenset((429, 503))


def with_retry_after(status: int, fields: Headers, routed: RoutedRequest, chance: Callable[[], float]) -> Headers:
    """Return an answer's fields; one that refuses work says when to ask again, by the queue if not by the engine."""
    if status not in _REFUSES_WORK or find(fields, b"retry-after") is not None:
        return fields
    seconds = routed.route.line.retry_after(routed.spec.service_class, routed.spec.tenant.name, chance())
    return [*fields, (b"retry-after", b"%d" % seconds)]


def refused(
    routed: RoutedRequest,
    exchange: Exchange,
    backend: Backend,
    answer: AnswerHead,
    body: bytes,
    *,
    keep_alive: bool,
    chance: Callable[[], float],
) -> Refused:
    """Return an engine's error answer as the client gets it if no other backend does better."""
    fields = with_retry_after(answer.status, answer.fields, routed, chance)
    forwarded = forwarded_response(answer.status, fields, answer.connection)
    return answer.status, head_of(routed, exchange, backend, forwarded, keep_alive=keep_alive), body


def head_of(
    routed: RoutedRequest, exchange: Exchange, backend: Backend | None, forwarded: bytes, *, keep_alive: bool
) -> bytes:
    """Return the head of an engine's answer: `forwarded` of its own, and what the gateway has to say."""
    labels = None
    if routed.spec.shows_labels:
        labels = routed.version.labels[backend.id] if backend is not None else b""
    return answer_head(exchange, forwarded, labels, routed.quota_shown, keep_alive=keep_alive)
