"""Which header fields cross the gateway, and how heads are written."""

from collections.abc import Iterable
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

Headers = list[tuple[bytes, bytes]]
"""Fields in the order they came; names in lower case."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_OURS: Final = frozenset(
    b"x-gateway-" + name
    for name in (b"attempts", b"backend", b"class", b"hops", b"model-version", b"pool", b"queue-ms", b"version")
)
_CREDENTIALS: Final = frozenset(
    (
        b"api-key",
        b"authorization",
        b"cookie",
        b"cookie2",
        b"ocp-apim-subscription-key",
        b"set-cookie",
        b"set-cookie2",
        b"x-api-key",
        b"x-auth-token",
        b"x-goog-api-key",
    )
)
"""Names under which OpenAI's, Anthropic's, Azure's and Google's clients, and browsers, send what must stay secret."""
_NEVER_UPSTREAM: Final = (
    _HOP_BY_HOP
    | _CREDENTIALS
    | {b"accept-encoding", b"content-length", b"expect", b"host", b"origin", b"x-request-id"}
    | _OURS
)
_CORS: Final = frozenset(
    b"access-control-" + name
    for name in (
        b"allow-credentials",
        b"allow-headers",
        b"allow-methods",
        b"allow-origin",
        b"expose-headers",
        b"max-age",
    )
)
_NEVER_DOWNSTREAM: Final = _HOP_BY_HOP | _CREDENTIALS | _CORS | {b"content-length", b"x-request-id"} | _OURS
_FORWARDED: Final[tuple[bytes, ...]] = (b"forwarded", b"x-forwarded-", b"x-real-ip")
"""How the names of fields begin by which a proxy says for whom it asks."""
_F_OR_X: Final = frozenset((b"f", b"x"))

_STATUS_LINES: Final = MappingProxyType(
    {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
)


def named_by_connection(values: Iterable[bytes]) -> frozenset[bytes]:
    """Return the fields that a `Connection` field makes hop-by-hop (RFC 9110 section 7.6.1)."""
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))


def find(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of a field, or None."""
    for field, value in headers:
        if field == name:
            return value
    return None


def forwarded_request(headers: Headers, connection: frozenset[bytes], *, trusted: bool = False) -> bytes:
    """Return the client's fields that go on to an engine, as bytes of a head.

    Whom a proxy asks for is passed on only of one that is `trusted`: anybody else can claim whatever they like.
    """
    stays = _NEVER_UPSTREAM | connection if connection else _NEVER_UPSTREAM
    parts: list[bytes] = []
    for name, value in headers:
        if name not in stays and (trusted or name[:1] not in _F_OR_X or not name.startswith(_FORWARDED)):
            parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def forwarded_response(status: int, headers: Headers, connection: frozenset[bytes] | None) -> bytes:
    """Return the status line and the engine's fields that go on to a client; framing is left to the caller."""
    stays = _NEVER_DOWNSTREAM | connection if connection else _NEVER_DOWNSTREAM
    parts = [status_line(status)]
    for name, value in headers:
        if name not in stays:
            parts.append(name)
            parts.append(b": ")
            parts.append(value)
            parts.append(b"\r\n")
    return b"".join(parts)


def status_line(status: int) -> bytes:
    """Return the status line; a status that no registry knows gets no phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
