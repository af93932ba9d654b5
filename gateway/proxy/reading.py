"""A request of which more must be known first: its connection's responder until it can be sent.

A long one is read in slices; one for a stored response may have to find out who keeps that.
"""

from collections.abc import Callable
from typing import Any, Protocol

from gateway.errors import GatewayError, Overloaded
from gateway.exchange import Exchange, Outcome
from gateway.wire.guarded import guarded
from gateway.wire.heads import CONTINUE
from gateway.wire.service import Request, Responder, Writer

PATIENCE = 30.0
"""Seconds that reading may take, when so many long requests come at once that each has to wait for the others."""


class Job(Protocol):
    """Work that was begun."""

    def cancel(self) -> None:
        """End it without a word."""


Begin = Callable[[Callable[[Any], None], Callable[[Exception], None]], Job]
"""Begins work, which ends later: by a call of the first with its result, or of the second with what it failed of."""


class Departing(Responder, Protocol):
    """A request in progress that was not sent yet."""

    def start(self) -> None:
        """Begin."""


class Front(Protocol):
    """What answers a request that is never sent."""

    def turn_down(self, exchange: Exchange, client: Writer, error: Exception) -> None:
        """Answer with an error, and settle."""

    def abandoned(self, exchange: Exchange, outcome: Outcome, reason: str) -> None:
        """Settle a request without an answer."""


class Reading:
    """Waits until `begin`'s work is done, makes what departs then `of` its result, and hands everything on to that."""

    __slots__ = ("_begin", "_client", "_exchange", "_front", "_http10", "_job", "_lifecycle", "_of", "_over", "_paused")

    def __init__(
        self,
        front: Front,
        request: Request,
        begin: Begin,
        of: Callable[[Any], Departing],
        *,
        exchange: Exchange,
        client: Writer,
    ) -> None:
        self._front = front
        self._exchange = exchange
        self._client = client
        self._http10 = request.http10
        self._lifecycle: Departing | None = None
        self._paused = self._over = False
        self._begin: Begin | None = begin
        self._of: Callable[[Any], Departing] | None = of
        self._job: Job | None = None

    def __repr__(self) -> str:
        return f"<Reading {self._exchange.request_id}>"

    def start(self) -> None:
        """Begin the work."""
        begin = self._begin
        if begin is None:
            return
        try:
            self._job = begin(self._send, self._fail)
        except GatewayError as error:
            self._fail(error)

    def client_gone(self) -> None:
        """Learn that the client is gone."""
        if self._lifecycle is not None:
            self._lifecycle.client_gone()
        elif self._end():
            self._front.abandoned(self._exchange, Outcome.CLIENT_GONE, "the client hung up")

    def pause(self) -> None:
        """Stop producing: the client reads too slowly."""
        self._paused = True
        if self._lifecycle is not None:
            self._lifecycle.pause()

    def resume(self) -> None:
        """Go on producing."""
        self._paused = False
        if self._lifecycle is not None:
            self._lifecycle.resume()

    def check(self, now: float) -> None:
        """Hold deadlines."""
        if self._lifecycle is not None:
            self._lifecycle.check(now)
        elif now - self._exchange.received > PATIENCE:
            self.give_up(Overloaded("overloaded: too many long requests are being read; retry in 1 s", retry_after=1))

    def probe(self) -> bytes | None:
        """Return bytes that mean nothing at this point of the answer."""
        if self._lifecycle is not None:
            return self._lifecycle.probe()
        return None if self._http10 else CONTINUE

    def give_up(self, error: GatewayError) -> None:
        """End at once, telling the client why."""
        if self._lifecycle is not None:
            self._lifecycle.give_up(error)
        else:
            self._fail(error)

    def _send(self, result: Any) -> None:
        of = self._of
        if of is None:
            return
        try:
            lifecycle = of(result)
        except Exception as error:  # noqa: BLE001 - handed on as the answer
            self._fail(error)
            return
        self._end()
        self._lifecycle = lifecycle
        if self._paused:
            lifecycle.pause()
        guarded(lifecycle, lifecycle.start)

    def _fail(self, error: Exception) -> None:
        if self._end():
            self._front.turn_down(self._exchange, self._client, error)

    def _end(self) -> bool:
        """Read no more, and let go of the body, since streams last; return whether that was still going on."""
        if self._job is not None:
            self._job.cancel()
        self._begin = self._of = self._job = None
        over, self._over = self._over, True
        return not over
