"""A connection to an engine for the gateway's own questions: one at a time, each answered whole."""

import asyncio
from typing import cast

from gateway.clock import Clock
from gateway.wire.answer import Loss, Malformed
from gateway.wire.control_answer import ControlAnswer


class ControlError(Exception):
    """An engine gave no answer; the message says why."""


class SilentError(ControlError):
    """It said nothing for too long."""


class StaleError(ControlError):
    """A connection that was kept had been closed before the question came."""


class ControlConnection:
    """A connection, idle or waiting for one answer. `fresh` is one that has carried no question before this one."""

    __slots__ = (
        "_answer",
        "_clock",
        "_heard_at",
        "_patience",
        "_timer",
        "_until",
        "_waiter",
        "address",
        "fresh",
        "transport",
    )

    def __init__(self, address: str, clock: Clock) -> None:
        self.address = address
        self.transport = cast(asyncio.Transport, None)
        self.fresh = True
        self._clock = clock
        self._answer: ControlAnswer | None = None
        self._waiter: asyncio.Future[ControlAnswer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._patience = self._until = 0.0

    def __repr__(self) -> str:
        return f"<ControlConnection {self.address} {'idle' if self._answer is None else repr(self._answer)}>"

    def ask(self, request: bytes, most: int, patience: float, until: float) -> "asyncio.Future[ControlAnswer]":
        """Send a request, and return its answer to come, of which `most` bytes of the body are wanted.

        It fails with a ControlError, at the latest when the engine has been silent for `patience` seconds, or when it
        is `until` by the clock and the answer has not ended.
        """
        loop = asyncio.get_running_loop()
        self._answer = ControlAnswer(most)
        self._waiter = waiter = loop.create_future()
        self._heard_at, self._patience, self._until = self._clock(), patience, until
        self._timer = loop.call_later(self._left(), self._look)
        self.transport.write(request)
        return waiter

    def abort(self) -> None:
        """Give up what is going on, and close."""
        self._let_go()
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read on; bytes that no question asked for end the connection."""
        answer = self._answer
        if answer is None:
            self.transport.abort()
            return
        self._heard_at = self._clock()
        try:
            answer.feed(data)
        except Malformed as error:
            self._fail(ControlError(f"{Loss.MALFORMED.value}: {error}"))
        else:
            if answer.settled:
                self._settle(answer)

    def eof_received(self) -> None:
        """Let the transport close: an engine that ends its side has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits; an answer that only closing ends is complete now."""
        answer = self._answer
        if answer is None:
            return
        if exc is None and answer.feed_eof():
            self._settle(answer)
        elif not (self.fresh or answer.begun):
            self._fail(StaleError(Loss.STALE.value))
        else:
            self._fail(ControlError(f"{Loss.CLOSED.value}{f' ({exc})' if exc else ''}"))

    def _left(self) -> float:
        """Return how many seconds the engine has until it says something, or for the rest."""
        now = self._clock()
        return max(0.0, min(self._heard_at + self._patience, self._until) - now)

    def _look(self) -> None:
        """Look whether the engine has been silent for too long, or has had all its time."""
        left = self._left()
        if left:
            self._timer = asyncio.get_running_loop().call_later(left, self._look)
        else:
            self._fail(SilentError("no answer in time"))

    def _settle(self, answer: ControlAnswer) -> None:
        """Hand the answer over; a connection that cannot be kept is closed."""
        waiter = self._waiter
        self._let_go()
        if not answer.keep:
            self.transport.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _fail(self, error: ControlError) -> None:
        waiter = self._waiter
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _let_go(self) -> None:
        answer, timer = self._answer, self._timer
        self._answer = self._waiter = self._timer = None
        self.fresh = False
        if answer is not None:
            answer.release()
        if timer is not None:
            timer.cancel()
