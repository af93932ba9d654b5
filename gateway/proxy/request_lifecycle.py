"""The life of one request after it is understood: attempts, retries, deadlines, and its one settlement."""

import asyncio

from gateway.backends.backend import Backend
from gateway.errors import GatewayError, NoReadyBackend
from gateway.exchange import ANSWERED, SERVED, AttemptEnd, AttemptRecord, Exchange, Outcome, Verdict
from gateway.policy.admission.decide import TurnedAway
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.refusals import Refusals
from gateway.policy.routing.retry import pause
from gateway.policy.slo.classify import RULINGS, request_outcome
from gateway.proxy import replies
from gateway.proxy.answers import failure, turned_away
from gateway.proxy.attempt import Attempt
from gateway.proxy.deadlines import overdue, time_is_over
from gateway.proxy.finding import FULL, STARTED, Tried, find, others
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
from gateway.proxy.plain import Refusal
from gateway.proxy.queue_ticket import QueueTicket
from gateway.proxy.relay import StreamRelay
from gateway.proxy.renewal import renewed
from gateway.proxy.retrying import NONE_YET, Failures, Next, Refused, after, blamed, is_stranded, may_resend
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.wire.guarded import guarded, later
from gateway.wire.heads import CONTINUE
from gateway.wire.service import Writer


