"""The life of one request after it is understood: attempts, retries, deadlines, and its one settlement."""

import asyncio

from gateway.backends.backend import Backend
from gateway.clock import wall
from gateway.errors import GatewayError, NoReadyBackend
from gateway.exchange import ANSWERED, SERVED, AttemptEnd, Exchange, Outcome, Verdict
from gateway.policy.admission.decide import TurnedAway
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.retry import pause
from gateway.policy.slo.classify import RULINGS, classify_error, classify_status, request_outcome
from gateway.proxy import learning, replies
from gateway.proxy.answers import capped_retry_after, failure, turned_away
from gateway.proxy.attempt import Attempt
from gateway.proxy.carrier import carrier
from gateway.proxy.deadlines import overdue, time_is_over
from gateway.proxy.finding import FULL, STARTED, Tried, find, others
from gateway.proxy.order import Order, Tools
from gateway.proxy.place import Place
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.refusing import head_of, with_retry_after
from gateway.proxy.relay import StreamRelay
from gateway.proxy.renewal import renew
from gateway.proxy.retrying import Failure, Next, after, blamed, is_stranded, may_resend
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.guarded import guarded, later
from gateway.wire.heads import CONTINUE, Headers, forwarded_response
from gateway.wire.heads import find as find_field
from gateway.wire.service import Request, Writer
from gateway.wire.upstream import Upstream


