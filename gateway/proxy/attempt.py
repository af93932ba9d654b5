"""One try at one backend: its slot, its connection, its answer's relay, and its one end."""

from typing import Protocol

from gateway.backends.backend import Backend
from gateway.clock import wall
from gateway.errors import GatewayError
from gateway.exchange import ANSWERED, AttemptEnd, AttemptRecord, Exchange
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.refusals import Refusals
from gateway.policy.slo.classify import classify_error, classify_status
from gateway.proxy import learning
from gateway.proxy.answers import JSON, capped_retry_after
from gateway.proxy.carrier import carrier
from gateway.proxy.lifecycle import CONNECTED, HEAD, Event
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.refusing import head_of, refused
from gateway.proxy.relay import StreamRelay
from gateway.proxy.retrying import Refused
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.heads import find, forwarded_response
from gateway.wire.service import Writer
from gateway.wire.upstream import Upstream


class AttemptOwner(Protocol):
    """The request that an attempt belongs to; it is `paused` while its client reads too slowly."""

    paused: bool

    @property
    def committed(self) -> bool:
        """Whether part of the answer has gone to the client."""

    @property
    def refusals(self) -> Refusals:
        """How often engines that are at work have refused the request."""

    def step(self, event: Event) -> None:
        """Go on to the next state."""

    def resend(self, stale: "Attempt") -> bool:
        """Make another attempt at the same backend, which most likely has not seen this one, if that is allowed."""

    def first_output(self) -> None:
        """Learn that bytes of the answer go to the client now: from here on nothing is retried."""

    def complete(self) -> None:
        """Learn that the answer has been written to its end."""

    def break_off(self, end: AttemptEnd, code: int) -> None:
        """Learn that the answer has been written, and that it ended with an error of the engine's with this code."""

    def fail(self, end: AttemptEnd, detail: str, refusal: Refused | None = None) -> None:
        """Learn that the attempt failed; try elsewhere, or tell the client, by the engine's own words where it can."""

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""


