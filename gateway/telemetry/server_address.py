"""Where requests came in and where attempts went, as attributes of OpenTelemetry: `server.address`, `server.port`."""

import socket
from typing import Final

from gateway.telemetry.otlp import Attribute

_ADDRESS: Final = Attribute("server.address")
_PORT: Final = Attribute("server.port")
_ANY: Final = frozenset(("", "0.0.0.0", "::"))  # noqa: S104 - compared, not bound


def own_address(host: str, port: int) -> bytes:
    """Return the attributes of a listener: this machine's name where it listens at any address."""
    return _attributes(socket.gethostname() if host in _ANY else host, port)


def backend_address(backend: str, pool: str) -> bytes:
    """Return the attributes of a backend by its id, which is `pool/host:port` and then a path if it has one."""
    host, _, port = backend[len(pool) + 1 :].partition("/")[0].rpartition(":")
    return _attributes(host.strip("[]"), int(port) if port.isdecimal() else 0)


def _attributes(host: str, port: int) -> bytes:
    """Return them without what is not known: a port of 0 is any."""
    return (_ADDRESS.text(host) if host else b"") + (_PORT.whole(port) if port else b"")
