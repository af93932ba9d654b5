"""What systemd is told (sd_notify(3)), and the sockets that it has opened for this process (sd_listen_fds(3))."""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

_FIRST = 3
_ADMIN = "admin"


def notify(*assignments: str) -> None:
    """Tell the service manager; without one nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        manager.send("\n".join(assignments).encode())


def reloading() -> None:
    """Tell that something is replaced; READY=1 has to follow."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def given_sockets(environ: MutableMapping[str, str]) -> tuple[list[socket.socket], socket.socket | None]:
    """Return the listening sockets that systemd has opened for this process: those of clients, and the admin's.

    The admin's is that whose FileDescriptorName begins with `admin`.
    """
    count, owner, names = (environ.pop(f"LISTEN_{name}", "") for name in ("FDS", "PID", "FDNAMES"))
    if owner != str(os.getpid()) or not count.isdigit():
        return [], None
    data: list[socket.socket] = []
    admin: socket.socket | None = None
    listed = names.split(":")
    for place in range(int(count)):
        found = socket.socket(fileno=_FIRST + place)
        found.set_inheritable(False)
        if admin is None and place < len(listed) and listed[place].startswith(_ADMIN):
            admin = found
        else:
            data.append(found)
    return data, admin
