"""Connecting on behalf of a request that waits for it, within a time."""

import asyncio
import logging
from typing import Final, Protocol

from gateway.clock import Clock
from gateway.lateness import Lateness
from gateway.wire.dialer import Dialer
from gateway.wire.upstream import Upstream

_log = logging.getLogger(__name__)
LAST_LOOK: Final = 0.1
"""Seconds that a connect has once its time is over: if this process was late, what has come is read before it fails."""


class ConnectionWaiter(Protocol):
    """What asked for a connection."""

    def connected(self, upstream: Upstream) -> bool:
        """Take the connection, or return False when it is no longer wanted."""

    def connect_failed(self, detail: str) -> None:
        """Learn that none could be made."""


class ConnectDeadline:
    """Seconds for names, TCP and TLS, without those in which this process was late itself."""

    __slots__ = ("_began", "_lateness", "seconds")

    def __init__(self, seconds: float, began: float, lateness: Lateness) -> None:
        self.seconds = seconds
        self._began = began
        self._lateness = lateness

    def left(self, now: float) -> float:
        """Return the seconds that are left, less than 0 once the time is over."""
        return self.seconds + self._lateness.excuse(self._began, now) - (now - self._began)


class Connecting:
    """One connect. Its waiter hears of it once: by `connected`, or by `connect_failed` with the reason."""

    __slots__ = ("_clock", "_deadline", "_dialer", "_waiter")

    def __init__(self, dialer: Dialer, waiter: ConnectionWaiter, deadline: ConnectDeadline, clock: Clock) -> None:
        self._dialer = dialer
        self._waiter = waiter
        self._deadline = deadline
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Connecting {self._dialer.name.host} {self._deadline.left(self._clock()):.1f} s left>"

    async def run(self) -> None:
        """Connect, and tell the waiter."""
        waiter, dialer, seconds = self._waiter, self._dialer, self._deadline.seconds
        try:
            async with asyncio.timeout(None) as limit:
                late = asyncio.get_running_loop().call_later(seconds, self._time_over, limit)
                try:
                    upstream = await dialer.open()
                finally:
                    late.cancel()
        except TimeoutError:
            missing = "connection" if dialer.name.addresses else f"address for {dialer.name.host}"
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
            self._hand_over(upstream)

    def _time_over(self, limit: asyncio.Timeout) -> None:
        """End the connect, unless this process was late itself: then allow for that."""
        left = max(self._deadline.left(self._clock()), 0.0)
        limit.reschedule(asyncio.get_running_loop().time() + left + LAST_LOOK)

    def _hand_over(self, upstream: Upstream) -> None:
        """Give the connection to the waiter; if it is not wanted any more, keep it for others."""
        try:
            wanted = self._waiter.connected(upstream)
        except Exception:  # noqa: BLE001 - the connect was well, and its waiter has to be told
            _log.exception("a request broke as it was sent")
            upstream.transport.abort()
            self._waiter.connect_failed("the gateway failed on this request; its log says why")
            return
        if not wanted:
            upstream.owner.put(upstream)
