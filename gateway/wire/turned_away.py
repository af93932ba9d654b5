"""What a client reads whose connection is one too many: an answer written without a request."""

import msgspec

from gateway.errors import Unavailable

_BODY = msgspec.json.encode(Unavailable("the gateway holds as many connections as it may").body())
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
