"""Making connections to one engine."""

import asyncio
import socket
import ssl
from typing import Final, cast

from gateway.clock import Clock
from gateway.wire.dial import first_of
from gateway.wire.last_answer import LastAnswer
from gateway.wire.names import Name
from gateway.wire.outbox import Outbox
from gateway.wire.slow_addresses import SlowAddresses
from gateway.wire.upstream import Owner, Upstream

# A read takes at most what the kernel holds: this bounds what one slow client can make the gateway buffer.
_RECEIVE_BUFFER: Final = 64 * 1024


class Dialer:
    """Makes connections to whatever address of a name answers; they belong to `owner`."""

    __slots__ = ("_clock", "_last", "_outbox", "_owner", "_slow", "_tls", "name", "opened", "port")

    def __init__(
        self, name: Name, port: int, *, tls: ssl.SSLContext | None, owner: Owner, outbox: Outbox, clock: Clock
    ) -> None:
        self.name = name
        self.port = port
        self.opened = 0
        self._tls = tls
        self._owner = owner
        self._outbox = outbox
        self._clock = clock
        self._slow = SlowAddresses()
        self._last = LastAnswer()

    def __repr__(self) -> str:
        return f"<Dialer {self.name.host}:{self.port} opened {self.opened}>"

    async def open(self) -> Upstream:
        """Return a new connection; raises OSError. How long it takes is up to the caller."""
        addresses, now = await self.name.find(), self._clock()
        addresses = self._slow.last(addresses, now)
        upstream = await first_of(addresses, self.dial, lambda late: late.transport.close())
        self._slow.learn(addresses, upstream.address, now)
        self.opened += 1
        return upstream

    async def dial(self, address: str) -> Upstream:
        """Connect to one address."""
        began, upstream = self._clock(), Upstream(self._owner, self._outbox, self._last)
        await asyncio.get_running_loop().create_connection(
            lambda: cast(asyncio.Protocol, upstream),
            address,
            self.port,
            ssl=self._tls,
            server_hostname=self.name.host if self._tls else None,
        )
        upstream.address = address
        upstream.reuse.connect_seconds = self._clock() - began
        peer: socket.socket = upstream.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return upstream
