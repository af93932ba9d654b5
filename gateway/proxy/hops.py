"""Ending loops: each gateway adds its name to what it sends on, and refuses what has passed it before.

A route may lead back by a backend that is this gateway, or by way of others. Two or three gateways in a row are
legitimate (one for a site, one for a cluster).
"""

import secrets
from typing import Final

from gateway.errors import LoopDetected

FIELD: Final = b"x-gateway-hops"
MOST: Final = 4
"""Gateways that a request may pass, one after the other."""


class Hops:
    """The gateways that a request has passed, and this process's name among them.

    `first` is the header field for a request that has passed none, as most have.
    """

    __slots__ = ("first", "name")

    def __init__(self) -> None:
        self.name = secrets.token_hex(6).encode()
        self.first = b"%b: %b\r\n" % (FIELD, self.name)

    def check(self, passed: bytes) -> None:
        """Refuse a request that has been here, or has gone too far; raises LoopDetected."""
        names = [name.strip() for name in passed.split(b",")]
        if self.name in names:
            raise LoopDetected(
                "this request has come back to the gateway that sent it on: a backend in its routes is the gateway "
                "itself or leads back to it"
            )
        if len(names) >= MOST:
            raise LoopDetected(f"this request has passed {len(names)} gateways, more than {MOST} may be chained")

    def field(self, passed: bytes) -> bytes:
        """Return the field that goes on with a request which has passed these gateways."""
        return b"%b: %b, %b\r\n" % (FIELD, passed, self.name)
