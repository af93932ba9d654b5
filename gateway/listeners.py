"""The two listeners: their files and sockets, the servers that accept, and how many connections they hold."""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Sized
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import uvicorn

from gateway.admin.protection import AdminToken
from gateway.config.addresses import authority
from gateway.control.watching import Reread
from gateway.settings import Settings
from gateway.systemd import given_sockets
from gateway.wire.guard import Limits
from gateway.wire.sockets import is_readable
from gateway.wire.tls import Admits, Door, Handshake

BACKLOG = 4096
_FOR_OTHERS, _FOR_BACKEND = 256, 4
"""Descriptors for all but streams: files, the admin listener and webhooks; for probes, scrapes and idle connections of
each backend."""
_ANY = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound
_DATE = 1.0
_SO_BINDTOIFINDEX, _NO_INTERFACE = 62, 2**31 - 1
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_SYN_RECV = 3
_HANDSHAKES_SECONDS, _TURN = 4.0, 0.001
"""How long connections that have begun may take to be established: the kernel repeats its part after 1 s and 3 s."""


class FilesError(Exception):
    """A file that a listener needs cannot be used; the message says which, and why."""


class ListenerFiles:
    """What the listeners take from files, each of which is `watched`."""

    def __init__(self, settings: Settings) -> None:
        doors = {name: tls.door(settings.limits.head_seconds) for name, tls in settings.tls_by_listener}
        self.doors = {name: door for name, door in doors.items() if door is not None}
        self.token = AdminToken(settings.admin_token, settings.admin_token_file)
        self.watched: list[Reread] = []
        for name, door in self.doors.items():
            credentials = door.credentials
            self.watched.append(Reread(f"TLS of the {name} listener", credentials.files, credentials.load))
        if self.token.file is not None:
            self.watched.append(Reread("admin token", [self.token.file], self.token.load))

    def read(self) -> None:
        """Read them for the first time; blocks, and raises FilesError."""
        try:
            for each in self.watched:
                each.read()
        except (OSError, ValueError) as error:
            raise FilesError(str(error)) from None

    def handshakes(self) -> dict[tuple[str, str], int]:
        """Return how many handshakes have ended, by (listener, result)."""
        return {(name, result): count for name, door in self.doors.items() for result, count in door.ended.items()}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens, as URLs."""

    data: str
    admin: str


class Listener(uvicorn.Server):
    """uvicorn's server without its signal handlers: one process has two of these and one idea of stopping.

    With `refuses_others` its sockets are closed for good when it ends; without, others go on to accept from them.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        self._end = asyncio.Event()
        super().__init__(config)
        self.accepting = asyncio.Event()
        self.refuses_others = True
        self._shared: dict[socket.socket, asyncio.Server] = {}

    @property
    def should_exit(self) -> bool:
        """Whether it is to end."""
        return self._end.is_set()

    @should_exit.setter
    def should_exit(self, ends: bool) -> None:
        if ends:
            self._end.set()
        else:
            self._end.clear()

    async def main_loop(self) -> None:
        """Renew the date of answers each second until told to end. uvicorn's own wakes ten times as often for that."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE):
                    await self._end.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when connections are accepted."""
        await super().startup(sockets)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has begun to connect before closing: a connection left to the kernel would be reset."""
        if self.refuses_others:
            for listening in (*(sockets or ()), *self._shared):
                await self._accept_begun(listening)
        await self.accept_from(())
        await super().shutdown(sockets)

    async def accept_from(self, sockets: Collection[socket.socket]) -> None:
        """Accept from exactly these sockets of several processes, beside its own; what waits at others is theirs."""
        for listening in self._shared.keys() - sockets:
            self._shared.pop(listening).close()
        loop, config = asyncio.get_running_loop(), self.config
        make = cast(Make, config.http_protocol_class)
        connection = partial(make, config=config, server_state=self.server_state, app_state={}, _loop=None)
        for listening in set(sockets) - self._shared.keys():
            own = listening.dup()
            self._shared[listening] = await loop.create_server(connection, sock=own, backlog=config.backlog)

    async def _accept_begun(self, listening: socket.socket) -> None:
        """Have further connections refused, and return when all that have begun are accepted."""
        loop, port = asyncio.get_running_loop(), listening.getsockname()[1]
        limit, refuses, more = loop.time() + _HANDSHAKES_SECONDS, _refuse_others(listening), True
        while more and loop.time() < limit and not self.force_exit:
            await asyncio.sleep(_TURN)  # what came as others were refused is half open now
            begun = refuses and _is_half_open(port)
            await asyncio.sleep(_TURN)  # what is established lies in the backlog now, and the loop accepts
            more = begun or is_readable(listening)
        await asyncio.sleep(0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


Make = Callable[..., Any]
"""Makes what serves one connection, an asyncio.Protocol in all but name: an HTTP class of uvicorn's, or a factory."""


