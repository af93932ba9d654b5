"""The requests of one client's connection, answered one at a time and in order."""

import asyncio
from typing import Final, cast

import msgspec

from gateway.clock import Clock
from gateway.errors import BadHttp, GatewayError
from gateway.wire.backlog import Backlog
from gateway.wire.guard import Head
from gateway.wire.guarded import guarded
from gateway.wire.heads import CONTINUE, status_line
from gateway.wire.outbox import Outbox
from gateway.wire.phase import (
    ANSWERED,
    BROKEN,
    CLOSED,
    COMING,
    DEAF,
    ENDED,
    HALF_CLOSED,
    HELD,
    REFUSED,
    REQUEST,
    PhaseTimer,
)
from gateway.wire.service import Refusal, Request, Responder, Service, Writer
from gateway.wire.sockets import peer_of

MAX_PIPELINED: Final = 64


class Pipeline(Writer):
    """At most one request is in progress, and is answered here; the next ones wait, and nothing is read meanwhile."""

    __slots__ = (
        "_backlog",
        "_clock",
        "_keep",
        "_outbox",
        "_paused",
        "_service",
        "_timer",
        "busy",
        "queue",
        "responder",
        "transport",
    )

    def __init__(self, service: Service, timer: PhaseTimer, backlog: Backlog, outbox: Outbox, clock: Clock) -> None:
        self._service = service
        self._timer = timer
        self._backlog = backlog
        self._outbox = outbox
        self._clock = clock
        self.transport = cast(asyncio.Transport, None)
        self.busy = self._paused = False
        self.responder: Responder | None = None
        self.queue: tuple[Request | Refusal, ...] = ()  # most clients never pipeline
        self._keep = True

    def __repr__(self) -> str:
        return f"<Pipeline {'busy' if self.busy else 'idle'} queued {len(self.queue)}>"

    # What the reader finds

    def authorize(self, head: Head) -> object:
        """Return who is calling; a client that waits for it is told to send the body, unless others come before."""
        caller = self._service.authorize(head)
        if head.expects_continue and not self.busy:
            self.write(CONTINUE)
        return caller

    def take(self, request: Request, pipelined: bool) -> None:
        """Serve a request, or let it wait its turn."""
        request.received = now = self._clock()
        self._timer.step(REQUEST, now)
        if not self.busy and not pipelined:
            self._serve(request)
            return
        if len(self.queue) >= MAX_PIPELINED:
            raise BadHttp(f"more than {MAX_PIPELINED} requests at once on one connection")
        self.queue += (request,)
        self.transport.pause_reading()
        if not self.busy:
            self.busy = True  # one request in each turn of the loop, however quickly they are answered
            asyncio.get_running_loop().call_soon(guarded, self, self._next)

    def reject(self, refusal: Refusal) -> None:
        """Answer broken input in its turn, and hear nothing more."""
        if self._timer.phase in DEAF:
            return
        self._timer.step(BROKEN, self._clock())
        self._backlog.drop()
        if self.busy:
            self.queue += (refusal,)
        else:
            guarded(self, self._refuse, refusal)

    # What the answering side calls

    @property
    def keep_alive(self) -> bool:
        """Whether the connection will outlive the answer in progress; an answer's head has to say so if not."""
        self._keep = self._keep and not self._service.draining
        return self._keep

    @property
    def peer(self) -> str:
        """The address of the client, "" where it has none."""
        return peer_of(self.transport)

    def write(self, data: bytes) -> None:
        """Write a piece of the answer in progress."""
        self._outbox.write(self.transport, data)

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer; `head` are fields, each line ended. `finish` has to follow."""
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self.write(b"%b%b%bcontent-length: %d\r\n\r\n%b" % (status_line(status), head, close, len(body), body))

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        """Write a whole answer in JSON. `finish` has to follow."""
        self.reply(status, head + b"content-type: application/json\r\n", msgspec.json.encode(value))

    def finish(self) -> None:
        """End the answer in progress: close, or take the next request."""
        self.responder = None
        if self.queue and self._keep:
            asyncio.get_running_loop().call_soon(guarded, self, self._next)
            return
        self.busy = False
        phase = self._timer.phase
        if not self._keep or phase is ENDED:
            self._close()
            return
        if phase is HELD:
            self.write(CONTINUE)
        service = self._service
        self._timer.step(ANSWERED, self._clock(), last_call=service.last_call if service.draining else 0.0)

    def break_off(self) -> None:
        """End an answer that cannot be completed: what is written goes out, no proper end follows."""
        self.responder = None
        self.queue = ()
        self._keep = self.busy = False
        self._outbox.flush()
        self._timer.step(CLOSED, self._clock())
        self.transport.close()

    # What the transport and the process tell

    def pause(self) -> None:
        """Stop the answer, and those that follow: the client reads too slowly."""
        self._paused = True
        if self.responder is not None:
            self.responder.pause()

    def resume(self) -> None:
        """Let the answer go on."""
        self._paused = False
        if self.responder is not None:
            self.responder.resume()

    def half_closed(self) -> None:
        """Answer what has come; the client has closed its side, so no more will."""
        self._keep = self._keep and bool(self.queue)  # which holds a refusal: nothing is read behind a request
        self._timer.step(HALF_CLOSED, self._clock())

    def last_call(self) -> None:
        """Give a client without a request in progress some time to ask once more: the process drains."""
        self._timer.last_call(self._clock(), self._service.last_call)

    def give_up(self, error: GatewayError) -> None:
        """End at once: the time to drain is over."""
        self._keep = False
        if self.responder is not None:
            self.responder.give_up(error)
        elif not self.transport.is_closing():
            self.break_off()

    def lost(self) -> None:
        """Tell the request in progress that its client is gone; those that wait are forgotten."""
        self.queue = ()
        self._keep = self.busy = False
        responder, self.responder = self.responder, None
        if responder is not None:
            responder.client_gone()

    def _serve(self, request: Request) -> None:
        self.busy = True
        self._keep = self._keep and request.keep_alive
        responder = self._service.serve(request, self)
        if self.busy and responder is not None:
            self.responder = responder
            if self._paused:
                responder.pause()

    def _next(self) -> None:
        if not self.queue:
            return
        item, self.queue = self.queue[0], self.queue[1:]
        if isinstance(item, Refusal):
            self._refuse(item)
            return
        if not self.queue:
            self._backlog.resume()
            if self._timer.phase in COMING:  # nothing of it was read while others waited before it
                self._timer.restart(self._clock())
        self._serve(item)

    def _refuse(self, refusal: Refusal) -> None:
        self.busy, self._keep = True, False
        self._service.refuse(refusal.error, refusal.target, refusal.headers, self._clock(), self)

    def _close(self) -> None:
        """Close for good, after reading away what still comes, since closing on it would destroy the answer."""
        self.queue = ()
        self._outbox.flush()
        if self._timer.phase is REFUSED and not self.transport.is_closing():
            self._timer.step(ANSWERED, self._clock())
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self._timer.step(CLOSED, self._clock())
            self.transport.close()
