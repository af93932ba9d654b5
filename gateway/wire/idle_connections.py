"""Connections to one engine that wait for the next request."""

from gateway.clock import Clock
from gateway.wire.idle_limit import IdleLimit
from gateway.wire.names import Name
from gateway.wire.upstream import Upstream

MAX_IDLE = 1024


class IdleConnections:
    """Owns the connections to one engine: it keeps them while they are idle, and hears of it when they are lost."""

    __slots__ = ("_clock", "_closed", "_connections", "_limit", "_name")

    def __init__(self, name: Name, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._limit = IdleLimit()
        self._connections: dict[Upstream, None] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._connections)

    def __repr__(self) -> str:
        return f"<IdleConnections {len(self._connections)}, each for {self._limit.seconds:g} s>"

    def take(self, now: float) -> Upstream | None:
        """Return the last one used, or None; one that the engine may be about to close is closed.

        One on which something came that no request asked for is closed too.
        """
        while self._connections:
            upstream, _ = self._connections.popitem()
            if upstream.reuse.take(now) <= self._limit.seconds and upstream.is_clean():
                return upstream
            upstream.transport.close()
        return None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        left = self._name.left and upstream.address in self._name.left
        if self._closed or left or len(self._connections) >= MAX_IDLE or upstream.transport.is_closing():
            upstream.transport.close()
            return
        upstream.reuse.rest(self._clock())
        self._connections[upstream] = None

    def forget(self, upstream: Upstream) -> None:
        """Drop a connection that has gone; one that the engine closed says for how long it keeps idle ones."""
        if upstream in self._connections:
            del self._connections[upstream]
            now = self._clock()
            self._limit.closed_after(now - upstream.reuse.idle_since, now)

    def keeps_idle(self, seconds: float) -> None:
        """Learn for how long the engine says that it keeps idle connections."""
        self._limit.told(seconds, self._clock())

    def now(self) -> float:
        """Return the time in seconds."""
        return self._clock()

    def expire(self, now: float) -> None:
        """Close what has been idle for too long, or leads to an address that the name has no more."""
        self._limit.renew(now)
        longest, left = self._limit.seconds, self._name.left
        for upstream in [u for u in self._connections if now - u.reuse.idle_since > longest or u.address in left]:
            del self._connections[upstream]
            upstream.transport.close()

    def close(self) -> None:
        """Close all of them and keep none from now on."""
        self._closed = True
        self.close_all()

    def close_all(self) -> None:
        """Close all of them."""
        for upstream in list(self._connections):
            upstream.transport.close()
        self._connections.clear()
