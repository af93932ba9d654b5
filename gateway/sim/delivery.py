"""Carries an answer's tokens from the engine to the client, whole or as a stream, and lets faults happen to it."""

import asyncio
import json
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Protocol

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from gateway.sim.answers import Answer, Choice, Dialect
from gateway.sim.chat import DONE
from gateway.sim.connection import Connection
from gateway.sim.errors import ENGINE_DEAD, ApiError, error_body
from gateway.sim.faults import FaultBoard, StreamFaults, Trip
from gateway.sim.runner import Runner
from gateway.sim.text import merged

_KEEP_ALIVE = b": keep-alive\n\n"
_KEEP_ALIVE_ON_STALL = 1.0


class End(Enum):
    """How a delivery ended."""

    COMPLETE = auto()
    ENGINE_ERROR = auto()
    CUT = auto()
    GONE = auto()


class Service(Protocol):
    """What a delivery needs of the server that it belongs to."""

    runner: Runner
    board: FaultBoard
    deliveries: "set[Delivery]"

    @property
    def keep_alive(self) -> float | None:
        """Seconds between comments in a silent stream, None for none."""


class Delivery:
    """One answer under way: begun by `start`, over when `ended` is set; leaving its context frees the engine."""

    def __init__(self, answer: Answer, service: Service, own_faults: StreamFaults) -> None:
        self.answer = answer
        self.service = service
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.stalled = False
        self.faults = own_faults
        self._open_choices = len(answer.choices)
        self._tokens = 0
        self._delay: asyncio.TimerHandle | None = None

    @property
    def comments_in_stall(self) -> bool:
        """Whether keep-alive comments go on although the tokens have stopped."""
        return self.stalled and (self.faults.keep_alive_on_stall or self.service.board.current.keep_alive_on_stall)

    def start(self, on_token: Callable[[Choice], None]) -> None:
        """Give the sequences to the engine; `on_token` is called with the choice that went on."""
        delay = self.faults.ttft_delay or self.service.board.current.ttft_delay
        if delay:
            self._delay = asyncio.get_running_loop().call_later(delay, self._submit, on_token)
            self.service.runner.engine.delayed += len(self.answer.choices)
        else:
            self._submit(on_token)

    def hang_up(self) -> None:
        """Free the engine at once, since the client has disconnected."""
        self._end(End.GONE)

    def __enter__(self) -> "Delivery":
        self.service.deliveries.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.service.deliveries.discard(self)
        self._free()

    def _submit(self, on_token: Callable[[Choice], None]) -> None:
        self._end_delay()
        if not self.ended.done():
            for choice in self.answer.choices:
                self.service.runner.submit(choice.sequence, partial(self._token, choice, on_token))

    def _end_delay(self) -> None:
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
            self.service.runner.engine.delayed -= len(self.answer.choices)

    def _free(self) -> None:
        self._end_delay()
        for choice in self.answer.choices:
            self.service.runner.abort(choice.sequence)

    def _token(self, choice: Choice, on_token: Callable[[Choice], None]) -> None:
        if self.stalled or self.ended.done():
            return
        faults = self.faults if self.faults.trips else self.service.board.current
        trip = faults.trip(self._tokens) if faults.trips else None
        if trip is not None:
            self._trip(trip)
            return
        self._tokens += 1
        on_token(choice)
        if choice.sequence.finished:
            self._open_choices -= 1
            if not self._open_choices:
                self._end(End.COMPLETE)

    def _trip(self, trip: Trip) -> None:
        match trip:
            case Trip.STALL:
                self.stalled = True
            case Trip.CUT:
                self._end(End.CUT)
            case Trip.ERROR:
                self._end(End.ENGINE_ERROR)

    def fail(self) -> None:
        """End the answer with an error, since the engine has died."""
        self._end(End.ENGINE_ERROR)

    def _end(self, end: End) -> None:
        if not self.ended.done():
            self.ended.set_result(end)
            self._free()


async def deliver_whole(delivery: Delivery, request: Request) -> None:
    """Wait until an answer is complete; ApiError 500 if the engine fails.

    When the connection was lost or cut, it returns as well: what is then written is not read.
    """
    connection = Connection.of(request)
    with connection.watched(delivery.hang_up), delivery:
        delivery.start(lambda _: None)
        end = await delivery.ended
    if end is End.CUT:
        connection.reset()
    if end is End.ENGINE_ERROR:
        raise ApiError(500, ENGINE_DEAD)


class EventStream(Response):
    """An answer as server-sent events."""

    def __init__(self, delivery: Delivery, dialect: Dialect, connection: Connection) -> None:
        super().__init__()
        self._delivery = delivery
        self._dialect = dialect
        self._connection = connection
        self._opened = False
        self._last_sent = 0.0

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the head at once, then events as tokens come."""
        delivery, connection = self._delivery, self._connection
        with connection.watched(delivery.hang_up), delivery:
            content_type = (b"content-type", b"text/event-stream; charset=utf-8")
            await send({"type": "http.response.start", "status": 200, "headers": [content_type]})
            connection.write_chunk(self._dialect.preamble())
            delivery.start(self._on_token)
            end = await self._ended()
            await self._finish(end, send)

    def _on_token(self, choice: Choice) -> None:
        self._last_sent = self._delivery.service.runner.clock()
        if not self._connection.congested:
            self._advance(choice)

    def _advance(self, choice: Choice) -> None:
        """Write whatever of a choice has not been written: one token, or many when the client was slow."""
        dialect, connection, pieces = self._dialect, self._connection, choice.script.pieces
        produced = choice.sequence.produced
        if produced == choice.sent:
            return
        if not self._opened:
            self._opened = True
            connection.write_chunk(dialect.opening())
        fresh = list(merged(pieces[choice.sent : produced]))
        choice.sent = produced
        if produced < len(pieces):
            for channel, text in fresh:
                connection.write_chunk(dialect.delta(choice, channel, text))
            return
        for channel, text in fresh[:-1]:
            connection.write_chunk(dialect.delta(choice, channel, text))
        connection.write_chunk(dialect.ending(choice, fresh[-1] if fresh else None))

    async def _ended(self) -> End:
        """Wait for the end, with comments while nothing else is sent."""
        ended = self._delivery.ended
        interval = self._delivery.service.keep_alive or _KEEP_ALIVE_ON_STALL
        clock = self._delivery.service.runner.clock
        self._last_sent = clock()
        while not ended.done():
            silent = clock() - self._last_sent
            if silent < interval:
                await asyncio.wait([ended], timeout=interval - silent)
                continue
            self._last_sent = clock()
            if self._comments():
                self._connection.write_chunk(_KEEP_ALIVE)
        return ended.result()

    def _comments(self) -> bool:
        return self._delivery.service.keep_alive is not None or self._delivery.comments_in_stall

    async def _finish(self, end: End, send: Send) -> None:
        connection = self._connection
        if end is End.GONE:
            return
        if end is End.CUT:
            connection.reset()
            return
        await connection.drained()
        if end is End.COMPLETE:
            for choice in self._delivery.answer.choices:
                self._advance(choice)
            connection.write_chunk(self._dialect.closing())
        else:
            connection.write_chunk(engine_error_event() + DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def engine_error_event() -> bytes:
    """Return the event that reports a failure inside a stream, with the spaces that vLLM writes."""
    return f"data: {json.dumps(error_body(500, ENGINE_DEAD))}\n\n".encode()
