"""Which header fields cross the gateway, and how heads are written."""

from collections.abc import Iterable
from http import HTTPStatus
from types import MappingProxyType

Headers = list[tuple[bytes, bytes]]
"""Fields in the order they came; names in lower case."""

_HOP_BY_HOP = frozenset(
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
_NEVER_UPSTREAM = _HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"x-api-key",
    b"x-request-id",
}
_NEVER_DOWNSTREAM = _HOP_BY_HOP | {b"content-length", b"x-request-id"}
_OURS = b"x-gateway-"

_STATUS_LINES = MappingProxyType(
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


def forwarded_request(headers: Headers, connection: frozenset[bytes]) -> bytes:
    """Return the client's fields that go on to an engine, as bytes of a head."""
    return b"".join(
        [
            b"%b: %b\r\n" % (name, value)
            for name, value in headers
            if name not in _NEVER_UPSTREAM and name not in connection and not name.startswith(_OURS)
        ]
    )


def forwarded_response(status: int, headers: Headers) -> bytes:
    """Return the status line and the engine's fields that go on to a client; framing is left to the caller."""
    parts = [status_line(status)]
    connection: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name == b"connection":
            connection = named_by_connection((value,))
    for name, value in headers:
        if name not in _NEVER_DOWNSTREAM and name not in connection and not name.startswith(_OURS):
            parts.append(b"%b: %b\r\n" % (name, value))
    return b"".join(parts)


def status_line(status: int) -> bytes:
    """Return the status line; a status that no registry knows gets no phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
