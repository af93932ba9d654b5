"""Keep-alive connections to one engine: the freshest idle one first, new ones made in a task of their own."""

import asyncio
import socket
import ssl
from math import inf
from typing import Protocol

from gateway.clock import Clock
from gateway.wire.outbox import Outbox
from gateway.wire.upstream import Upstream

MAX_IDLE = 1024
IDLE_SECONDS = 4.0
"""How long a connection may be idle: uvicorn, which most engines use, closes one after 5 s."""
_MARGIN = 1.0
_REMEMBERED = 300.0
"""Seconds for which an engine's closing of an idle connection is remembered: it may have been a restart."""
# A read takes at most what the kernel holds: this bounds what one slow client can make the gateway buffer.
_RECEIVE_BUFFER = 64 * 1024


class Waiter(Protocol):
    """Whoever asked for a connection."""

    def connected(self, upstream: Upstream) -> bool:
        """Take the connection, or return False when it is no longer wanted."""

    def connect_failed(self, pool: "UpstreamPool", detail: str) -> None:
        """Learn that `pool` could make none."""


class UpstreamPool:
    """Connections to one address. Names are resolved at each connect; while that fails, the last answer holds."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, outbox: Outbox, clock: Clock) -> None:
        self.host = host
        self.port = port
        self.opened = 0
        self._tls = tls
        self._outbox = outbox
        self._clock = clock
        self._idle: dict[Upstream, None] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._addresses: list[str] = []
        self._closed = False
        self._told_idle = self._seen_idle = inf
        self._seen_at = 0.0

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.host}:{self.port} idle {len(self._idle)} connecting {len(self._connecting)}>"

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return len(self._idle)

    def take(self, now: float) -> Upstream | None:
        """Return an idle connection, the last one used, or None; one that the engine may be about to close is closed.

        One on which something came that no request asked for is closed too.
        """
        while self._idle:
            upstream, _ = self._idle.popitem()
            upstream.idle_for = now - upstream.idle_since
            upstream.taken_at, upstream.reused = now, True
            if upstream.idle_for <= self._longest_idle(now) and upstream.is_clean():
                return upstream
            upstream.transport.close()
        return None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        if self._closed or len(self._idle) >= MAX_IDLE or upstream.transport.is_closing():
            upstream.transport.close()
            return
        upstream.idle_since = self._clock()
        self._idle[upstream] = None

    def forget(self, upstream: Upstream) -> None:
        """Drop a connection that has gone; one that the engine closed says for how long it keeps idle ones."""
        if upstream in self._idle:
            del self._idle[upstream]
            now = self._clock()
            self._seen_idle = min(self._longest_seen(now), now - upstream.idle_since)
            self._seen_at = now

    def keeps_idle(self, seconds: float) -> None:
        """Learn for how long the engine says that it keeps idle connections."""
        self._told_idle = seconds

    def now(self) -> float:
        """Return the time in seconds."""
        return self._clock()

    def prune(self, now: float) -> None:
        """Close what has been idle for too long."""
        longest = self._longest_idle(now)
        for upstream in [u for u in self._idle if now - u.idle_since > longest]:
            del self._idle[upstream]
            upstream.transport.close()

    def connect(self, waiter: Waiter, seconds: float) -> None:
        """Open a connection for `waiter`, who hears of it later; it has `seconds` for names, TCP and TLS."""
        task = asyncio.get_running_loop().create_task(self._connect(waiter, seconds))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def close(self) -> None:
        """Close idle connections and take none back; those at work close when their exchange ends."""
        self._closed = True
        for task in self._connecting:
            task.cancel()
        for upstream in list(self._idle):
            upstream.transport.close()
        self._idle.clear()

    def _longest_idle(self, now: float) -> float:
        """Return for how many seconds a connection may be idle: less than until the engine closes it."""
        closes = min(self._told_idle, self._longest_seen(now))
        return min(IDLE_SECONDS, max(closes - _MARGIN, closes / 2))

    def _longest_seen(self, now: float) -> float:
        return self._seen_idle if now - self._seen_at <= _REMEMBERED else inf

    async def _connect(self, waiter: Waiter, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                upstream = await self._open()
        except TimeoutError:
            waiter.connect_failed(self, f"no connection within {seconds:g} s")
            return
        except (OSError, ssl.SSLError) as error:
            waiter.connect_failed(self, f"{error.strerror or error}")
            return
        if upstream.transport.is_closing():
            waiter.connect_failed(self, "the connection was closed at once")
        elif not waiter.connected(upstream):
            self.put(upstream)

    async def _open(self) -> Upstream:
        loop = asyncio.get_running_loop()
        failure: OSError = OSError(f"no address for {self.host}")
        for address in await self._resolve(loop):
            began = self._clock()
            try:
                _, upstream = await loop.create_connection(
                    lambda: Upstream(self, self._outbox),
                    address,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls else None,
                )
            except OSError as error:
                failure = error
                continue
            self.opened += 1
            upstream.connect_seconds = self._clock() - began
            peer: socket.socket = upstream.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            return upstream
        raise failure

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        try:
            self._addresses = await self._lookup(loop)
        except OSError:
            if not self._addresses:
                raise
        return self._addresses

    async def _lookup(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))