def listener(app: Any, make: Make, door: Door | None, admits: Admits, **more: Any) -> Listener:
    """Return a listener whose connections are served by what `make` makes, behind TLS where there is a door."""

    def protocol(*, server_state: Any, **rest: Any) -> Any:
        if door is None:
            return make(server_state=server_state, **rest)
        return Handshake(door, server_state.connections, admits, partial(make, server_state=server_state, **rest))

    # uvicorn takes any factory here, although its type says class.
    http = cast(type[asyncio.Protocol], protocol)
    return Listener(uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None, **more))


def _refuse_others(listening: socket.socket) -> bool:
    """Have the kernel refuse every further connect; return whether it does.

    A listener of one interface is not found for what comes in on another, and this one does not exist. Handshakes that
    have begun go on, and what is established waits in the backlog as ever.
    """
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)
    except OSError:  # before Linux 5.7 it takes privileges; without it, what connects at the very last is reset
        return False
    return True


def _is_half_open(port: int) -> bool:
    """Whether a handshake with a port has begun and not ended (sock_diag(7)); False where the system does not tell."""
    for family in (socket.AF_INET, socket.AF_INET6):
        asked = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 1 << _SYN_RECV) + struct.pack(">H46x", port)
        head = struct.pack("=IHHII", 16 + len(asked), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
                kernel.settimeout(0)
                kernel.send(head + asked)
                (kind,) = struct.unpack_from("=H", kernel.recv(8192), 4)
        except OSError:
            continue
        if kind == _SOCK_DIAG_BY_FAMILY:
            return True
    return False


def bounded(limits: Limits, descriptors: int, backends: Sized) -> Limits:
    """Hold as many connections as there are descriptors for, two a stream, so that the system refuses none.

    Called for each connection, since a reload may bring more backends.
    """
    most = max(16, (descriptors - _FOR_OTHERS - _FOR_BACKEND * len(backends)) // 2)
    return limits if limits.connections <= most else _with_connections(limits, most)


@lru_cache(maxsize=1)
def _with_connections(limits: Limits, most: int) -> Limits:
    """Return the same limits for every connection, until `most` changes."""
    return replace(limits, connections=most)


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Return a listening socket; port 0 means any free one.

    Raises OSError that says where, why not, and which `option` of the command takes another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The library adds the address to the reason.
        reason = str(error.strerror or error).partition(" (while attempting")[0]
        raise OSError(
            error.errno, f"cannot listen on {authority(host, port)}: {reason}; {option} takes another port"
        ) from None


@dataclass(frozen=True, slots=True)
class Sockets:
    """The listening sockets of a gateway. `lasting` ones are somebody else's, who goes on to listen after its end."""

    data: tuple[socket.socket, ...]
    admin: socket.socket
    lasting: bool = False


def bind_listeners(settings: Settings, count: int = 1) -> Sockets:
    """Return the listening sockets, with so many for clients; raises OSError, and then none stays.

    Several share their address: the system divides connections among them. Those that systemd has opened are taken as
    they are, one for all.
    """
    given, given_admin = given_sockets(os.environ)
    if given:
        admin = given_admin or bind(settings.admin_host, settings.admin_port, "--admin-port")
        return Sockets(tuple(given), admin, lasting=True)
    data = [bind(settings.host, settings.port, "--port")]
    try:
        # Only now, so that no other gateway, which would share it too, has the address.
        data[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(count > 1))
        host, port, *_ = data[0].getsockname()
        while len(data) < count:
            data.append(socket.create_server((host, port), family=data[0].family, backlog=BACKLOG, reuse_port=True))
        return Sockets(tuple(data), given_admin or bind(settings.admin_host, settings.admin_port, "--admin-port"))
    except OSError as error:
        for each in data:
            each.close()
        hosts = {settings.host, settings.admin_host}
        shared = len(hosts) == 1 or not hosts.isdisjoint(_ANY)
        if error.errno == errno.EADDRINUSE and shared and settings.port == settings.admin_port != 0:
            same = f"{str(error.strerror).partition(';')[0]}: --port and --admin-port name the same port"
            raise OSError(error.errno, same) from None
        raise


def url(bound: socket.socket, *, tls: bool = False) -> str:
    """Return where a socket listens, as a URL."""
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{authority(host, port)}"


async def no_asgi(_scope: Any, _receive: Any, _send: Any) -> None:
    """Stand where uvicorn wants an application: the data listener's protocol answers everything."""
