"""A request that is held because no engine is there, until one is woken."""

from typing import Final

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.policy.routing.health import Health
from gateway.policy.routing.readiness import State
from gateway.policy.routing.waking import Waking
from gateway.proxy.answers import chunk
from gateway.proxy.carrier import UNBUFFERED
from gateway.proxy.refusing import head_of
from gateway.proxy.relay import KEEP_ALIVE
from gateway.proxy.retrying import Failure
from gateway.proxy.routed_request import RoutedRequest
from gateway.wire.heads import status_line
from gateway.wire.service import Writer

_COMMENT: Final = b": waiting for an engine to start\n\n"
_EVENTS: Final = b"content-type: text/event-stream; charset=utf-8\r\n"


class Hold:
    """Counts a request among those that its pool holds, once, until it is let go; `waking` is None while it is not.

    Its stream begins with comments: proxies in front give up a silent one.
    """

    __slots__ = ("_kept_alive", "waking")

    def __init__(self, now: float) -> None:
        self.waking: Waking | None = None
        self._kept_alive = now

    def __repr__(self) -> str:
        return f"<Hold by {self.waking}>"

    def follow(self, routed: RoutedRequest) -> bool:
        """Be counted by the pool that the request may use now; return whether one holds it."""
        waking = routed.route.waking
        if waking is not self.waking:
            self.let_go()
            self.waking = waking
            if waking is not None:
                waking.hold(_only(routed))
        return waking is not None

    def let_go(self) -> None:
        """Be counted no more."""
        waking, self.waking = self.waking, None
        if waking is not None:
            waking.let_go()

    def keep_alive(self, client: Writer, exchange: Exchange, routed: RoutedRequest, now: float) -> None:
        """Send the head of a stream, and comments; no part of an answer, so any engine may still be asked."""
        if not routed.spec.stream or now - self._kept_alive < KEEP_ALIVE:
            return
        self._kept_alive = now
        comment = _COMMENT if routed.spec.http10 else chunk(_COMMENT)
        if exchange.opened:
            client.write(comment)
            return
        head = head_of(routed, exchange, None, status_line(200) + _EVENTS, keep_alive=client.keep_alive)
        framing = b"\r\n" if routed.spec.http10 else b"transfer-encoding: chunked\r\n\r\n"
        exchange.opened, exchange.client_status = True, 200
        client.write(b"%b%b%b%b" % (head, UNBUFFERED, framing, comment))


def waking_for(routed: RoutedRequest, last: Failure | None) -> Waking | None:
    """Return what holds a request for which no backend is ready; None where nothing does, and it is answered 503.

    Only a pool of which no backend takes requests wakes one: where some do, what is missing is no engine, nor where
    somebody has drained one that runs. A request that has failed is not held, unless no engine can have seen it.
    """
    if last is not None and last[0] is not AttemptEnd.CONNECT_FAILED:
        return None
    if routed.spec.is_copy or routed.spec.is_lookup:
        return None
    waking = routed.route.waking
    if waking is None:
        return None
    backends = routed.route.backends if routed.claim.only is None else routed.version.backends
    failed = None if last is None else last[2]
    return None if any(_is_there(each, failed) for each in backends) else waking


def _is_there(backend: Backend, failed: Backend | None) -> bool:
    """Whether an engine takes requests, or would if somebody had not drained it."""
    availability = backend.availability
    if backend.drained and not (backend.leaving or availability.asleep):
        return availability.readiness.state is State.READY
    return backend is not failed and availability.eligible


def _only(routed: RoutedRequest) -> str:
    only = routed.claim.only
    return only.id if isinstance(only, Health) else ""
