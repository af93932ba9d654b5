"""The gateway's own words: error answers, error events, and what of an engine's refusal is passed on."""

from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from gateway.errors import (
    AnswerTooLarge,
    BackendFailed,
    FirstTokenTimeout,
    GatewayError,
    MethodNotAllowed,
    NoReadyBackend,
    Overloaded,
    Shed,
    StreamBroken,
    TimedOut,
)
from gateway.exchange import AttemptEnd, Dialect, Exchange
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import Shed as Reason
from gateway.policy.admission.decide import TurnedAway
from gateway.policy.slo.words import duration
from gateway.proxy import anthropic
from gateway.wire.chunks import size_line
from gateway.wire.heads import Headers

MAX_RETRY_AFTER: Final = 60
JSON = (b"content-type", b"application/json")
_BEGINNING: Final = 1000
"""Bytes of an engine's error that are told where it is not whole."""


def error_head(error: GatewayError, request_id: str) -> bytes:
    """Return the fields of an error answer."""
    wait = b"retry-after: %d\r\n" % error.retry_after if error.retry_after is not None else b""
    allow = b"allow: %b\r\n" % error.allow.encode() if isinstance(error, MethodNotAllowed) else b""
    return b"x-request-id: %b\r\n%b%b" % (request_id.encode(), wait, allow)


def answer_head(exchange: Exchange, forwarded: bytes, labels: bytes | None, quota: bytes, *, keep_alive: bool) -> bytes:
    """Return the head of an engine's answer: `forwarded` of its own, then what the gateway has to say.

    `labels` say where the request went; None for a client that is told nothing of the kind.
    """
    if labels is None:
        close = b"" if keep_alive else b"connection: close\r\n"
        return b"%bx-request-id: %b\r\n%b%b" % (forwarded, exchange.request_id.encode(), quota, close)
    return b"%bx-request-id: %b\r\n%b%bx-gateway-attempts: %d\r\nx-gateway-queue-ms: %d\r\n%b" % (
        forwarded,
        exchange.request_id.encode(),
        labels,
        quota,
        len(exchange.attempts),
        int(exchange.queued * 1000),
        b"" if keep_alive else b"connection: close\r\n",
    )


def turned_away(refused: TurnedAway, service_class: ServiceClass) -> GatewayError:
    """Return what to tell a client whose request gets no slot."""
    match refused.why:
        case Reason.FULL | Reason.PUSHED_OUT:
            words = "too many requests are waiting"
        case Reason.HOPELESS:
            words = f"behind {refused.ahead} others, the chance of a slot within {duration(refused.patience)}"
            words = f"{words} is at most {refused.chance:.0%}"
        case Reason.WAITED:
            words = f"no slot became free within {duration(refused.patience)}"
    kind = Shed if service_class.sheddable else Overloaded
    return kind(f"overloaded: {words}; retry in {refused.retry_after} s", retry_after=refused.retry_after)


def error_event(error: GatewayError, dialect: Dialect, request_id: str) -> bytes:
    """Return the event that ends a stream which cannot be completed, in the words that the dialect's clients read."""
    body = error.body()
    body["error"]["request_id"] = request_id
    if dialect is Dialect.MESSAGES:
        body = anthropic.shaped(error.status, error.message, request_id)
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(body)
    if dialect is Dialect.RESPONSES:
        body = {"type": "error", **body["error"], "error": body["error"]}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(body)
    return b"data: %b\n\n" % msgspec.json.encode(body)


def chunk(data: bytes) -> bytes:
    """Return one chunk of the chunked coding (RFC 9112 section 7.1)."""
    return b"%b%b\r\n" % (size_line(len(data)), data)


def in_one_chunk(pieces: list[bytes], before: bytes, after: bytes) -> bytes:
    """Return pieces as one chunk, without one where they are empty, between what comes before and after it."""
    size = length(pieces)
    if not size:
        return before + after
    if len(pieces) == 1:
        return b"%b%b%b\r\n%b" % (before, size_line(size), pieces[0], after)
    return b"".join([before, size_line(size), *pieces, b"\r\n", after])


def length(pieces: list[bytes]) -> int:
    """Return how many bytes these are."""
    size = 0
    for piece in pieces:
        size += len(piece)
    return size


def joined(pieces: list[bytes]) -> bytes:
    """Return pieces as one, copied only where there are several."""
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def not_whole(status: int, said: bytes, what: str) -> bytes:
    """Return what takes the place of an engine's error body that is not whole, with the words that it begins with."""
    kind = "invalid_request_error" if status < 500 else "backend_error"
    message = (
        f"the engine answered {status}; its error {what}, and begins: {said[:_BEGINNING].decode(errors='replace')}"
    )
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": "error_not_whole"}})


def capped_retry_after(headers: Headers, wall_now: float) -> Headers:
    """Return the fields with Retry-After, in seconds or as a date, made a sane number of seconds, or left out."""
    kept = [(name, value) for name, value in headers if name != b"retry-after"]
    for name, value in headers:
        if name == b"retry-after" and (seconds := _seconds(value, wall_now)) is not None:
            kept.append((name, b"%d" % min(max(seconds, 0), MAX_RETRY_AFTER)))
            break
    return kept


def _seconds(value: bytes, wall_now: float) -> int | None:
    if value.isdigit():
        return int(value[:9])
    try:
        return int(parsedate_to_datetime(value.decode("ascii")).timestamp() - wall_now)
    except (ValueError, UnicodeDecodeError, OverflowError):
        return None


def failure(end: AttemptEnd, backend: str, detail: str, attempts: int, *, committed: bool) -> GatewayError:
    """Return what to tell the client after the last attempt ended so; `committed` when it has part of the answer.

    `backend` is where the last attempt was, "" for a client that is not told.
    """
    if end is AttemptEnd.TOO_LARGE:
        return AnswerTooLarge(f"the answer cannot be passed on: {detail}")
    if committed and end is not AttemptEnd.CLIENT_TIMEOUT:
        return StreamBroken(f"the backend failed while it was answering: {detail}")
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    last = f"; the last one was at {backend}: {detail}" if backend else ""
    match end:
        case AttemptEnd.CONNECT_FAILED:
            return NoReadyBackend(f"no backend could be reached in {tries}{last}")
        case AttemptEnd.FIRST_TOKEN_TIMEOUT:
            return FirstTokenTimeout(f"no answer began in {tries}{last}")
        case AttemptEnd.DEADLINE_EXCEEDED | AttemptEnd.GATEWAY_LATE | AttemptEnd.CLIENT_TIMEOUT:
            why = f", after {tries}{last}" if attempts else f": it has waited for a backend, and {detail}"
            return TimedOut(f"not answered in time{why}")
        case _:
            return BackendFailed(f"the request failed in {tries}{last}")