class Flight:
    """One request on its way: zero or more attempts, one after the other, and exactly one settlement."""

    __slots__ = (
        "_attempt",
        "_client",
        "_deadline",
        "_exchange",
        "_failure",
        "_http10",
        "_order",
        "_paused",
        "_place",
        "_refused",
        "_resumed",
        "_retry",
        "_settled",
        "_tools",
        "_tried",
        "begun",
        "opened",
    )

    def __init__(
        self, order: Order, exchange: Exchange, request: Request, client: Writer, *, tools: Tools, deadline: float
    ) -> None:
        self._order = order
        self._exchange = exchange
        self._client = client
        self._http10 = request.http10
        self._tools = tools
        self._deadline = deadline
        self._tried: list[Backend] = []
        self._attempt: Attempt | None = None
        self._place: Place | None = None
        self._failure: Failure | None = None
        self._refused: tuple[int, bytes, bytes] | None = None
        self._resumed = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._paused = self._settled = False
        self.begun = self.opened = False

    def __repr__(self) -> str:
        return f"<Flight {self._exchange.request_id} attempt {len(self._exchange.attempts)} {self._attempt}>"

    def start(self) -> None:
        """Send the request on its way, let it wait for a slot, or answer at once when neither can be."""
        order = self._order
        order.retries.request(self._exchange.received)
        line = order.route.line
        waits = (line.queue.size or line.held_below is not None) and line.must_wait(order.service_class)
        if waits or (tried := self._begin()) is not STARTED:
            self._follow(FULL if waits else tried)

    def _follow(self, tried: Tried) -> None:
        """Where no attempt began, wait for a slot, unless that is hopeless, or tell that there can be none."""
        if not others(self._order, self._tried):
            error = NoReadyBackend(f"no backend of the model `{self._exchange.model}` is ready")
            self._refuse(error, Outcome.NO_BACKEND, "no ready backend")
        elif tried is FULL:
            order, exchange, now = self._order, self._exchange, self._tools.clock()
            place = self._place = self._place or Place(self, order, self._tools.clock)
            failure, left = self._failure, self._deadline - now
            if failure is None or failure[0] is not AttemptEnd.SATURATED:
                patience = order.patience(exchange, left, now)
                place.enter(order, now=now, patience=patience, chance=self._tools.rng.random())
            elif not place.rejoin(order, exchange, now=now, deadline=self._deadline):
                self._conclude(*failure)

    def renew(self) -> bool:
        """Follow a reload of the routes; return False when that was the end."""
        error = renew(self._order, self._exchange, self._tools.rng.random())
        if error is not None:
            self._refuse(error, Outcome.CLIENT_ERROR, error.code)
        return error is None

    def try_again(self, waited: float) -> bool:
        """Take a slot that came free after so many seconds."""
        if self._begin(waited) is not STARTED:
            return False
        self._exchange.queued += waited
        return True

    def turned_away(self, why: TurnedAway) -> None:
        """Answer that there is no slot, unless one that it had ended in a failure; that an engine was busy is none."""
        if self._failure is not None and self._failure[0] is AttemptEnd.SATURATED:
            self._failure = None
        self._refuse(turned_away(why, self._order.service_class), Outcome.SHED, why.why)

    def _refuse(self, error: GatewayError, outcome: Outcome, reason: str) -> None:
        if self._failure is None:
            self._tell(error)
            self._end(outcome, reason)
        else:
            self._conclude(*self._failure)

    def _begin(self, queued: float = 0.0) -> Tried:
        """Begin an attempt at a backend not tried yet, if one has a slot; `queued` are the seconds waited for it."""
        exchange, order, now = self._exchange, self._order, self._tools.clock()
        backend = find(order, exchange, self._tried, self._tools.choose, now=now, rng=self._tools.rng)
        if isinstance(backend, Tried):
            return backend
        self._tried.append(backend)
        lease = None if order.is_lookup else backend.health.lease(exchange.prompt_estimate, order.claim, now)
        attempt = self._at(backend, lease, now, queued)
        # What must not reach an engine twice is not sent on a connection that may be closed already.
        upstream = backend.pool.take(now) if order.repeatable else None
        if upstream is None:
            backend.pool.connect(attempt, order.timeouts.connect)
        else:
            self._send(attempt, upstream, now)
        return STARTED

    def _at(self, backend: Backend, lease: Lease | None, now: float, queued: float = 0.0) -> Attempt:
        exchange = self._exchange
        attempt = self._attempt = Attempt(self, backend, lease, now, queued)
        exchange.attempts.append(attempt.record)
        exchange.backend, exchange.pool = attempt.record.backend, attempt.record.pool
        return attempt

    def send(self, upstream: Upstream) -> None:
        """Send the request on a new connection."""
        if self._attempt is not None:
            self._send(self._attempt, upstream, self._tools.clock())

    def _send(self, attempt: Attempt, upstream: Upstream, now: float) -> None:
        request, body = self._order.written_for(attempt.backend)
        attempt.send(upstream, request, body, now)
        if self._paused:
            attempt.pause()

    def answered(self, head: AnswerHead) -> Sink | None:
        """Judge the head of an answer and choose who carries the rest."""
        attempt, end = self._attempt, classify_status(head.status)
        if attempt is None:
            return None
        now = attempt.record.head_at = self._tools.clock()
        if head.coding is not None:
            self.fail(AttemptEnd.MALFORMED, "compressed, though not asked for")
            return None
        if end is not ANSWERED and end in {AttemptEnd.MALFORMED, AttemptEnd.UNAUTHORIZED}:
            self.fail(end, f"status {head.status}")
            return None
        attempt.relay = self._carry(head) if end is ANSWERED else Refusal(head, self._turned_down, now)
        return attempt.relay

    def _carry(self, answer: AnswerHead) -> StreamRelay | PlainRelay | Refusal:
        client, exchange, order, clock = self._client, self._exchange, self._order, self._tools.clock
        head = self._head_of(forwarded_response(answer.status, answer.fields, answer.connection))
        return carrier(self, client, exchange, order, answer=answer, head=head, http10=self._http10, clock=clock)

    def _turned_down(self, head: AnswerHead, body: bytes) -> None:
        """Keep an engine's refusal for the client, and see whether another backend does better."""
        fields = capped_retry_after(head.fields, wall())
        wait, now = find_field(fields, b"retry-after"), self._tools.clock()
        end = learning.refused(self._order, self._backend, classify_status, head.status, wait, now=now)
        self._keep(head.status, fields, head.connection, body)
        self.fail(end, f"status {head.status}")

    def _keep(self, status: int, fields: Headers, connection: frozenset[bytes] | None, body: bytes) -> None:
        fields = with_retry_after(status, fields, self._order, self._tools.rng.random)
        self._refused = status, self._head_of(forwarded_response(status, fields, connection)), body

    def _head_of(self, forwarded: bytes) -> bytes:
        return head_of(self._order, self._exchange, self._backend, forwarded, keep_alive=self._client.keep_alive)

    @property
    def _backend(self) -> Backend | None:
        """Where the attempt in progress is made."""
        return None if self._attempt is None else self._attempt.backend

    def unanswered(self, loss: Loss, detail: str) -> None:
        """Learn that the connection went before an answer's head came."""
        attempt, now = self._attempt, self._tools.clock()
        if loss is Loss.STALE and attempt is not None and may_resend(self._order, self._exchange, self._deadline, now):
            self._resend(attempt, now)
        else:
            self.fail(AttemptEnd.MALFORMED if loss is Loss.MALFORMED else AttemptEnd.CLOSED_EARLY, detail)

    def _resend(self, stale: Attempt, now: float) -> None:
        """Send the request to the same backend again, which most likely has not seen it; it keeps its slot.

        As far as anyone can tell the engine may have executed it (RFC 9110 section 9.2.2), so it is an attempt.
        """
        exchange, backend, lease, stale.lease = self._exchange, stale.backend, stale.lease, None
        stale.end(AttemptEnd.STALE, now)
        exchange.waited += now - stale.record.sent_at
        self._tools.observers.attempt_ended(exchange, backend, AttemptEnd.STALE)
        self._tools.observers.retried(exchange, AttemptEnd.STALE)
        backend.pool.connect(self._at(backend, lease, now), self._order.timeouts.connect)

    def commit(self) -> None:
        """Let go of what only a retry would need."""
        self.begun = self.opened = True
        self._order.forget()
        self._tried.clear()
        exchange, attempt = self._exchange, self._attempt
        if exchange.stream and exchange.first_content and attempt is not None and attempt.lease is not None:
            learning.committed(self._order, exchange, attempt.backend, attempt.lease, self._tools.observers)

    def complete(self) -> None:
        """The answer is written to its end."""
        self._end_attempt(ANSWERED)
        self._settle(SERVED, "")
        self._client.finish()

    def failed(self, code: int) -> None:
        """End a stream that an error of the engine's has ended: no proper end follows it."""
        end = learning.refused(self._order, self._backend, classify_error, code, None, now=self._tools.clock())
        self._end_attempt(end)
        self._settle(request_outcome(end, begun=True), f"the engine ended the stream with an error, code {code}")
        self._client.break_off()

    def refuse(self, status: int, body: bytes) -> None:
        """A 200 whose first word is an error gets the status that it deserved."""
        end = learning.refused(self._order, self._backend, classify_error, status, None, now=self._tools.clock())
        if end is not AttemptEnd.UNAUTHORIZED:
            self._keep(status, [(b"content-type", b"application/json")], None, body)
        self.fail(end, f"an error with code {status}")

    def fail(self, end: AttemptEnd, detail: str) -> None:
        """End the attempt; try elsewhere, or tell the client."""
        if not self._settled:
            guarded(self, self._ended_so, end, detail)

    def _ended_so(self, end: AttemptEnd, detail: str) -> None:
        failed = blamed(self._failure, (end, detail, self._backend), begun=self.begun)
        self._end_attempt(end)
        self._failure, now = failed, self._tools.clock()
        match after(end, self._order, self._exchange, self._tried, begun=self.begun, deadline=self._deadline, now=now):
            case Next.ELSEWHERE:
                self._tools.observers.retried(self._exchange, end)
                if end is AttemptEnd.NOT_READY:
                    self._again()  # at once: it left for one free slot, which no other request shall leave for
                else:
                    self._retry = later(pause(len(self._exchange.attempts), self._tools.rng), self, self._again)
            case Next.QUEUE if self.renew():
                self._follow(FULL)
            case Next.END:
                self._conclude(*failed)

    def _again(self) -> None:
        """Try elsewhere after a pause; where nothing is ready any more, the last failure stands."""
        self._end_pause()
        if self.renew() and (tried := self._begin()) is not STARTED:
            self._follow(tried)

    def _end_pause(self) -> None:
        """A pause before a retry, which begins with the end of an attempt, is time spent for the backend's sake."""
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
            self._exchange.waited += self._tools.clock() - self._exchange.attempt_ended

    def _conclude(self, end: AttemptEnd, detail: str, backend: Backend | None) -> None:
        """Tell the client of a failure that is not followed by another attempt."""
        outcome = request_outcome(end, begun=self.begun)
        if self._refused is not None and not self.opened and end is not AttemptEnd.TOO_LARGE:
            replies.pass_refusal(self._client, self._exchange, *self._refused)
            if RULINGS[end].verdict is Verdict.BAD:
                outcome = Outcome.BACKEND_ERROR
        else:
            where = backend.id if backend else "the backend"
            self._tell(failure(end, where, detail, len(self._exchange.attempts), begun=self.begun))
        self._end(outcome, detail)

    def drop_upstream(self) -> None:
        """Close the engine's connection if it is still at work for us."""
        if self._attempt is not None:
            self._attempt.drop_upstream()

    def client_gone(self) -> None:
        """Stop the engine's work: the client is gone."""
        if not self._settled:
            self._end_attempt(AttemptEnd.CLIENT_GONE)
            self._settle(Outcome.CLIENT_GONE, "the client hung up")

    def pause(self) -> None:
        """Let the engine's bytes wait in the kernel."""
        self._paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._resumed = self._tools.clock()
        if self._attempt is not None:
            self._attempt.resume()

    def check(self, now: float) -> None:
        """Hold the deadlines of the request and of the attempt in progress."""
        if self._place is not None and self._place.check(now, self._tools.rng.random()):
            return
        order, exchange, attempt = self._order, self._exchange, self._attempt
        backend, relay = (None, None) if attempt is None else (attempt.backend, attempt.relay)
        resumed, answered = now if self._paused else self._resumed, relay is not None
        if isinstance(relay, Refusal) and backend is not None:
            relay.check(now, resumed, self._deadline, backend.lateness)
            return
        if now > self._deadline:
            self.fail(*time_is_over(order, exchange, backend, resumed=resumed, now=now, answered=answered))
            return
        if self._paused or backend is None or (isinstance(relay, StreamRelay) and relay.check(now)):
            return
        late = overdue(order, exchange, backend, resumed=resumed, now=now, answered=answered)
        if late is None and not self.begun and is_stranded(order, exchange, backend, self._tried, now):
            late = AttemptEnd.NOT_READY, backend.readiness.reason
        if late is not None:
            self.fail(*late)

    def probe(self) -> bytes | None:
        """Return bytes that a client which has only half closed will skip."""
        if not self.opened:
            return None if self._http10 else CONTINUE
        relay = None if self._attempt is None else self._attempt.relay
        return relay.probe() if isinstance(relay, StreamRelay) else None

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""
        if not self._settled:
            self._end_attempt(AttemptEnd.ABANDONED)
            self._tell(error)
            self._end(request_outcome(AttemptEnd.ABANDONED, begun=self.begun), error.message)

    def _end_attempt(self, end: AttemptEnd) -> None:
        """End the attempt in progress, and learn from it."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        order, exchange, backend, lease, now = (
            self._order,
            self._exchange,
            attempt.backend,
            attempt.lease,
            self._tools.clock(),
        )
        attempt.end(end, now)
        exchange.waited += now - attempt.record.sent_at
        if lease is not None:
            learning.ended(order, exchange, backend, lease, end, now=now, rng=self._tools.rng)
        self._tools.observers.attempt_ended(exchange, backend, end)
        learning.gave_back(order, exchange, end)

    def _tell(self, error: GatewayError) -> None:
        """Tell the client by a status, or within a stream whose head it has."""
        if self.opened:
            replies.break_off(self._client, self._exchange, error, self._order.endpoint.dialect, http10=self._http10)
        else:
            replies.answer(self._client, self._exchange, error, self._order)

    def _end(self, outcome: Outcome, reason: str) -> None:
        self._settle(outcome, reason)
        if not self.opened:
            self._client.finish()

    def _settle(self, outcome: Outcome, reason: str) -> None:
        self._settled = True
        self._end_pause()
        exchange, order = self._exchange, self._order
        exchange.ended, exchange.outcome, exchange.reason = self._tools.clock(), outcome, reason
        place, self._place = self._place, None
        if place is not None:
            exchange.queued += place.leave(exchange.ended)
        order.settle(exchange)
        self._tools.observers.settled(exchange)
