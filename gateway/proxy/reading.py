"""A long request while it is being read, in slices: its connection's responder until there is a flight to send."""

from typing import Protocol

from gateway.errors import GatewayError, Overloaded
from gateway.exchange import Exchange, Outcome
from gateway.proxy.flight import Flight
from gateway.wire.body import Body
from gateway.wire.service import Request, Writer
from gateway.wire.slices import Slices, Work

PATIENCE = 30.0
"""Seconds that reading may take, when so many long requests come at once that each has to wait for the others."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Front(Protocol):
    """Whoever knows where a request may go."""

    def flight(self, request: Request, body: Body, exchange: Exchange, client: Writer) -> Flight:
        """Return the flight of a request that was read; raises GatewayError where there is none for it."""

    def turn_down(self, exchange: Exchange, client: Writer, error: Exception) -> None:
        """Answer with an error, and settle."""

    def abandoned(self, exchange: Exchange, outcome: Outcome, reason: str) -> None:
        """Settle a request without an answer."""


class Reading:
    """Reads, then hands everything on to the flight."""

    __slots__ = ("_client", "_exchange", "_flight", "_front", "_http10", "_job", "_over", "_paused")

    def __init__(
        self,
        front: Front,
        slices: Slices,
        work: Work[Body],
        request: Request,
        *,
        exchange: Exchange,
        client: Writer,
    ) -> None:
        self._front = front
        self._exchange = exchange
        self._client = client
        self._http10 = request.http10
        self._flight: Flight | None = None
        self._paused = self._over = False
        self._job = slices.start(work, lambda body: self._send(request, body), self._fail)

    def __repr__(self) -> str:
        return f"<Reading {self._exchange.request_id}>"

    def client_gone(self) -> None:
        """Learn that nobody listens any more."""
        if self._flight is not None:
            self._flight.client_gone()
        elif self._end():
            self._front.abandoned(self._exchange, Outcome.CLIENT_GONE, "the client hung up")

    def pause(self) -> None:
        """Stop producing: the client reads too slowly."""
        self._paused = True
        if self._flight is not None:
            self._flight.pause()

    def resume(self) -> None:
        """Go on producing."""
        self._paused = False
        if self._flight is not None:
            self._flight.resume()

    def check(self, now: float) -> None:
        """Hold deadlines."""
        if self._flight is not None:
            self._flight.check(now)
        elif now - self._exchange.received > PATIENCE:
            self.give_up(Overloaded("overloaded: too many long requests are being read; retry in 1 s", retry_after=1))

    def probe(self) -> bytes | None:
        """Return bytes that mean nothing at this point of the answer."""
        if self._flight is not None:
            return self._flight.probe()
        return None if self._http10 else _CONTINUE

    def give_up(self, error: GatewayError) -> None:
        """End at once, telling the client why."""
        if self._flight is not None:
            self._flight.give_up(error)
        else:
            self._fail(error)

    def _send(self, request: Request, body: Body) -> None:
        try:
            flight = self._front.flight(request, body, self._exchange, self._client)
        except Exception as error:
            self._fail(error)
            return
        self._end()
        self._flight = flight
        if self._paused:
            flight.pause()
        flight.start()

    def _fail(self, error: Exception) -> None:
        if self._end():
            self._front.turn_down(self._exchange, self._client, error)

    def _end(self) -> bool:
        """Read no more; return whether that was still going on."""
        self._job.cancel()
        over, self._over = self._over, True
        return not over
