"""One client's connection, hosted by uvicorn: what the transport tells, handed to the reader and the pipeline."""

import asyncio
from typing import cast

from gateway.clock import Clock
from gateway.errors import GatewayError, RequestTimeout
from gateway.wire.backlog import LONG_READ, Backlog, takes_long
from gateway.wire.guard import Limits
from gateway.wire.guarded import broken
from gateway.wire.half_closed import HalfClosed
from gateway.wire.outbox import Outbox
from gateway.wire.phase import BROKEN, CLOSED, COMING, DEAF, EXPECTS_CONTINUE, LINGER, PART_OF_BODY, PhaseTimer
from gateway.wire.pipeline import Pipeline
from gateway.wire.request_reader import RequestReader
from gateway.wire.service import Service
from gateway.wire.slices import Slices
from gateway.wire.sockets import holds_more
from gateway.wire.turned_away import turn_away
from gateway.wire.unread import Unread


class Client:
    """A client's connection: reads go to its reader, whose requests go to its pipeline; time is held here."""

    __slots__ = (
        "_backlog",
        "_clock",
        "_connections",
        "_half_closed",
        "_limits",
        "_outbox",
        "_pipeline",
        "_timer",
        "_unread",
        "reader",
        "transport",
    )

    def __init__(
        self,
        service: Service,
        connections: set[object],
        limits: Limits,
        outbox: Outbox,
        slices: Slices,
        *,
        clock: Clock,
    ) -> None:
        self._connections = connections
        self._limits = limits
        self._outbox = outbox
        self._clock = clock
        self.transport = cast(asyncio.Transport, None)
        self._backlog = Backlog(self, slices)
        self._timer = PhaseTimer(limits)
        self._pipeline = Pipeline(service, self._timer, self._backlog, outbox, clock)
        self.reader = RequestReader(self._pipeline, limits)
        self._unread: Unread | None = None
        self._half_closed: HalfClosed | None = None

    def __repr__(self) -> str:
        pipeline = self._pipeline
        return f"<Client {'busy' if pipeline.busy else self._timer.phase} queued {len(pipeline.queue)}>"

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return self._pipeline.busy

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the listener's connections; the head has ten seconds to come."""
        self.transport = self._pipeline.transport = cast(asyncio.Transport, transport)
        now = self._clock()
        if len(self._connections) >= self._limits.connections:
            self._timer.step(BROKEN, now)
            asyncio.get_running_loop().call_soon(turn_away, self.transport)  # uvloop cannot close it yet
            return
        self._connections.add(self)
        self._timer.restart(now)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it with the cause
        """Tell the request in progress, and let go of what holds this."""
        self._connections.discard(self)
        self._backlog.close()
        self.reader.close()
        self._half_closed = self._unread = None
        self._pipeline.lost()

    def data_received(self, data: bytes) -> None:
        """Parse, now or a piece at a time; whole requests are served, or wait for the one in progress."""
        if len(data) > LONG_READ:
            self._backlog.breathe()
        if self._backlog.held or takes_long(data):
            self._backlog.add(data)
        else:
            self.parse(data)

    def eof_received(self) -> bool:
        """Go on answering a client that has only closed its own side, once it is known to be there."""
        pipeline = self._pipeline
        if not pipeline.busy or self.transport.get_extra_info("sslcontext") is not None:
            self._outbox.flush()
            return False
        pipeline.half_closed()
        self._half_closed = HalfClosed(
            pipeline, lambda: pipeline.responder.probe() if pipeline.responder is not None else None
        )
        return self._half_closed.probe(self._clock())

    def pause_writing(self) -> None:
        """Stop the answer: the client reads too slowly."""
        self._unread = Unread(self.transport, self._clock())
        self._pipeline.pause()

    def resume_writing(self) -> None:
        """Let the answer go on."""
        self._unread = None
        self._pipeline.resume()

    # What was read

    @property
    def is_taking(self) -> bool:
        """Whether more may be parsed: nothing waits for its turn."""
        return not self._pipeline.queue

    def parse(self, data: bytes | memoryview) -> None:
        """Parse a piece of what was read."""
        if self._timer.phase in DEAF:
            self._timer.read_away(self._clock())
            return
        error = self.reader.feed(data)
        if error is not None:
            self._reject(error)
        elif (part := self.reader.part) is not None:
            if part is EXPECTS_CONTINUE and not self._pipeline.busy:
                part = PART_OF_BODY  # the client was told at once to send it
            self._timer.came(part, self._clock())

    def _reject(self, error: BaseException) -> None:
        """Refuse what is broken, and hear nothing more; a request that broke as it was served may be half answered."""
        pipeline = self._pipeline
        if not isinstance(error, GatewayError):
            error = broken(error, self)
            if pipeline.busy and pipeline.responder is None and not pipeline.queue:
                pipeline.give_up(error)
                return
        pipeline.reject(self.reader.refusal(error))

    # What the process tells

    def check(self, now: float) -> None:
        """Hold this connection's deadlines; called about ten times a second."""
        if self._unread is not None and self._unread.lasts(now) > self._limits.write_silence:
            self.transport.abort()
            return
        pipeline = self._pipeline
        if now > self._timer.next_deadline and not pipeline.queue:
            self._expire(now)
        if not pipeline.busy:
            return
        if self._half_closed is not None:
            self._half_closed.check(now)
        if pipeline.responder is not None:
            pipeline.responder.check(now)

    def _expire(self, now: float) -> None:
        phase = self._timer.phase
        if phase in COMING:
            self._reject(RequestTimeout("the request did not come in time"))
        elif phase is not LINGER and self.transport.get_write_buffer_size():
            self._unread = self._unread or Unread(self.transport, now)  # the client is slow to read its answer's end
            self._timer.step(CLOSED, now)
            self.transport.close()
        elif self._unread is None and (phase is LINGER or not holds_more(self.transport)):
            self.transport.abort()

    def shutdown(self) -> None:
        """Close soon: answers say so now, and a client that was not told may ask once more, so that nothing is lost."""
        self._pipeline.last_call()

    def give_up(self, error: GatewayError) -> None:
        """End at once: the time to drain is over."""
        self._pipeline.give_up(error)
