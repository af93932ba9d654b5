"""The life of one request after it is understood: attempts, retries, deadlines, and its one settlement."""

from gateway.backends.backend import Backend
from gateway.errors import GatewayError
from gateway.exchange import ANSWERED, SERVED, AttemptEnd, Exchange, Outcome
from gateway.policy.routing.refusals import Refusals
from gateway.policy.slo.classify import request_outcome
from gateway.proxy import replies
from gateway.proxy.attempt import Attempt
from gateway.proxy.deadlines import overdue, time_is_over
from gateway.proxy.finding import FULL, STARTED, Tried, find
from gateway.proxy.lifecycle import (
    ANSWERING,
    COMPLETED,
    FIRST_OUTPUT,
    READING,
    SETTLED,
    SLOT_GRANTED,
    Event,
    step,
)
from gateway.proxy.next_attempt import NextAttempt
from gateway.proxy.plain import Refusal
from gateway.proxy.relay import StreamRelay
from gateway.proxy.retrying import NONE_YET, Refused, is_stranded, may_resend
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.proxy.securing import secured
from gateway.wire.guarded import guarded
from gateway.wire.heads import CONTINUE
from gateway.wire.service import Writer


class RequestLifecycle:
    """One request on its way: zero or more attempts, one after the other, and exactly one settlement.

    `state` is where it stands; only an event moves it on, along the table in `proxy.lifecycle`. Where an attempt cannot
    begin or fails, its `next_attempt` leads on.
    """

    __slots__ = (
        "_attempt",
        "_client",
        "_context",
        "_deadline",
        "_exchange",
        "_failures",
        "_next",
        "_resumed",
        "paused",
        "routed",
        "state",
    )

    def __init__(
        self, routed: RoutedRequest, exchange: Exchange, client: Writer, *, context: ProxyContext, deadline: float
    ) -> None:
        self.state = READING
        self.routed = routed
        self._exchange = exchange
        self._client = client
        self._context = context
        self._deadline = deadline
        self._attempt: Attempt | None = None
        self._next: NextAttempt | None = None
        self._failures = NONE_YET
        self.paused = False
        self._resumed = 0.0

    def __repr__(self) -> str:
        number, attempt = len(self._exchange.attempts), f" {self._attempt}" if self._attempt is not None else ""
        return f"<RequestLifecycle {self._exchange.request_id} {self.state} after {number} attempts{attempt}>"

    @property
    def committed(self) -> bool:
        """Whether part of the answer has gone to the client."""
        return self.state is ANSWERING

    @property
    def next_attempt(self) -> NextAttempt:
        """What leads to another attempt; a request that goes straight on needs none."""
        if self._next is None:
            self._next = NextAttempt(self, self._exchange, self._client, self._context, self._deadline)
            self._failures = self._next.failures
        return self._next

    @property
    def refusals(self) -> Refusals:
        """How often engines that are at work have refused the request."""
        return self.next_attempt.failures.refusals

    def step(self, event: Event) -> None:
        """Go on to the next state."""
        self.state = step(self.state, event)

    def start(self) -> None:
        """Send the request on its way, let it wait for a slot, or answer at once when neither can be."""
        routed = self.routed
        if not routed.spec.is_copy:
            routed.model.memory.retries.request(self._exchange.received)
        line = routed.route.line
        waits = (line.queue.size or line.held_below is not None) and line.must_wait(routed.spec.service_class)
        if waits or (tried := self.begin()) is not STARTED:
            self.next_attempt.wait(FULL if waits else tried)

    def begin(self, queued: float = 0.0) -> Tried:
        """Begin an attempt at a backend not tried yet, if one has a slot; `queued` are the seconds waited for it."""
        exchange, routed, context = self._exchange, self.routed, self._context
        now = context.clock()
        tried = self._failures.tried
        if routed.route.line.slots.shared:
            routed.route.line.slots.glance(now)
        backend = find(routed, exchange, tried, context.choose, now=now, rng=context.rng)
        if isinstance(backend, Tried):
            return backend
        if backend.health.slots.shared is not None and not routed.spec.is_lookup:
            backend = secured(backend, routed, exchange, tried, context.choose, now=now, rng=context.rng)
            if isinstance(backend, Tried):
                return backend
        self.step(SLOT_GRANTED)
        lease = None if routed.spec.is_lookup else backend.health.lease(exchange.prompt_estimate, routed.claim, now)
        attempt = self._attempt = Attempt(
            self, routed, exchange, self._client, context, backend=backend, lease=lease, now=now, queued=queued
        )
        attempt.begin()
        exchange.queued += queued  # not before: where a step breaks, the ticket's wait is counted when it leaves
        return STARTED

    def resend(self, stale: Attempt) -> bool:
        """Make another attempt at the same backend, which most likely has not seen this one, if that is allowed."""
        now = self._context.clock()
        if not may_resend(self.routed, self._exchange, self._deadline, now):
            return False
        self.step(Event.STALE)
        backend, lease = stale.backend, stale.hand_over(now)
        attempt = self._attempt = Attempt(
            self, self.routed, self._exchange, self._client, self._context, backend=backend, lease=lease, now=now
        )
        attempt.connect()
        return True

    def first_output(self) -> None:
        """Let go of what only a retry would need."""
        self.step(FIRST_OUTPUT)
        self._exchange.opened = True
        self.routed.message.forget()
        if self._next is not None:
            self._failures.forget()

    def complete(self) -> None:
        """End: the answer is written to its end."""
        self.end_attempt(ANSWERED)
        self._settle(COMPLETED, SERVED, "")
        self._client.finish()

    def break_off(self, end: AttemptEnd, code: int) -> None:
        """End a stream that an error of the engine's has ended: no proper end follows it."""
        self.end_attempt(end)
        reason = f"the engine ended the stream with an error, code {code}"
        self._settle(Event.FAILED, request_outcome(end, committed=True), reason)
        self._client.break_off()

    def fail(self, end: AttemptEnd, detail: str, refusal: Refused | None = None) -> None:
        """End the attempt; try elsewhere, or tell the client, by the engine's own words where it can."""
        if self.state is not SETTLED:
            guarded(self, self.next_attempt.failed, end, detail, refusal)

    def client_gone(self) -> None:
        """Stop the engine's work: the client is gone."""
        if self.state is not SETTLED:
            self.end_attempt(AttemptEnd.CLIENT_GONE)
            self._settle(Event.CLIENT_GONE, Outcome.CLIENT_GONE, "the client hung up")

    def pause(self) -> None:
        """Let the engine's bytes wait in the kernel."""
        self.paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        self._resumed = self._context.clock()
        if self._attempt is not None:
            self._attempt.resume()

    def check(self, now: float) -> None:
        """Hold the deadlines of the request and of the attempt in progress."""
        if self._next is not None and self._next.check(now):
            return
        routed, exchange, attempt = self.routed, self._exchange, self._attempt
        backend, relay = (None, None) if attempt is None else (attempt.backend, attempt.relay)
        resumed, answered = now if self.paused else self._resumed, relay is not None
        if isinstance(relay, Refusal) and backend is not None:
            relay.check(now, resumed, self._deadline, backend.lateness)
            return
        if now > self._deadline:
            self.fail(*time_is_over(routed, exchange, backend, resumed=resumed, now=now, answered=answered))
            return
        if self.paused or backend is None or (isinstance(relay, StreamRelay) and relay.check(now)):
            return
        late = overdue(routed, exchange, backend, resumed=resumed, now=now, answered=answered)
        if late is None and not self.committed and is_stranded(routed, exchange, backend, self._failures.tried, now):
            late = AttemptEnd.NOT_READY, backend.readiness.reason
        if late is not None:
            self.fail(*late)

    def probe(self) -> bytes | None:
        """Return bytes that a client which has only half closed will skip."""
        if not self._exchange.opened:
            return None if self.routed.spec.http10 else CONTINUE
        relay = None if self._attempt is None else self._attempt.relay
        return relay.probe() if isinstance(relay, StreamRelay) else None

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""
        if self.state is not SETTLED:
            outcome = request_outcome(AttemptEnd.ABANDONED, committed=self.committed)
            self.end_attempt(AttemptEnd.ABANDONED)
            replies.tell(self._client, self._exchange, error, self.routed)
            self.end(Event.GIVEN_UP, outcome, error.message)

    def end_attempt(self, result: AttemptEnd) -> Backend | None:
        """End the attempt in progress; return where it was made, None if there is none."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return None
        attempt.end(result, self._context.clock())
        return attempt.backend

    def end(self, event: Event, outcome: Outcome, reason: str) -> None:
        """Settle, after the client has been told."""
        self._settle(event, outcome, reason)
        if not self._exchange.opened:
            self._client.finish()

    def _settle(self, event: Event, outcome: Outcome, reason: str) -> None:
        self.step(event)
        exchange, routed = self._exchange, self.routed
        exchange.ended, exchange.outcome, exchange.reason = self._context.clock(), outcome, reason
        if self._next is not None:
            self._next.end(exchange.ended)
            self._next = None
        routed.settle(exchange)
        self._context.observers.settled(exchange)