class RequestLifecycle:
    """One request on its way: zero or more attempts, one after the other, and exactly one settlement.

    `state` is where it stands; only an event moves it on, along the table in `proxy.lifecycle`.
    """

    __slots__ = (
        "_attempt",
        "_client",
        "_context",
        "_deadline",
        "_exchange",
        "_failures",
        "_resumed",
        "_retry",
        "_routed",
        "_ticket",
        "paused",
        "state",
    )

    def __init__(
        self, routed: RoutedRequest, exchange: Exchange, client: Writer, *, context: ProxyContext, deadline: float
    ) -> None:
        self.state = READING
        self._routed = routed
        self._exchange = exchange
        self._client = client
        self._context = context
        self._deadline = deadline
        self._attempt: Attempt | None = None
        self._ticket: QueueTicket | None = None
        self._failures = NONE_YET
        self._retry: asyncio.TimerHandle | None = None
        self.paused = False
        self._resumed = 0.0

    def __repr__(self) -> str:
        number, attempt = len(self._exchange.attempts), f" {self._attempt}" if self._attempt is not None else ""
        return f"<RequestLifecycle {self._exchange.request_id} {self.state} after {number} attempts{attempt}>"

    @property
    def committed(self) -> bool:
        """Whether part of the answer has gone to the client."""
        return self.state is ANSWERING

    def step(self, event: Event) -> None:
        """Go on to the next state."""
        self.state = step(self.state, event)

    def start(self) -> None:
        """Send the request on its way, let it wait for a slot, or answer at once when neither can be."""
        routed = self._routed
        if not routed.spec.is_copy:
            routed.model.memory.retries.request(self._exchange.received)
        line = routed.route.line
        waits = (line.queue.size or line.held_below is not None) and line.must_wait(routed.spec.service_class)
        if waits or (tried := self._begin()) is not STARTED:
            self._follow(FULL if waits else tried)

    def _follow(self, tried: Tried) -> None:
        """Where no attempt began, wait for a slot, unless that is hopeless, or tell that there can be none."""
        if not others(self._routed, self._failures.tried):
            error = NoReadyBackend(f"no backend of the model `{self._exchange.model}` is ready")
            self._refuse(error, Outcome.NO_BACKEND, "no ready backend")
        elif tried is FULL:
            self.step(Event.NO_SLOT)
            routed, exchange, context = self._routed, self._exchange, self._context
            now, last = context.clock(), self._failures.last
            ticket = self._ticket = self._ticket or QueueTicket(self, routed, context.clock)
            if last is None or last[0] is not AttemptEnd.SATURATED:
                ticket.enter(routed, exchange, now=now, deadline=self._deadline, chance=context.rng.random())
            elif not ticket.rejoin(routed, exchange, self._failures.refusals, now=now, deadline=self._deadline):
                self._conclude(*last)

    def renewed(self) -> RoutedRequest | None:
        """Follow a reload of the routes; return the request as it goes on, None when that was the end."""
        routed = renewed(self._routed, self._exchange, self._context.rng.random())
        if isinstance(routed, GatewayError):
            self._refuse(routed, Outcome.CLIENT_ERROR, routed.code)
            return None
        self._routed = routed
        return routed

    def try_again(self, waited: float) -> bool:
        """Take a slot that came free after so many seconds."""
        return self._begin(waited) is STARTED

    def turned_away(self, why: TurnedAway) -> None:
        """Answer that there is no slot, unless one that it had ended in a failure; that an engine was busy is none."""
        failures = self._failures
        if failures.last is not None and failures.last[0] is AttemptEnd.SATURATED:
            failures.last = None
        self._refuse(turned_away(why, self._routed.spec.service_class), Outcome.SHED, why.why)

    def _refuse(self, error: GatewayError, outcome: Outcome, reason: str) -> None:
        if self._failures.last is None:
            replies.tell(self._client, self._exchange, error, self._routed)
            self._end(Event.REFUSED, outcome, reason)
        else:
            self._conclude(*self._failures.last)

    def _begin(self, queued: float = 0.0) -> Tried:
        """Begin an attempt at a backend not tried yet, if one has a slot; `queued` are the seconds waited for it."""
        exchange, routed, context = self._exchange, self._routed, self._context
        now = context.clock()
        backend = find(routed, exchange, self._failures.tried, context.choose, now=now, rng=context.rng)
        if isinstance(backend, Tried):
            return backend
        self.step(SLOT_GRANTED)
        lease = None if routed.spec.is_lookup else backend.health.lease(exchange.prompt_estimate, routed.claim, now)
        self._at(backend, lease, now, queued).begin()
        exchange.queued += queued  # not before: where a step breaks, the ticket's wait is counted when it leaves
        return STARTED

    def _at(self, backend: Backend, lease: Lease | None, now: float, queued: float = 0.0) -> Attempt:
        """Return the next attempt, which has a slot."""
        exchange, record = self._exchange, AttemptRecord(backend.id, backend.spec.pool, now, queued)
        exchange.attempts.append(record)
        exchange.backend, exchange.pool = record.backend, record.pool
        routed, client, context = self._routed, self._client, self._context
        attempt = Attempt(self, routed, exchange, client, context, backend=backend, lease=lease, record=record)
        self._attempt = attempt
        return attempt

    def resend(self, stale: Attempt) -> bool:
        """Make another attempt at the same backend, which most likely has not seen this one, if that is allowed."""
        now = self._context.clock()
        if not may_resend(self._routed, self._exchange, self._deadline, now):
            return False
        self.step(Event.STALE)
        self._at(stale.backend, stale.hand_over(now), now).connect()
        return True

    def first_output(self) -> None:
        """Let go of what only a retry would need."""
        self.step(FIRST_OUTPUT)
        self._exchange.opened = True
        self._routed.message.forget()
        self._failures = NONE_YET

    def complete(self) -> None:
        """End: the answer is written to its end."""
        self._end_attempt(ANSWERED)
        self._settle(COMPLETED, SERVED, "")
        self._client.finish()

    def break_off(self, end: AttemptEnd, code: int) -> None:
        """End a stream that an error of the engine's has ended: no proper end follows it."""
        self._end_attempt(end)
        reason = f"the engine ended the stream with an error, code {code}"
        self._settle(Event.FAILED, request_outcome(end, committed=True), reason)
        self._client.break_off()

    def fail(self, end: AttemptEnd, detail: str, refusal: Refused | None = None) -> None:
        """End the attempt; try elsewhere, or tell the client, by the engine's own words where it can."""
        if self.state is not SETTLED:
            guarded(self, self._failed, end, detail, refusal)

    @property
    def refusals(self) -> Refusals:
        """How often engines that are at work have refused the request."""
        return self._noted_failures().refusals

    def _noted_failures(self) -> Failures:
        if self._failures is NONE_YET:
            self._failures = Failures()
        return self._failures

    def _failed(self, end: AttemptEnd, detail: str, refusal: Refused | None) -> None:
        failures = self._noted_failures()
        failures.refusal = refusal or failures.refusal
        backend, committed = None if self._attempt is None else self._attempt.backend, self.committed
        last = blamed(failures.last, (end, detail, backend), committed=committed)
        if backend is not None:
            failures.tried.append(backend)
        self._end_attempt(end)
        failures.last, now, context = last, self._context.clock(), self._context
        deadline = self._deadline
        match after(end, self._routed, self._exchange, failures, committed=committed, deadline=deadline, now=now):
            case Next.ELSEWHERE:
                self.step(Event.RETRY)
                context.observers.retried(self._exchange, end)
                if end is AttemptEnd.NOT_READY:
                    self._again()  # at once: it left for one free slot, which no other request shall leave for
                else:
                    self._retry = later(pause(len(self._exchange.attempts), context.rng), self, self._again)
            case Next.QUEUE if self.renewed() is not None:
                self._follow(FULL)
            case Next.END:
                self._conclude(*last)

    def _again(self) -> None:
        """Try elsewhere after a pause; where nothing is ready any more, the last failure stands."""
        self._end_pause()
        if self.renewed() is not None and (tried := self._begin()) is not STARTED:
            self._follow(tried)

    def _end_pause(self) -> None:
        """End the pause before a retry, which began with the end of an attempt: time spent for the backend's sake."""
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
            self._exchange.backend_seconds += self._context.clock() - self._exchange.attempt_ended

    def _conclude(self, end: AttemptEnd, detail: str, backend: Backend | None) -> None:
        """Tell the client of a failure that is not followed by another attempt."""
        exchange, committed = self._exchange, self.committed
        outcome = request_outcome(end, committed=committed)
        refusal = self._failures.refusal
        if refusal is not None and not exchange.opened and end is not AttemptEnd.TOO_LARGE:
            replies.pass_refusal(self._client, exchange, *refusal)
            if RULINGS[end].verdict is Verdict.BAD:
                outcome = Outcome.BACKEND_ERROR
        else:
            where = backend.id if backend else "the backend"
            error = failure(end, where, detail, len(exchange.attempts), committed=committed)
            replies.tell(self._client, exchange, error, self._routed)
        self._end(Event.FAILED, outcome, detail)

    def client_gone(self) -> None:
        """Stop the engine's work: the client is gone."""
        if self.state is not SETTLED:
            self._end_attempt(AttemptEnd.CLIENT_GONE)
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
        if self._ticket is not None and self._ticket.check(now, self._context.rng.random()):
            return
        routed, exchange, attempt = self._routed, self._exchange, self._attempt
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
            return None if self._routed.spec.http10 else CONTINUE
        relay = None if self._attempt is None else self._attempt.relay
        return relay.probe() if isinstance(relay, StreamRelay) else None

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""
        if self.state is not SETTLED:
            outcome = request_outcome(AttemptEnd.ABANDONED, committed=self.committed)
            self._end_attempt(AttemptEnd.ABANDONED)
            replies.tell(self._client, self._exchange, error, self._routed)
            self._end(Event.GIVEN_UP, outcome, error.message)

    def _end_attempt(self, result: AttemptEnd) -> None:
        """End the attempt in progress, if there is one."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end(result, self._context.clock())

    def _end(self, event: Event, outcome: Outcome, reason: str) -> None:
        self._settle(event, outcome, reason)
        if not self._exchange.opened:
            self._client.finish()

    def _settle(self, event: Event, outcome: Outcome, reason: str) -> None:
        self.step(event)
        self._end_pause()
        exchange, routed = self._exchange, self._routed
        exchange.ended, exchange.outcome, exchange.reason = self._context.clock(), outcome, reason
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            exchange.queued += ticket.leave(exchange.ended)
        routed.settle(exchange)
        self._context.observers.settled(exchange)