class Attempt:
    """A try in progress at a backend; `record` is what is left of it afterwards.

    It waits for a connection, sends the request on it, judges the answer's head and chooses the relay for its body.
    `lease` is None where it takes no slot.
    """

    __slots__ = (
        "_client",
        "_context",
        "_exchange",
        "_request",
        "_routed",
        "backend",
        "lease",
        "record",
        "relay",
        "upstream",
    )

    def __init__(
        self,
        request: AttemptOwner,
        routed: RoutedRequest,
        exchange: Exchange,
        client: Writer,
        context: ProxyContext,
        *,
        backend: Backend,
        lease: Lease | None,
        now: float,
        queued: float = 0.0,
    ) -> None:
        self._request = request
        self._routed = routed
        self._exchange = exchange
        self._client = client
        self._context = context
        self.backend = backend
        self.lease = lease
        self.record = record = AttemptRecord(backend.id, backend.spec.pool, now, queued)
        exchange.attempts.append(record)
        exchange.backend, exchange.pool = record.backend, record.pool
        self.upstream: Upstream | None = None
        self.relay: StreamRelay | PlainRelay | Refusal | None = None

    def __repr__(self) -> str:
        return f"<Attempt at {self.backend.id} {self.record.result or 'in progress'}>"

    def begin(self) -> None:
        """Send the request, on a connection that was idle if there is one."""
        # What must not reach an engine twice is not sent on a connection that may be closed already.
        now = self.record.sent_at
        upstream = self.backend.pool.take(now) if self._routed.spec.repeatable else None
        if upstream is None:
            self.connect()
        else:
            self._send(upstream, now)

    def connect(self) -> None:
        """Send the request on a new connection once that is there."""
        self.backend.pool.connect(self, self._routed.model.timeouts.connect)

    # What the connection tells

    def connected(self, upstream: Upstream) -> bool:
        """Use a new connection, if it is still wanted."""
        if self.record.result is not None or self.upstream is not None:
            return False
        self.backend.connected()
        self._send(upstream, self._context.clock())
        return True

    def connect_failed(self, detail: str) -> None:
        """Count it against the backend and end, if a connection is still wanted."""
        if self.record.result is None and self.upstream is None:
            self.backend.connect_failed(detail)
            self.fail(AttemptEnd.CONNECT_FAILED, detail)

    def _send(self, upstream: Upstream, now: float) -> None:
        request, body = self._routed.message.written_for(self.backend)
        self.upstream, self.record.connected_at = upstream, now
        upstream.start(self, request, body)
        self._request.step(CONNECTED)
        if self._request.paused:
            self.pause()

    def head(self, head: AnswerHead) -> Sink | None:
        """Judge the head of an answer and say where the body goes; None after giving the attempt up."""
        end = classify_status(head.status)
        now = self.record.head_at = self._context.clock()
        self._request.step(HEAD)
        if head.coding is not None:
            self.fail(AttemptEnd.MALFORMED, "compressed, though not asked for")
            return None
        if end is not ANSWERED and end in {AttemptEnd.MALFORMED, AttemptEnd.UNAUTHORIZED}:
            self.fail(end, f"status {head.status}")
            return None
        if end is ANSWERED:
            client, exchange, routed, context = self._client, self._exchange, self._routed, self._context
            forwarded = head.forwarded
            if forwarded is None:
                forwarded = head.forwarded = forwarded_response(head.status, head.fields, head.connection)
            shown = head_of(routed, exchange, self.backend, forwarded, keep_alive=client.keep_alive)
            clock, most = context.clock, context.max_event
            relay = carrier(self, client, exchange, routed, answer=head, head=shown, clock=clock, max_event=most)
            self.relay = relay
        else:
            self.relay = Refusal(head, self._turned_down, now)
        return self.relay

    def lost(self, loss: Loss, detail: str) -> None:
        """Learn that the connection went before an answer's head came, or that what came broke the gateway."""
        if self.record.result is not None:
            self._request.give_up(GatewayError(detail))
        elif loss is not Loss.STALE or not self._request.resend(self):
            self.fail(AttemptEnd.MALFORMED if loss is Loss.MALFORMED else AttemptEnd.CLOSED_EARLY, detail)

    # What the relay of its answer tells, or asks of it

    @property
    def committed(self) -> bool:
        """Whether part of the answer has gone to the client."""
        return self._request.committed

    def commit(self) -> None:
        """Learn that bytes of the answer go to the client now."""
        self._request.first_output()
        exchange = self._exchange
        if exchange.stream and exchange.first_content and self.lease is not None:
            learning.committed(self._routed, exchange, self.backend, self.lease, self._context.observers)

    def complete(self) -> None:
        """Learn that the answer has been written to its end."""
        self._request.complete()

    def failed(self, code: int) -> None:
        """Learn that the answer has been written, and that it ended with an error of the engine's with this code."""
        end = learning.refused(
            self._request.refusals, self.backend, classify_error, code, None, now=self._context.clock()
        )
        self._request.break_off(end, code)

    def refuse(self, status: int, body: bytes) -> None:
        """Give a 200 whose first word is an error the status that it deserved."""
        end = learning.refused(
            self._request.refusals, self.backend, classify_error, status, None, now=self._context.clock()
        )
        kept = None if end is AttemptEnd.UNAUTHORIZED else self._refused(AnswerHead(status, [JSON]), body)
        self._request.fail(end, f"an error with code {status}", kept)

    def fail(self, end: AttemptEnd, detail: str) -> None:
        """Learn that the answer cannot be completed."""
        self._request.fail(end, detail)

    def drop_upstream(self) -> None:
        """Close the engine's connection if it is still at work for us."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None and upstream.busy:
            upstream.cancel()

    # What its request asks of it

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

    def end(self, result: AttemptEnd, now: float) -> None:
        """Give back the connection and the slot, once, and learn from it; the result says whom the end blames."""
        routed, exchange, record, lease = self._routed, self._exchange, self.record, self.lease
        if record.result is not None:
            return
        record.result, record.ended_at = result, now
        self.drop_upstream()
        exchange.backend_seconds += now - record.sent_at
        if lease is not None:
            record.cost = lease.release(now)
            learning.ended(routed, exchange, self.backend, lease, result, now=now, rng=self._context.rng)
        self.relay = None
        self._context.observers.attempt_ended(exchange, self.backend, result)
        learning.gave_back(routed, exchange, result)

    def hand_over(self, now: float) -> Lease | None:
        """End as stale, and return the slot: as far as anyone can tell the engine has executed the request.

        That is RFC 9110 section 9.2.2; so it counts as an attempt.
        """
        self.record.result, self.record.ended_at = AttemptEnd.STALE, now
        self.upstream = None
        self._exchange.backend_seconds += now - self.record.sent_at
        self._context.observers.attempt_ended(self._exchange, self.backend, AttemptEnd.STALE)
        self._context.observers.retried(self._exchange, AttemptEnd.STALE)
        return self.lease

    def _turned_down(self, head: AnswerHead, body: bytes) -> None:
        """Keep an engine's refusal for the client, and see whether another backend does better."""
        head.fields = capped_retry_after(head.fields, wall())
        wait, now = find(head.fields, b"retry-after"), self._context.clock()
        end = learning.refused(self._request.refusals, self.backend, classify_status, head.status, wait, now=now)
        self._request.fail(end, f"status {head.status}", self._refused(head, body))

    def _refused(self, head: AnswerHead, body: bytes) -> Refused:
        keep_alive, chance = self._client.keep_alive, self._context.rng.random
        return refused(self._routed, self._exchange, self.backend, head, body, keep_alive=keep_alive, chance=chance)
