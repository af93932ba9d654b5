"""Keep-alive connections to one engine: the freshest idle one first, new ones made in a task of their own."""

import asyncio
import logging
import socket
import ssl
from math import inf
from typing import Protocol, cast

from gateway.clock import Clock
from gateway.lateness import Lateness
from gateway.wire.dial import first_of
from gateway.wire.names import Lookup, Name
from gateway.wire.outbox import Outbox
from gateway.wire.upstream import Upstream

_log = logging.getLogger(__name__)
MAX_IDLE = 1024
IDLE_SECONDS = 4.0
"""How long a connection may be idle: uvicorn, which most engines use, closes one after 5 s."""
_MARGIN = 1.0
_REMEMBERED = 300.0
"""Seconds for which an engine's closing of an idle connection is remembered: it may have been a restart."""
# A read takes at most what the kernel holds: this bounds what one slow client can make the gateway buffer.
_RECEIVE_BUFFER = 64 * 1024
_SLOW_FOR = 60.0
_LAST_LOOK = 0.1
"""Seconds that a connect has once its time is over: if this process was late, what has come is read before it fails."""


class ConnectionWaiter(Protocol):
    """What asked for a connection."""

    def connected(self, upstream: Upstream) -> bool:
        """Take the connection, or return False when it is no longer wanted."""

    def connect_failed(self, detail: str) -> None:
        """Learn that none could be made."""


class UpstreamPool:
    """Connections to one engine. Those to an address that its name has no more end with what they are at work on."""

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
        self._lateness = lateness
        self.host = host
        self.port = port
        self.opened = 0
        self._tls = tls
        self._outbox = outbox
        self._clock = clock
        self._idle: dict[Upstream, None] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._name = Name(host, port, clock, lookup)
        self._slow: dict[str, float] = {}
        self._closed = False
        self._told_idle = self._seen_idle = inf
        self._seen_at = 0.0
        self._longest_idle = IDLE_SECONDS

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
            if upstream.idle_for <= self._longest_idle and upstream.is_clean():
                return upstream
            upstream.transport.close()
        return None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        left = self._name.left and upstream.address in self._name.left
        if self._closed or left or len(self._idle) >= MAX_IDLE or upstream.transport.is_closing():
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
            self._limit_idle(now)

    def keeps_idle(self, seconds: float) -> None:
        """Learn for how long the engine says that it keeps idle connections."""
        if seconds != self._told_idle:
            self._told_idle = seconds
            self._limit_idle(self._clock())

    def now(self) -> float:
        """Return the time in seconds."""
        return self._clock()

    def prune(self, now: float) -> None:
        """Close what has been idle for too long, or leads to an address that the name has no more."""
        self._name.renew()
        for upstream in [u for u in self._idle if u.address in self._name.left]:
            del self._idle[upstream]
            upstream.transport.close()
        self._limit_idle(now)
        for upstream in [u for u in self._idle if now - u.idle_since > self._longest_idle]:
            del self._idle[upstream]
            upstream.transport.close()

    def connect(self, waiter: ConnectionWaiter, seconds: float) -> None:
        """Open a connection for `waiter`, who hears of it later; it has `seconds` for names, TCP and TLS."""
        task = asyncio.get_running_loop().create_task(self._connect(waiter, seconds))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def close(self) -> None:
        """Close idle connections and take none back; those at work, or that a request waits for, end with that."""
        self._closed = True
        for upstream in list(self._idle):
            upstream.transport.close()
        self._idle.clear()

    def _limit_idle(self, now: float) -> None:
        """Settle for how many seconds a connection may be idle: less than until the engine closes it."""
        closes = min(self._told_idle, self._longest_seen(now))
        self._longest_idle = min(IDLE_SECONDS, max(closes - _MARGIN, closes / 2))

    def _longest_seen(self, now: float) -> float:
        return self._seen_idle if now - self._seen_at <= _REMEMBERED else inf

    async def _connect(self, waiter: ConnectionWaiter, seconds: float) -> None:
        loop, began = asyncio.get_running_loop(), self._clock()

        def over() -> None:
            """End the connect, unless this process was late itself: then allow for that."""
            now = self._clock()
            left = seconds + self._lateness.excuse(began, now) - (now - began)
            limit.reschedule(loop.time() + max(left, 0.0) + _LAST_LOOK)

        try:
            async with asyncio.timeout(None) as limit:
                late = loop.call_later(seconds, over)
                try:
                    upstream = await self._open()
                finally:
                    late.cancel()
        except TimeoutError:
            missing = "connection" if self._name.addresses else f"address for {self.host}"
            waiter.connect_failed(f"no {missing} within {seconds:g} s")
            return
        except OSError as error:
            waiter.connect_failed(f"{error.strerror or error}")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiter has to be told
            _log.exception("a connect broke")
            waiter.connect_failed(f"{type(error).__name__}: {error}")
            return
        if upstream.transport.is_closing():
            waiter.connect_failed("the connection was closed at once")
        else:
            self._hand_over(upstream, waiter)

    def _hand_over(self, upstream: Upstream, waiter: ConnectionWaiter) -> None:
        try:
            wanted = waiter.connected(upstream)
        except Exception:  # noqa: BLE001 - the connect was well, and its waiter has to be told
            _log.exception("a request broke as it was sent")
            upstream.transport.abort()
            waiter.connect_failed("the gateway failed on this request; its log says why")
            return
        if not wanted:
            self.put(upstream)

    async def _open(self) -> Upstream:
        addresses, now = await self._name.find(), self._clock()
        if self._slow:
            # Those that a connect waited for in vain come last for a while.
            addresses = tuple(sorted(addresses, key=lambda each: now - self._slow.get(each, -inf) < _SLOW_FOR))
        upstream = await first_of(addresses, self._dial, lambda late: late.transport.close())
        slow = addresses[: addresses.index(upstream.address)]
        if slow:
            self._slow = {a: at for a, at in self._slow.items() if now - at < _SLOW_FOR} | dict.fromkeys(slow, now)
        self.opened += 1
        return upstream

    async def _dial(self, address: str) -> Upstream:
        began, upstream = self._clock(), Upstream(self, self._outbox)
        await asyncio.get_running_loop().create_connection(
            lambda: cast(asyncio.Protocol, upstream),
            address,
            self.port,
            ssl=self._tls,
            server_hostname=self.host if self._tls else None,
        )
        upstream.address = address
        upstream.connect_seconds = self._clock() - began
        peer: socket.socket = upstream.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return upstream
