"""What a client reads whose connection is one too many: an answer written without a request."""

import asyncio
from typing import Final

import msgspec

from gateway.errors import Unavailable

_BODY: Final = msgspec.json.encode(Unavailable("the gateway holds as many connections as it may").body())
TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


def turn_away(transport: asyncio.Transport) -> None:
    """Answer a connection too many."""
    if not transport.is_closing():
        transport.write(TOO_MANY)
        transport.close()
