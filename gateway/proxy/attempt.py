"""One try at one backend: its slot, its connection, its answer's relay, and its one end."""

from typing import Protocol

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, AttemptRecord
from gateway.policy.routing.lease import Lease
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.relay import StreamRelay
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.rope import Rope
from gateway.wire.upstream import Upstream


class Trying(Protocol):
    """The request that an attempt belongs to."""

    def send(self, upstream: Upstream) -> None:
        """Send the request on a new connection."""

    def answered(self, head: AnswerHead) -> Sink | None:
        """Judge the head of an answer and say where its body goes; None after giving the attempt up."""

    def unanswered(self, loss: Loss, detail: str) -> None:
        """Learn that the connection went before an answer's head came."""

    def fail(self, end: AttemptEnd, detail: str) -> None:
        """End the attempt; try elsewhere, or tell the client."""


class Attempt:
    """A try in progress at a backend; `record` is what is left of it afterwards.

    It waits for a connection, sends the request on it, and hands the answer's head to the request that it belongs to.
    `lease` is None where it takes no slot.
    """

    __slots__ = ("_request", "backend", "lease", "record", "relay", "upstream")

    def __init__(self, request: Trying, backend: Backend, lease: Lease | None, sent_at: float, queued: float) -> None:
        self._request = request
        self.backend = backend
        self.lease = lease
        self.record = AttemptRecord(backend.id, backend.spec.pool, sent_at, queued)
        self.upstream: Upstream | None = None
        self.relay: StreamRelay | PlainRelay | Refusal | None = None

    def __repr__(self) -> str:
        return f"<Attempt at {self.backend.id} {self.record.result or 'in progress'}>"

    def connected(self, upstream: Upstream) -> bool:
        """Use a new connection, if it is still wanted."""
        if self.record.result is not None or self.upstream is not None:
            return False
        self.backend.connected()
        self._request.send(upstream)
        return True

    def connect_failed(self, detail: str) -> None:
        """Count it against the backend and end, if a connection is still wanted."""
        if self.record.result is None and self.upstream is None:
            self.backend.connect_failed(detail)
            self._request.fail(AttemptEnd.CONNECT_FAILED, detail)

    def send(self, upstream: Upstream, request: bytes, body: Rope | None, now: float) -> None:
        """Send the request, and a long body after it."""
        self.upstream, self.record.connected_at = upstream, now
        upstream.start(self, request, body)

    def head(self, head: AnswerHead) -> Sink | None:
        """Take the final head and say where the body goes; None after giving the exchange up."""
        return self._request.answered(head)

    def lost(self, loss: Loss, detail: str) -> None:
        """Learn that no answer came."""
        self._request.unanswered(loss, detail)

    def pause(self) -> None:
        """Let the engine's bytes wait in the kernel."""
        if self.upstream is not None and self.upstream.busy:
            self.upstream.transport.pause_reading()

    def resume(self) -> None:
        """Read on; the gap in what comes was the client's."""
        if isinstance(self.relay, StreamRelay):
            self.relay.resumed()
        if self.upstream is not None and self.upstream.busy:
            self.upstream.transport.resume_reading()

    def drop_upstream(self) -> None:
        """Close the engine's connection if it is still at work for us."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None and upstream.busy:
            upstream.cancel()

    def end(self, result: AttemptEnd, now: float) -> None:
        """Give back the connection and the slot, once; the result says whom the end blames (`policy.slo.classify`)."""
        record = self.record
        if record.result is None:
            record.result, record.ended_at = result, now
            self.drop_upstream()
            if self.lease is not None:
                self.lease.release()
            self.relay = None
