"""What the kernel knows of a connection that the event loop does not tell."""

import asyncio
import select
import socket


def peer_of(transport: asyncio.Transport) -> str:
    """Return the address of the other end, "" where it has none."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def was_reset(transport: asyncio.Transport) -> bool:
    """Whether the other end has answered with a reset; after its FIN nothing is read there any more."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def holds_more(transport: asyncio.Transport) -> bool:
    """Whether something has come that is not read yet: to close on it would destroy it, and what is on its way out."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    return connection is not None and is_readable(connection)


def is_readable(connection: socket.socket) -> bool:
    """Whether something has come on a socket: bytes or an end, or a connection where it listens."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
