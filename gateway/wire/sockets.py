"""What the kernel knows of a connection that the event loop does not tell."""

import asyncio
import socket


def was_reset(transport: asyncio.Transport) -> bool:
    """Whether the other end has answered with a reset; after its FIN nothing is read there any more."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
