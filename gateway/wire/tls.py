"""TLS on a listener: certificates that can be exchanged while it listens, and handshakes that are connections too.

A connection counts from its first moment, not from the end of its handshake, so that clients who never finish theirs
cannot hold more than the listener may; and it takes the certificate of the moment in which it begins.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol, cast

from gateway.errors import GatewayError
from gateway.wire.phase import LAST_CALL
from gateway.wire.sockets import holds_more

_log = logging.getLogger(__name__)
Admits = Callable[[set[object]], bool]
"""Whether a listener with these connections takes another; it may close one of them for that."""


class Handshaken(StrEnum):
    """How a handshake ended: the closed set of the `result` label."""

    DONE = "done"
    FAILED = "failed"
    GONE = "gone"
    TIMED_OUT = "timed_out"
    TURNED_AWAY = "turned_away"


class Credentials:
    """A listener's certificate, its key, and the authorities that have to have signed its clients' ones, if any."""

    def __init__(self, certificate: Path, key: Path | None, client_ca: Path | None) -> None:
        """Nothing is read yet: `load` has to come before the first handshake."""
        self.files = tuple(file for file in (certificate, key, client_ca) if file is not None)
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def __repr__(self) -> str:
        return f"<Credentials {self._certificate}>"

    def load(self) -> None:
        """Read the files, for connections to come; raises ValueError, which names them, and keeps what there was."""
        # A context of its own each time: sessions of the old one are not resumed, so that a client whose authority
        # is not among the new ones has to show its certificate.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=bytes)
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            names = ", ".join(map(str, self.files))
            raise ValueError(f"the TLS files {names} cannot be used: {error}") from None
        self.context = context


class Served(Protocol):
    """What serves a connection once TLS is spoken, as the listener closes it."""

    def shutdown(self) -> None:
        """Close soon."""


class Door:
    """What a listener's handshakes share: its files, how long each may take, and how they `ended`."""

    def __init__(self, credentials: Credentials, seconds: float) -> None:
        self.credentials = credentials
        self.seconds = seconds
        self.ended: Counter[Handshaken] = Counter(dict.fromkeys(Handshaken, 0))


class Handshake(asyncio.Protocol):
    """A connection until TLS is spoken on it; one of `connections` from its first moment."""

    __slots__ = ("_admits", "_connections", "_door", "_early", "_last_call", "_serve", "_task", "_transport", "since")

    busy = False

    def __init__(
        self, door: Door, connections: set[object], admits: Admits, serve: Callable[[], asyncio.Protocol]
    ) -> None:
        """`admits` says whether there may be one more, `serve` makes what takes the connection over."""
        self._door = door
        self._admits = admits
        self._connections = connections
        self._serve = serve
        self._transport = cast(asyncio.Transport, None)
        self._task: asyncio.Task[None] | None = None
        self._last_call: asyncio.TimerHandle | None = None
        self._early = b""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the listener's connections and begin, unless there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._admits(self._connections):
            self._door.ended[Handshaken.TURNED_AWAY] += 1
            self._transport.abort()
            return
        self._connections.add(self)
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        self._task = loop.create_task(self._shake_hands())
        loop.call_soon(self._hand_on)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the first turn of the task; the next is TLS's."""
        self._early += data

    def check(self, now: float) -> None:
        """Do nothing: a handshake has a timer of its own."""

    def shutdown(self) -> None:
        """Close soon; a client that is about to ask still may."""
        self._last_call = asyncio.get_running_loop().call_later(LAST_CALL, self._end)

    def give_up(self, _error: GatewayError | None = None) -> None:
        """End at once."""
        self._connections.discard(self)
        self._transport.abort()

    def _end(self) -> None:
        if holds_more(self._transport):
            self.shutdown()
        else:
            self._transport.abort()

    async def _shake_hands(self) -> None:
        door, served = self._door, None
        try:
            served = await self._upgraded()
        except ConnectionAbortedError:
            door.ended[Handshaken.TIMED_OUT] += 1
        except ConnectionError:
            door.ended[Handshaken.GONE] += 1
        except OSError:  # ssl.SSLError is one
            door.ended[Handshaken.FAILED] += 1
        except Exception:  # noqa: BLE001 - a task has no caller to raise to
            door.ended[Handshaken.FAILED] += 1
            _log.exception("a handshake broke")
            self._transport.abort()
        finally:
            self._connections.discard(self)
            if self._last_call is not None:
                self._last_call.cancel()
        if served is not None:
            door.ended[Handshaken.DONE] += 1
            try:
                self._hand_over(served)
            except Exception:  # noqa: BLE001 - without this it would stay open, and be among no connections
                _log.exception("a connection broke as it was taken over")
                served.abort()

    def _hand_over(self, served: asyncio.Transport) -> None:
        protocol = self._serve()
        served.set_protocol(protocol)  # uvloop hands on what was read with the handshake only after this turn
        protocol.connection_made(served)
        if self._last_call is not None:
            cast(Served, protocol).shutdown()

    async def _upgraded(self) -> asyncio.Transport:
        """Return the transport that speaks TLS; raises OSError."""
        if not self._transport.is_closing():
            served = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._door.credentials.context,
                server_side=True,
                ssl_handshake_timeout=self._door.seconds,
            )
            if served is not None and not served.is_closing():
                return served
        raise ConnectionResetError

    def _hand_on(self) -> None:
        """Give TLS what was read before it had taken the transport: it reads on only after this."""
        tls = self._transport.get_protocol()
        while self._early and tls is not self:
            # uvloop's is no subclass of asyncio.BufferedProtocol, but one in all it does.
            of_tls = cast(asyncio.BufferedProtocol, tls)
            room = memoryview(of_tls.get_buffer(len(self._early)))
            piece, self._early = self._early[: len(room)], self._early[len(room) :]
            room[: len(piece)] = piece
            of_tls.buffer_updated(len(piece))
