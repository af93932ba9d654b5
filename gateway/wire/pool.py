"""Keep-alive connections to one engine: the freshest idle one first, new ones made in a task of their own."""

import asyncio
import ssl

from gateway.clock import Clock
from gateway.lateness import Lateness
from gateway.wire.connecting import ConnectDeadline, Connecting, ConnectionWaiter
from gateway.wire.dialer import Dialer
from gateway.wire.idle_connections import IdleConnections
from gateway.wire.names import Lookup, Name
from gateway.wire.outbox import Outbox
from gateway.wire.upstream import Upstream


class UpstreamPool:
    """Connections to one engine. Those to an address that its name has no more end with what they are at work on."""

    __slots__ = ("_clock", "_connecting", "_dialer", "_lateness", "_name", "host", "idle_connections", "port")

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        outbox: Outbox,
        clock: Clock,
        lateness: Lateness,
        lookup: Lookup | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._clock = clock
        self._lateness = lateness
        self._name = Name(host, port, clock, lookup)
        self.idle_connections = IdleConnections(self._name, clock)
        self._dialer = Dialer(self._name, port, tls=tls, owner=self.idle_connections, outbox=outbox, clock=clock)
        self._connecting: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.host}:{self.port} idle {self.idle} connecting {len(self._connecting)}>"

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return len(self.idle_connections)

    @property
    def opened(self) -> int:
        """How many connections have been made."""
        return self._dialer.opened

    def take(self, now: float) -> Upstream | None:
        """Return an idle connection, the last one used, or None."""
        return self.idle_connections.take(now)

    def prune(self, now: float) -> None:
        """Close what has been idle for too long, or leads to an address that the name has no more."""
        self._name.renew()
        self.idle_connections.expire(now)

    def connect(self, waiter: ConnectionWaiter, seconds: float) -> None:
        """Open a connection for `waiter`, who hears of it later; it has `seconds` for names, TCP and TLS."""
        deadline = ConnectDeadline(seconds, self._clock(), self._lateness)
        connecting = Connecting(self._dialer, waiter, deadline, self._clock)
        task = asyncio.get_running_loop().create_task(connecting.run())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def rest(self) -> None:
        """Close idle connections for now; later ones are kept again."""
        self.idle_connections.close_all()

    def close(self) -> None:
        """Close idle connections and take none back; those at work, or that a request waits for, end with that."""
        self.idle_connections.close()
