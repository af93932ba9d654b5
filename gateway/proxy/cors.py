"""Letting pages of other origins ask, where the process settings name them (WHATWG Fetch, CORS protocol)."""

import re
from typing import Final

from gateway.proxy.around import Around
from gateway.wire.heads import Headers, find
from gateway.wire.service import Writer

_NAMES: Final = re.compile(rb"[A-Za-z0-9_.,\- ]{1,1024}")
_SHOWN: Final = b"access-control-expose-headers: x-request-id, retry-after\r\n"
_MAX_AGE: Final = 600


class CrossOrigin(Around):
    """A client that is a page of an allowed origin: its answers say that it may read them."""

    def __init__(self, client: Writer, origin: bytes) -> None:
        super().__init__(client)
        self._fields = b"access-control-allow-origin: %b\r\nvary: Origin\r\n%b" % (origin, _SHOWN)

    def write(self, data: bytes) -> None:
        """Write a piece of the answer; the first one begins with its head."""
        if self._fields and data.startswith(b"HTTP/1.1 "):
            line, _, rest = data.partition(b"\r\n")
            data, self._fields = b"%b\r\n%b%b" % (line, self._fields, rest), b""
        self._client.write(data)

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer."""
        self._client.reply(status, self._fields + head, body)


def seen_by(client: Writer, headers: Headers, origins: frozenset[bytes]) -> Writer:
    """Return where to answer a request with these fields."""
    origin = find(headers, b"origin") if origins else None
    if origin is None or not (origin in origins or b"*" in origins):
        return client
    return CrossOrigin(client, origin)


def is_preflight(client: Writer, headers: Headers) -> bool:
    """Whether an OPTIONS request is an allowed page's question what it may send."""
    return isinstance(client, CrossOrigin) and find(headers, b"access-control-request-method") is not None


def permit(client: Writer, headers: Headers, request_id: str) -> None:
    """Answer a preflight: the methods that there are, and the fields that were asked for."""
    names = find(headers, b"access-control-request-headers") or b""
    allowed = b"access-control-allow-headers: %b\r\n" % names if _NAMES.fullmatch(names) else b""
    methods = b"access-control-allow-methods: GET, HEAD, POST\r\naccess-control-max-age: %d\r\n" % _MAX_AGE
    client.reply(200, b"x-request-id: %b\r\n%b%b" % (request_id.encode(), methods, allowed), b"")
    client.finish()
