"""What leads a request without an attempt in progress to its next one: a wait for a slot, a pause, another backend."""

import asyncio
from typing import Protocol

from gateway.backends.backend import Backend
from gateway.errors import GatewayError, NoReadyBackend
from gateway.exchange import BAD, AttemptEnd, Exchange, Outcome
from gateway.policy.admission.decide import TurnedAway
from gateway.policy.routing.retry import pause
from gateway.policy.routing.waking import LONGEST_BACKOFF, Waking
from gateway.policy.slo.classify import RULINGS, request_outcome
from gateway.proxy import learning, replies
from gateway.proxy.answers import failure, turned_away
from gateway.proxy.finding import FULL, STARTED, Tried, others, why_none
from gateway.proxy.holding import Hold, waking_for
from gateway.proxy.lifecycle import Event
from gateway.proxy.queue_ticket import QueueTicket
from gateway.proxy.renewal import renewed
from gateway.proxy.retrying import Failures, Next, Refused, after
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.wire.guarded import later
from gateway.wire.service import Writer


class Request(Protocol):
    """The request that is led to its next attempt; a reload replaces what is `routed`."""

    routed: RoutedRequest

    @property
    def committed(self) -> bool:
        """Whether part of the answer has gone to the client."""

    def step(self, event: Event) -> None:
        """Go on to the next state."""

    def begin(self, queued: float = 0.0) -> Tried:
        """Begin an attempt at a backend not tried yet, if one has a slot; `queued` are the seconds waited for it."""

    def end_attempt(self, result: AttemptEnd) -> Backend | None:
        """End the attempt in progress; return where it was made, None if there is none."""

    def end(self, event: Event, outcome: Outcome, reason: str) -> None:
        """Settle, after the client has been told."""

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""


