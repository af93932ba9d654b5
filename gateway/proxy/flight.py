"""The life of one request after it is understood: attempts, retries, deadlines, and its one settlement."""

import asyncio

from gateway.backends.backend import Backend
from gateway.clock import wall
from gateway.errors import GatewayError, NoReadyBackend, StreamBroken
from gateway.exchange import AttemptEnd, Exchange, Outcome, Verdict
from gateway.policy.routing.choose import ONLY
from gateway.policy.routing.health import Health, Lease
from gateway.policy.routing.retry import may_retry, pause
from gateway.policy.slo.classify import RULINGS, classify_status, request_outcome
from gateway.proxy.answers import capped_retry_after, chunk, error_event, error_head, failure
from gateway.proxy.order import Order, Tools
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.relay import StreamRelay
from gateway.wire.heads import find, forwarded_response, status_line
from gateway.wire.pool import UpstreamPool
from gateway.wire.service import Request, Writer
from gateway.wire.sse import Scanner
from gateway.wire.upstream import AnswerHead, Loss, Sink, Upstream

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PATIENCE_AFTER_END = 1.0


class Flight:
    """One request on its way: zero or more attempts, one after the other, and exactly one settlement."""

    __slots__ = (
        "_backend",
        "_choose",
        "_client",
        "_clock",
        "_deadline",
        "_exchange",
        "_http10",
        "_lease",
        "_observer",
        "_order",
        "_paused",
        "_refused",
        "_relay",
        "_resumed",
        "_retry",
        "_rng",
        "_settled",
        "_tried",
        "_upstream",
        "begun",
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
        self._relay: StreamRelay | PlainRelay | None = None
        self._refused: tuple[int, bytes, bytes] | None = None
        self._resumed = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._paused = False
        self._settled = False
        self.begun = False

    def __repr__(self) -> str:
        return f"<Flight {self._exchange.request_id} attempt {self._exchange.attempts} at {self._backend}>"

    def start(self) -> None:
        """Send the request on its way, or answer at once when there is nowhere to send it."""
        self._order.model.memory.retries.request(self._exchange.received)
        if not self._attempt():
            self._answer(NoReadyBackend(f"no backend of the model `{self._exchange.model}` is ready"))
            self._settle(Outcome.NO_BACKEND, "no ready backend")
            self._client.finish()

    def _others(self) -> list[Backend]:
        """Return the backends that could be sent this request and have not been."""
        version, tried = self._order.version, self._tried
        return [b for b in version.backends if b not in tried and b.serves(version.served_model)]

    def _attempt(self) -> bool:
        """Begin an attempt at a backend not tried yet; return False when there is none."""
        candidates = self._others()
        if not candidates:
            return False
        exchange = self._exchange
        now = exchange.sent = self._clock()
        if len(candidates) == 1:
            backend = candidates[0]
            exchange.routing = ONLY if self._tried else ""
        else:
            exchange.routing = choice = self._choose(candidates, exchange.prompt_estimate, now, self._rng)
            backend = choice.winner
        self._tried.append(backend)
        exchange.attempts += 1
        exchange.backend, exchange.pool = backend.id, backend.spec.pool
        self._backend = backend
        self._lease = backend.health.lease(exchange.prompt_estimate)
        upstream = backend.pool.take()
        if upstream is None:
            backend.pool.connect(self, self._order.timeouts.connect)
        else:
            self._send(upstream, backend)
        return True

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
        self._upstream = upstream
        upstream.start(self, self._order.written_for(backend))
        if self._paused:
            upstream.transport.pause_reading()

    def head(self, head: AnswerHead) -> Sink | None:
        """Judge the head of an answer and choose who carries the rest."""
        end = classify_status(head.status)
        if head.coding is not None:
            self.fail(AttemptEnd.MALFORMED, "compressed, though not asked for")
            return None
        if end is AttemptEnd.OK:
            return self._carry(head)
        if end in {AttemptEnd.MALFORMED, AttemptEnd.UNAUTHORIZED}:
            self.fail(end, f"status {head.status}")
            return None
        return Refusal(lambda body: self._turned_down(end, head, body))

    def _carry(self, answer: AnswerHead) -> Sink:
        self._exchange.client_status = answer.status
        head = self._answer_head(forwarded_response(answer.status, answer.fields, answer.connection))
        order = self._order
        relay: StreamRelay | PlainRelay
        is_stream = self._exchange.stream = answer.kind.startswith(b"text/event-stream")
        if is_stream:
            relay = StreamRelay(
                self,
                self._client,
                self._exchange,
                Scanner(order.endpoint.dialect, strip_usage=order.strip_usage, choices=order.choices),
                head=head + (b"\r\n" if self._http10 else b"transfer-encoding: chunked\r\n\r\n"),
                chunked=not self._http10,
                clock=self._clock,
            )
        else:
            relay = PlainRelay(
                self,
                self._client,
                self._exchange,
                head=head,
                length=answer.length,
                chunked=not self._http10,
                whole_json=answer.until_close and b"json" in answer.kind,
            )
        self._relay = relay
        return relay

    def _turned_down(self, end: AttemptEnd, head: AnswerHead, body: bytes) -> None:
        """Keep an engine's refusal for the client, and see whether another backend does better."""
        fields = capped_retry_after(head.fields, wall())
        patience = find(fields, b"retry-after")
        if patience is not None and self._backend is not None:
            self._backend.health.hold(int(patience), self._clock())
        self._refused = (head.status, self._answer_head(forwarded_response(head.status, fields, head.connection)), body)
        self.fail(end, f"status {head.status}")

    def _answer_head(self, forwarded: bytes) -> bytes:
        exchange, backend = self._exchange, self._backend
        return b"%bx-request-id: %b\r\n%bx-gateway-attempts: %d\r\nx-gateway-queue-ms: %d\r\n%b" % (
            forwarded,
            exchange.request_id.encode(),
            self._order.version.labels[backend.id] if backend is not None else b"",
            exchange.attempts,
            int(exchange.queued * 1000),
            b"" if self._client.keep_alive else b"connection: close\r\n",
        )

    def lost(self, loss: Loss, detail: str) -> None:
        """Learn that the connection went before an answer's head came."""
        backend = self._backend
        if loss is Loss.STALE and backend is not None:
            # An idle connection that the engine had closed says nothing about the engine.
            self._upstream = None
            backend.pool.connect(self, self._order.timeouts.connect)
            return
        self.fail(AttemptEnd.MALFORMED if loss is Loss.MALFORMED else AttemptEnd.CLOSED_EARLY, detail)

    def commit(self) -> None:
        """Let go of what only a retry would need."""
        self.begun = True
        self._order.body = b""
        self._tried.clear()
        lease, backend, exchange = self._lease, self._backend, self._exchange
        if lease is not None and backend is not None and exchange.stream and exchange.first_content:
            backend.health.began(lease, exchange.first_content - exchange.sent)

    def complete(self, end: AttemptEnd) -> None:
        """The answer is written to its end."""
        self._end_attempt(end)
        self._settle(request_outcome(end, begun=True), "")
        self._client.finish()

    def refuse(self, end: AttemptEnd, status: int, body: bytes) -> None:
        """A 200 whose first word is an error gets the status that it deserved."""
        head = self._answer_head(b"%bcontent-type: application/json\r\n" % status_line(status))
        self._refused = (status, head, body)
        self.fail(end, f"an error event with code {status}")

    def fail(self, end: AttemptEnd, detail: str) -> None:
        """End the attempt; try elsewhere, or tell the client."""
        if self._settled:
            return
        backend = self._backend
        self._end_attempt(end)
        again = may_retry(
            worth=RULINGS[end].retry,
            attempts=self._exchange.attempts,
            begun=self.begun,
            time_left=self._deadline - self._clock(),
        )
        now = self._clock()
        if again and self._others() and self._order.model.memory.retries.take(now):
            self._observer.retried(self._exchange, end)
            self._exchange.sent = now
            seconds = pause(self._exchange.attempts, self._rng)
            self._retry = asyncio.get_running_loop().call_later(seconds, self._again, end, detail, backend)
            return
        self._conclude(end, detail, backend)

    def _again(self, end: AttemptEnd, detail: str, backend: Backend | None) -> None:
        """Try elsewhere after a pause; where nothing is ready any more, the last failure stands."""
        self._end_pause()
        if not self._attempt():
            self._conclude(end, detail, backend)

    def _end_pause(self) -> None:
        """A pause before a retry is time spent for the backend's sake."""
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
            self._exchange.waited += self._clock() - self._exchange.sent

    def _conclude(self, end: AttemptEnd, detail: str, backend: Backend | None) -> None:
        """Tell the client of a failure that is not followed by another attempt."""
        outcome = request_outcome(end, begun=self.begun)
        if self.begun:
            self._break_off(StreamBroken(f"the backend failed while it was answering: {detail}"))
        elif self._refused is not None:
            self._pass_refusal(*self._refused)
            if RULINGS[end].verdict is Verdict.BAD:
                outcome = Outcome.BACKEND_ERROR
        else:
            self._answer(failure(end, f"{backend.id if backend else 'the backend'}: {detail}", self._exchange.attempts))
        self._settle(outcome, detail)
        if not self.begun:
            self._client.finish()

    def drop_upstream(self) -> None:
        """Close the engine's connection if it is still at work for us."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None and upstream.busy:
            upstream.cancel()

    def client_gone(self) -> None:
        """Stop the engine's work: nobody listens."""
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
        timeouts, exchange = self._order.timeouts, self._exchange
        if now > self._deadline:
            self.fail(AttemptEnd.DEADLINE_EXCEEDED, "the request's time is over")
        elif self._paused or self._backend is None:
            return
        elif exchange.last_content:
            if isinstance(self._relay, StreamRelay) and self._relay.closed_after_end(now, _PATIENCE_AFTER_END):
                return
            if now - max(exchange.last_content, self._resumed) > timeouts.stall:
                self.fail(AttemptEnd.STALLED, f"no token for {timeouts.stall:g} s")
        elif self._order.stream and now - exchange.sent > timeouts.first_token:
            self.fail(AttemptEnd.FIRST_TOKEN_TIMEOUT, f"no first token within {timeouts.first_token:g} s")

    def probe(self) -> bytes | None:
        """Return bytes that a client which has only half closed will skip."""
        if not self.begun:
            return None if self._http10 else _CONTINUE
        return self._relay.probe() if isinstance(self._relay, StreamRelay) else None

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""
        if self._settled:
            return
        self._end_attempt(AttemptEnd.ABANDONED)
        if self.begun:
            self._break_off(error)
        else:
            self._answer(error)
        self._settle(request_outcome(AttemptEnd.ABANDONED, begun=self.begun), error.message)
        if not self.begun:
            self._client.finish()

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
            verdict = RULINGS[end].verdict
            if verdict is Verdict.GOOD:
                self._learn(backend.health, lease, now)
            else:
                backend.health.ended(lease, verdict, now, self._rng)
        self._relay = None
        self._observer.attempt_ended(exchange, backend, end)

    def _learn(self, health: Health, lease: Lease, now: float) -> None:
        """Learn from a complete answer how fast the backend is, and how long the prompt was."""
        exchange, model = self._exchange, self._order.model
        prompt = exchange.prompt_tokens
        if prompt is None:
            prompt = exchange.prompt_estimate
        else:
            model.memory.prompts.observe(self._order.size, prompt)
        tpot = exchange.tpot
        kept = not lease.is_probe or model.objective.kept(exchange.attempt_ttft, tpot, prompt)
        health.ended(lease, Verdict.GOOD, now, self._rng, tpot=tpot, kept=kept)

    def _answer(self, error: GatewayError) -> None:
        self._exchange.client_status = error.status
        head = error_head(error, self._exchange.request_id)
        attempts = b"x-gateway-attempts: %d\r\n" % self._exchange.attempts
        self._client.reply_json(error.status, head + attempts, error.body())

    def _pass_refusal(self, status: int, head: bytes, body: bytes) -> None:
        self._exchange.client_status = status
        self._client.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))

    def _break_off(self, error: GatewayError) -> None:
        """End an answer that has begun: one error event between two events of a stream, and no proper end."""
        if self._exchange.stream:
            event = error_event(error, self._order.endpoint.dialect, self._exchange.request_id)
            self._client.write(event if self._http10 else chunk(event))
        self._client.break_off()

    def _settle(self, outcome: Outcome, reason: str) -> None:
        self._settled = True
        self._end_pause()
        exchange = self._exchange
        exchange.ended = self._clock()
        exchange.outcome = outcome
        exchange.reason = reason
        self._observer.settled(exchange)
