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
from gateway.proxy.carrier import carrier
from gateway.proxy.deadlines import overdue, time_is_over
from gateway.proxy.finding import FULL, STARTED, Tried, find, others
from gateway.proxy.order import Order, Tools
from gateway.proxy.place import Place
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.refusing import head_of, with_retry_after
from gateway.proxy.relay import StreamRelay
from gateway.proxy.renewal import renew
from gateway.proxy.retrying import Failure, Next, after, blamed, is_stranded, may_resend, resent
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.guarded import guarded, later
from gateway.wire.heads import CONTINUE, Headers, forwarded_response
from gateway.wire.heads import find as find_field
from gateway.wire.pool import UpstreamPool
from gateway.wire.service import Request, Writer
from gateway.wire.upstream import Upstream


class Flight:
    """One request on its way: zero or more attempts, one after the other, and exactly one settlement."""

    __slots__ = (
        "_backend",
        "_choose",
        "_client",
        "_clock",
        "_deadline",
        "_exchange",
        "_failure",
        "_http10",
        "_lease",
        "_observer",
        "_order",
        "_paused",
        "_place",
        "_refused",
        "_relay",
        "_resumed",
        "_retry",
        "_rng",
        "_settled",
        "_tried",
        "_upstream",
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
        self._clock = tools.clock
        self._rng = tools.rng
        self._choose = tools.choose
        self._observer = tools.observer
        self._deadline = deadline
        self._tried: list[Backend] = []
        self._backend: Backend | None = None
        self._lease: Lease | None = None
        self._upstream: Upstream | None = None
        self._relay: StreamRelay | PlainRelay | Refusal | None = None
        self._place: Place | None = None
        self._failure: Failure | None = None
        self._refused: tuple[int, bytes, bytes] | None = None
        self._resumed = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._paused = self._settled = False
        self.begun = self.opened = False

    def __repr__(self) -> str:
        return f"<Flight {self._exchange.request_id} attempt {self._exchange.attempts} at {self._backend}>"

    def start(self) -> None:
        """Send the request on its way, let it wait for a slot, or answer at once when neither can be."""
        order = self._order
        order.retries.request(self._exchange.received)
        line = order.route.line
        waits = (line.queue.size or line.held_below is not None) and line.must_wait(order.service_class)
        if waits or (tried := self._attempt()) is not STARTED:
            self._follow(FULL if waits else tried)

    def _follow(self, tried: Tried) -> None:
        """Where no attempt began, wait for a slot, unless that is hopeless, or tell that there can be none."""
        if not others(self._order, self._tried):
            error = NoReadyBackend(f"no backend of the model `{self._exchange.model}` is ready")
            self._refuse(error, Outcome.NO_BACKEND, "no ready backend")
        elif tried is FULL:
            order, exchange, now = self._order, self._exchange, self._clock()
            place = self._place = self._place or Place(self, order, self._clock)
            failure, left = self._failure, self._deadline - now
            if failure is None or failure[0] is not AttemptEnd.SATURATED:
                patience = order.patience(exchange, left, now)
                place.enter(order, now=now, patience=patience, chance=self._rng.random())
            elif not place.rejoin(order, exchange, now=now, deadline=self._deadline):
                self._conclude(*failure)

    def renew(self) -> bool:
        """Follow a reload of the routes; return False when that was the end."""
        error = renew(self._order, self._exchange, self._rng.random())
        if error is not None:
            self._refuse(error, Outcome.CLIENT_ERROR, error.code)
        return error is None

    def try_again(self, waited: float) -> bool:
        """Take a slot that came free after so many seconds."""
        if self._attempt() is not STARTED:
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

    def _attempt(self) -> Tried:
        """Begin an attempt at a backend not tried yet, if one has a slot."""
        exchange, order, now = self._exchange, self._order, self._clock()
        backend = find(order, exchange, self._tried, self._choose, now=now, rng=self._rng)
        if isinstance(backend, Tried):
            return backend
        exchange.sent, self._backend = now, backend
        self._tried.append(backend)
        exchange.attempts += 1
        exchange.backend, exchange.pool = backend.id, backend.spec.pool
        self._lease = None if order.is_lookup else backend.health.lease(exchange.prompt_estimate, order.claim, now)
        # What must not reach an engine twice is not sent on a connection that may be closed already.
        upstream = backend.pool.take(now) if order.repeatable else None
        if upstream is None:
            backend.pool.connect(self, order.timeouts.connect)
        else:
            self._send(upstream, backend)
        return STARTED

    def connected(self, upstream: Upstream) -> bool:
        """Use a new connection, if it is still wanted."""
        backend = self._backend
        if backend is None or self._upstream is not None or upstream.owner is not backend.pool:
            return False
        backend.connected()
        self._send(upstream, backend)
        return True

    def connect_failed(self, pool: UpstreamPool, detail: str) -> None:
        """Count it against the backend and go elsewhere; an attempt given up meanwhile is none of this one's."""
        backend = self._backend
        if backend is not None and backend.pool is pool and self._upstream is None:
            backend.connect_failed(detail)
            self.fail(AttemptEnd.CONNECT_FAILED, detail)

    def _send(self, upstream: Upstream, backend: Backend) -> None:
        written = self._order.written_for(backend)
        self._upstream = upstream
        upstream.start(self, *written)
        if self._paused:
            upstream.transport.pause_reading()

    def head(self, head: AnswerHead) -> Sink | None:
        """Judge the head of an answer and choose who carries the rest."""
        end = classify_status(head.status)
        if head.coding is not None:
            self.fail(AttemptEnd.MALFORMED, "compressed, though not asked for")
            return None
        if end is not ANSWERED and end in {AttemptEnd.MALFORMED, AttemptEnd.UNAUTHORIZED}:
            self.fail(end, f"status {head.status}")
            return None
        self._relay = self._carry(head) if end is ANSWERED else Refusal(head, self._turned_down, self._clock())
        return self._relay

    def _carry(self, answer: AnswerHead) -> StreamRelay | PlainRelay | Refusal:
        client, exchange, order = self._client, self._exchange, self._order
        head = self._head_of(forwarded_response(answer.status, answer.fields, answer.connection))
        return carrier(self, client, exchange, order, answer=answer, head=head, http10=self._http10, clock=self._clock)

    def _turned_down(self, head: AnswerHead, body: bytes) -> None:
        """Keep an engine's refusal for the client, and see whether another backend does better."""
        fields = capped_retry_after(head.fields, wall())
        wait, now = find_field(fields, b"retry-after"), self._clock()
        end = learning.refused(self._order, self._backend, classify_status, head.status, wait, now=now)
        self._keep(head.status, fields, head.connection, body)
        self.fail(end, f"status {head.status}")

    def _keep(self, status: int, fields: Headers, connection: frozenset[bytes] | None, body: bytes) -> None:
        fields = with_retry_after(status, fields, self._order, self._rng.random)
        self._refused = status, self._head_of(forwarded_response(status, fields, connection)), body

    def _head_of(self, forwarded: bytes) -> bytes:
        return head_of(self._order, self._exchange, self._backend, forwarded, keep_alive=self._client.keep_alive)

    def lost(self, loss: Loss, detail: str) -> None:
        """Learn that the connection went before an answer's head came."""
        backend, now = self._backend, self._clock()
        if loss is Loss.STALE and backend is not None and may_resend(self._order, self._exchange, self._deadline, now):
            self._upstream = None
            resent(self._exchange, backend, self._observer, now)
            backend.pool.connect(self, self._order.timeouts.connect)
            return
        self.fail(AttemptEnd.MALFORMED if loss is Loss.MALFORMED else AttemptEnd.CLOSED_EARLY, detail)

    def commit(self) -> None:
        """Let go of what only a retry would need."""
        self.begun = self.opened = True
        self._order.forget()
        self._tried.clear()
        exchange = self._exchange
        if exchange.stream and exchange.first_content and self._lease is not None:
            learning.committed(self._order, exchange, self._backend, self._lease, self._observer)

    def complete(self) -> None:
        """The answer is written to its end."""
        self._end_attempt(ANSWERED)
        self._settle(SERVED, "")
        self._client.finish()

    def failed(self, code: int) -> None:
        """End a stream that an error of the engine's has ended: no proper end follows it."""
        end = learning.refused(self._order, self._backend, classify_error, code, None, now=self._clock())
        self._end_attempt(end)
        self._settle(request_outcome(end, begun=True), f"the engine ended the stream with an error, code {code}")
        self._client.break_off()

    def refuse(self, status: int, body: bytes) -> None:
        """A 200 whose first word is an error gets the status that it deserved."""
        end = learning.refused(self._order, self._backend, classify_error, status, None, now=self._clock())
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
        self._failure, now = failed, self._clock()  # later than the attempt's end: no moment is counted twice
        match after(end, self._order, self._exchange, self._tried, begun=self.begun, deadline=self._deadline, now=now):
            case Next.ELSEWHERE:
                self._observer.retried(self._exchange, end)
                self._exchange.sent = now
                if end is AttemptEnd.NOT_READY:
                    self._again()  # at once: it left for one free slot, which no other request shall leave for
                else:
                    self._retry = later(pause(self._exchange.attempts, self._rng), self, self._again)
            case Next.QUEUE if self.renew():
                self._follow(FULL)
            case Next.END:
                self._conclude(*failed)

    def _again(self) -> None:
        """Try elsewhere after a pause; where nothing is ready any more, the last failure stands."""
        self._end_pause()
        if self.renew() and (tried := self._attempt()) is not STARTED:
            self._follow(tried)

    def _end_pause(self) -> None:
        """A pause before a retry is time spent for the backend's sake."""
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
            self._exchange.waited += self._clock() - self._exchange.sent

    def _conclude(self, end: AttemptEnd, detail: str, backend: Backend | None) -> None:
        """Tell the client of a failure that is not followed by another attempt."""
        outcome = request_outcome(end, begun=self.begun)
        if self._refused is not None and not self.opened and end is not AttemptEnd.TOO_LARGE:
            replies.pass_refusal(self._client, self._exchange, *self._refused)
            if RULINGS[end].verdict is Verdict.BAD:
                outcome = Outcome.BACKEND_ERROR
        else:
            where = backend.id if backend else "the backend"
            self._tell(failure(end, where, detail, self._exchange.attempts, begun=self.begun))
        self._end(outcome, detail)

    def drop_upstream(self) -> None:
        """Close the engine's connection if it is still at work for us."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None and upstream.busy:
            upstream.cancel()

    def client_gone(self) -> None:
        """Stop the engine's work: the client is gone."""
        if not self._settled:
            self._end_attempt(AttemptEnd.CLIENT_GONE)
            self._settle(Outcome.CLIENT_GONE, "the client hung up")

    def pause(self) -> None:
        """Let the engine's bytes wait in the kernel."""
        self._paused = True
        if self._upstream is not None and self._upstream.busy:
            self._upstream.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._resumed = self._clock()
        if isinstance(self._relay, StreamRelay):
            self._relay.resumed()
        if self._upstream is not None and self._upstream.busy:
            self._upstream.transport.resume_reading()

    def check(self, now: float) -> None:
        """Hold the deadlines of the request and of the attempt in progress."""
        if self._place is not None and self._place.check(now, self._rng.random()):
            return
        order, exchange, backend, relay = self._order, self._exchange, self._backend, self._relay
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
        return self._relay.probe() if isinstance(self._relay, StreamRelay) else None

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""
        if not self._settled:
            self._end_attempt(AttemptEnd.ABANDONED)
            self._tell(error)
            self._end(request_outcome(AttemptEnd.ABANDONED, begun=self.begun), error.message)

    def _end_attempt(self, end: AttemptEnd) -> None:
        """Give back the slot and the connection; once per attempt."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        self.drop_upstream()
        exchange = self._exchange
        now = exchange.attempt_ended = self._clock()
        exchange.waited += now - exchange.sent
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()
            learning.ended(self._order, exchange, backend, lease, end, now=now, rng=self._rng)
        self._relay = None
        self._observer.attempt_ended(exchange, backend, end)
        learning.gave_back(self._order, exchange, end)

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
        exchange.ended, exchange.outcome, exchange.reason = self._clock(), outcome, reason
        place, self._place = self._place, None
        if place is not None:
            exchange.queued += place.leave(exchange.ended)
        order.settle(exchange)
        self._observer.settled(exchange)