class NextAttempt:
    """Leads a request to its next attempt, or to its end.

    It is made when something keeps the request from going straight on: no backend has a slot, or an attempt failed.
    `failures` are those of the request so far.
    """

    __slots__ = (
        "_client",
        "_context",
        "_deadline",
        "_exchange",
        "_held_until",
        "_hold",
        "_is_cold",
        "_pause",
        "_request",
        "_ticket",
        "failures",
    )

    def __init__(
        self, request: Request, exchange: Exchange, client: Writer, context: ProxyContext, deadline: float
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._client = client
        self._context = context
        self._deadline = deadline
        self._ticket: QueueTicket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._hold: Hold | None = None
        self._held_until: float | None = None
        self._is_cold = False
        self.failures = Failures()

    def __repr__(self) -> str:
        waits = "after a pause" if self._pause is not None else "in the queue" if self._ticket is not None else "now"
        return f"<NextAttempt {waits}, {len(self.failures.tried)} backends tried>"

    def wait(self, tried: Tried) -> None:
        """Where no attempt began, wait for a slot, unless that is hopeless, or tell that there can be none."""
        routed, exchange, failures, context = self._request.routed, self._exchange, self.failures, self._context
        if not others(routed, failures.tried):
            if self._held():
                return
            self._refuse_for_none(routed)
        elif tried is FULL:
            self._request.step(Event.NO_SLOT)
            now, last = context.clock(), failures.last
            waking = routed.route.waking
            self._is_cold = self._is_cold or (waking is not None and waking.held > 0)
            ticket = self._ticket = self._ticket or QueueTicket(self, routed, context.clock)
            if last is None or last[0] is not AttemptEnd.SATURATED:
                ticket.enter(routed, exchange, now=now, deadline=self._deadline, chance=context.rng.random())
            elif not ticket.rejoin(routed, exchange, failures.refusals, now=now, deadline=self._deadline):
                self._conclude(*last)

    def failed(self, end: AttemptEnd, detail: str, refusal: Refused | None) -> None:
        """End an attempt that failed; go elsewhere, into the queue, or to the end."""
        request, exchange, failures, context = self._request, self._exchange, self.failures, self._context
        committed = request.committed
        last = failures.note((end, detail, request.end_attempt(end)), refusal, committed=committed)
        deadline, now = self._deadline, context.clock()
        match after(end, request.routed, exchange, failures, committed=committed, deadline=deadline, now=now):
            case Next.ELSEWHERE:
                request.step(Event.RETRY)
                context.observers.retried(exchange, end)
                learning.hidden(request.routed, exchange, failures.tried[-1], end)
                if end is AttemptEnd.NOT_READY:
                    self._again()  # at once: it left for one free slot, which no other request shall leave for
                else:
                    self._pause = later(pause(len(exchange.attempts), context.rng), request, self._again)
            case Next.QUEUE if self.renewed() is not None:
                self.wait(FULL)
            case Next.END:
                if end is not AttemptEnd.CONNECT_FAILED or committed or not self._held():
                    self._conclude(*last)

    def check(self, now: float) -> bool:
        """Turn the request away when its patience in the queue is over; return whether it was."""
        hold, ticket = self._hold, self._ticket
        if hold is not None and hold.waking is not None and ticket is not None:
            routed = self._request.routed
            if ticket.is_over(now) and not others(routed, self.failures.tried):
                self._held_in_vain(now)
                return True
            hold.keep_alive(self._client, self._exchange, routed, now)
        return self._ticket is not None and self._ticket.check(now, self._context.rng.random())

    def end(self, now: float) -> None:
        """Wait for nothing any more, and note for how long that was done in vain."""
        self._end_pause(now)
        is_held = self._is_cold
        self._let_go()
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            waited = ticket.leave(now)
            self._exchange.queued += waited
            if is_held:
                self._exchange.held += waited

    # What its place in the queue tells

    def renewed(self) -> RoutedRequest | None:
        """Follow a reload of the routes; return the request as it goes on, None when that was the end."""
        routed = renewed(self._request.routed, self._exchange, self._context.rng.random())
        if isinstance(routed, GatewayError):
            self._refuse(routed, Outcome.CLIENT_ERROR, routed.code)
            return None
        self._request.routed = routed
        hold = self._hold
        if hold is None or hold.waking is None or hold.follow(routed) or others(routed, self.failures.tried):
            return routed
        self._refuse_for_none(routed)
        return None

    def try_again(self, waited: float) -> bool:
        """Take a slot that came free after so many seconds."""
        is_cold, exchange = self._is_cold, self._exchange
        held = exchange.held
        if is_cold:
            exchange.held = held + waited  # before it begins: an attempt may end at once
        if self._request.begin(waited) is STARTED:
            self._let_go()
            return True
        exchange.held = held
        return False

    def turned_away(self, why: TurnedAway) -> None:
        """Answer that there is no slot, unless one that it had ended in a failure; that an engine was busy is none."""
        failures = self.failures
        if failures.last is not None and failures.last[0] is AttemptEnd.SATURATED:
            failures.last = None
        self._refuse(turned_away(why, self._request.routed.spec.service_class), Outcome.SHED, why.why)

    def give_up(self, error: GatewayError) -> None:
        """End at once, for a reason of the gateway's own."""
        self._request.give_up(error)

    def _held(self) -> bool:
        """Hold the request until an engine is woken, if its pool does that; return whether it is cared for."""
        request, exchange, failures, context = self._request, self._exchange, self.failures, self._context
        routed, now = request.routed, context.clock()
        waking = waking_for(routed, failures.last)
        if waking is None:
            return False
        hold = self._hold
        if (hold is None or hold.waking is None) and (waking.rests(now) or not self._has_room(routed, waking)):
            self._refuse_held(waking, now)
            return True
        until = self._held_until = self._held_until or now + waking.settings.hold
        backoff = 0.0
        if failures.last is not None:
            waking.no_connection(now)
            backoff = pause(len(exchange.attempts), context.rng, LONGEST_BACKOFF)
            if now + backoff >= until:
                return False
            request.step(Event.RETRY)
            failures.forget()
        request.step(Event.NO_SLOT)
        self._is_cold = True
        if hold is None:
            hold = self._hold = Hold(now)
        hold.follow(routed)
        ticket = self._ticket = self._ticket or QueueTicket(self, routed, context.clock)
        ticket.hold(routed, now=now, until=until, pause=backoff)
        return True

    def _has_room(self, routed: RoutedRequest, waking: Waking) -> bool:
        """Whether one more may be held, or one of a lower class makes room."""
        return not waking.is_full or routed.route.line.make_room(routed.spec.service_class, self._context.rng.random())

    def _refuse_for_none(self, routed: RoutedRequest) -> None:
        error = NoReadyBackend(f"no backend of the model `{self._exchange.model}` is ready{why_none(routed)}")
        self._refuse(error, Outcome.NO_BACKEND, "no ready backend")

    def _refuse_held(self, waking: Waking, now: float) -> None:
        model, seconds = self._exchange.model, waking.retry_after(now)
        if waking.rests(now):
            words = f"none came within {waking.settings.hold:g} s when one was last woken"
        else:
            words = f"{waking.held} requests wait for one already"
            waking.refused += 1
        message = f"no backend of the model `{model}` is ready, and {words}; retry in {seconds} s"
        self._refuse(NoReadyBackend(message, retry_after=seconds), Outcome.NO_BACKEND, "no ready backend")

    def _held_in_vain(self, now: float) -> None:
        """Tell that no engine came in time."""
        routed, waking = self._request.routed, self._request.routed.route.waking
        seconds = 1 if waking is None else waking.retry_after(now)
        waited = now - self._exchange.received
        message = f"no backend of the model `{self._exchange.model}` became ready within {waited:.0f} s"
        error = NoReadyBackend(f"{message}{why_none(routed)}; retry in {seconds} s", retry_after=seconds)
        self._refuse(error, Outcome.NO_BACKEND, "no backend was ready in time")

    def _let_go(self) -> None:
        """Hold the request no more: it has an engine, or its end."""
        self._is_cold = False
        if self._hold is not None:
            self._hold.let_go()

    def _again(self) -> None:
        """Try elsewhere after a pause; where nothing is ready any more, the last failure stands."""
        self._end_pause(self._context.clock())
        if self.renewed() is not None and (tried := self._request.begin()) is not STARTED:
            self.wait(tried)

    def _end_pause(self, now: float) -> None:
        """End the pause before a retry, which began with the end of an attempt: time spent for the backend's sake."""
        timer, self._pause = self._pause, None
        if timer is not None:
            timer.cancel()
            self._exchange.backend_seconds += now - self._exchange.attempt_ended

    def _refuse(self, error: GatewayError, outcome: Outcome, reason: str) -> None:
        """Tell the client that there will be no attempt; of one that failed before, it is told of that."""
        if self.failures.last is None:
            replies.tell(self._client, self._exchange, error, self._request.routed)
            self._request.end(Event.REFUSED, outcome, reason)
        else:
            self._conclude(*self.failures.last)

    def _conclude(self, end: AttemptEnd, detail: str, backend: Backend | None) -> None:
        """Tell the client of a failure that is not followed by another attempt."""
        request, exchange, refusal = self._request, self._exchange, self.failures.refusal
        committed = request.committed
        outcome = request_outcome(end, committed=committed)
        if refusal is not None and not exchange.opened and end is not AttemptEnd.TOO_LARGE:
            replies.pass_refusal(self._client, exchange, *refusal)
            if RULINGS[end].verdict is BAD:
                outcome = Outcome.BACKEND_ERROR
        else:
            where = "" if not request.routed.spec.shows_labels else backend.id if backend else "the backend"
            error = failure(end, where, detail, len(exchange.attempts), committed=committed)
            replies.tell(self._client, exchange, error, request.routed)
        request.end(Event.FAILED, outcome, detail)
