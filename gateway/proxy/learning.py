"""What a complete answer teaches: how fast its backend is, how long prompts and answers of its model are."""

from random import Random
from typing import Final, Protocol

from gateway.backends.backend import Backend
from gateway.exchange import BAD, GOOD, UNCOUNTED, AttemptEnd, Exchange
from gateway.observers import Observers
from gateway.policy.admission.limit import is_late
from gateway.policy.routing.health import Health
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.pools import HYSTERESIS
from gateway.policy.routing.refusals import Refusals
from gateway.policy.slo.classify import FAULTS, VERDICTS
from gateway.policy.slo.judge import judge_attempt
from gateway.proxy.live_version import LONGEST_CONTEXT, SMALL
from gateway.proxy.pool_selection import Routing
from gateway.proxy.routed_request import RoutedRequest

_UNAVAILABLE: Final = 503
_NOT_WORKED_ON: Final = frozenset(
    (AttemptEnd.SATURATED, AttemptEnd.UNAUTHORIZED, AttemptEnd.CONNECT_FAILED, AttemptEnd.NOT_READY)
)
"""Ends of attempts that say nothing of how long an engine works on a request."""
_UNNOTICED: Final = 0.5
"""Seconds that a failed attempt may take where no TTFT is promised, and otherwise the part of its threshold."""


class Classify(Protocol):
    """Says what a status means; `busy` when the backend is healthy and at work."""

    def __call__(self, status: int, /, *, busy: bool = False) -> AttemptEnd:
        """Return it."""


def committed(routed: RoutedRequest, exchange: Exchange, backend: Backend, lease: Lease, observers: Observers) -> None:
    """Learn from a first token that goes to the client, and tell of it."""
    began(routed, exchange, backend, lease)
    if routed.model.traffic.only is None:
        observers.first_token(exchange)


def began(routed: RoutedRequest, exchange: Exchange, backend: Backend, lease: Lease) -> None:
    """Learn from a first token, the moment it is there."""
    health = backend.health
    activity = health.activity
    if backend.lateness.overlaps(exchange.sent, exchange.first_content):
        activity.worked(exchange.first_content)
        lease.prefilled()
        return
    ttft = exchange.first_content - exchange.sent
    silent = exchange.first_content - activity.worked_at
    activity.began(exchange.first_content, ttft)
    health.began(lease, ttft)
    target = routed.objective.ttft
    if target is not None:
        prompt = exchange.prompt_estimate
        threshold, late = target.threshold(prompt), False
        if ttft > threshold:
            idle = max(activity.quickest.seconds, health.latency.ttft.predict(prompt, 0.0))
            late = is_late(ttft, threshold, idle)
            if late and silent > ttft / 2:
                activity.woke(exchange.first_content)
            if late and exchange.sent < activity.woke_at:
                # The engine was stalled meanwhile: that says nothing of how many requests it bears.
                return
        health.slots.evidence.judged(lease.era, late=late)


def refused(
    refusals: Refusals, backend: Backend, classify: Classify, status: int, patience: bytes | None, *, now: float
) -> AttemptEnd:
    """Judge an engine's error; one that refuses work, whether it is busy or sick, is left alone for a while.

    One request that is refused time and again, which its `refusals` tell, says nothing of how it takes others.
    """
    end = classify(status, busy=backend.is_busy(now))
    seconds = int(patience) if patience is not None else None
    if end is AttemptEnd.SATURATED:
        refusals.refused(backend.id, seconds, alone=not backend.has_other_work(now))
        if not refusals.are_many:
            backend.health.refused(now, seconds, busy=True, alone=refusals.is_alone, request=refusals)
    elif status == _UNAVAILABLE:
        backend.health.refused(now, seconds, busy=False)
    return end


def ended(
    routed: RoutedRequest,
    exchange: Exchange,
    backend: Backend,
    lease: Lease,
    end: AttemptEnd,
    *,
    now: float,
    rng: Random,
) -> None:
    """Learn how an attempt ended."""
    doubt(routed, exchange, backend)
    met, verdict = False, VERDICTS[end]
    health, routing = backend.health, exchange.routing
    trial = routing.trial if isinstance(routing, Routing) else None
    exchange.excused = backend.lateness.overlaps(exchange.sent, now)
    if verdict is GOOD:
        # Only what is on trial is judged here: the SLIs are counted elsewhere.
        tried = lease.is_probe or trial is not None
        met = not tried or all(judge_attempt(routed.objective, exchange, end).values())
        _answered(routed, exchange, health, lease, now=now, rng=rng, met=met)
    else:
        health.ended(lease, verdict, now, rng, fault=FAULTS[end])
    if trial is not None:
        calm = health.peers.burn(routed.objective.name) < HYSTERESIS * routed.route.spill_at
        if trial.end(now, met=None if verdict is UNCOUNTED else met, calm=calm):
            health.peers.forget()


def hidden(routed: RoutedRequest, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
    """Learn that another backend is asked after an attempt that failed: no client notices that, unless it took long."""
    if VERDICTS[end] is not BAD:
        return
    target = routed.objective.ttft
    whole = 1.0 if target is None else target.threshold(exchange.prompt_estimate)
    if exchange.attempt_ended - exchange.sent <= _UNNOTICED * whole:
        backend.health.symptoms.hidden()


def doubt(routed: RoutedRequest, exchange: Exchange, backend: Backend) -> None:
    """Forget counts of tokens that cannot be: beyond the model's context, and what came and went in bytes and events.

    Several prompts in one request may come to more than the context; what they, or their answers, are made of is seen.
    """
    prompt, output = exchange.prompt_tokens or 0, exchange.output_tokens or 0
    if prompt <= SMALL and output <= SMALL:
        return
    context = backend.context(routed.version.served_model) or LONGEST_CONTEXT
    if prompt > context + routed.spec.size:
        exchange.prompt_tokens = exchange.cached_tokens = None
    if output > routed.spec.choices * context + exchange.answer_size + exchange.content_events:
        exchange.output_tokens = None


def gave_back(routed: RoutedRequest, exchange: Exchange, end: AttemptEnd) -> None:
    """Give the slot of an attempt that has ended so to the next request, and learn for how long it was held."""
    now, seconds = exchange.attempt_ended, exchange.attempt_ended - exchange.sent
    if end in _NOT_WORKED_ON or exchange.excused:
        routed.route.line.give_back(now)
    else:
        routed.spec.kind.ended(seconds)
        routed.route.line.give_back(now, seconds)


def _answered(
    routed: RoutedRequest, exchange: Exchange, health: Health, lease: Lease, *, now: float, rng: Random, met: bool
) -> None:
    """Learn from a complete answer; how long it took is not the backend's doing where this process was late."""
    prompts = routed.model.memory.prompts
    if exchange.prompt_tokens is not None and not routed.spec.has_media:
        prompts.observe(routed.spec.size, exchange.prompt_tokens)
    if exchange.output_tokens:
        each = max(1, exchange.output_tokens // routed.spec.choices)
        prompts.answered(each)
        routed.spec.kind.answered(each)
    if exchange.excused:
        health.ended(lease, GOOD, now, rng, seconds=health.activity.seconds, met=met)
        return
    if not exchange.stream:
        routed.spec.kind.completed(now - exchange.sent)
    tpot = exchange.tpot
    health.ended(lease, GOOD, now, rng, seconds=now - exchange.sent, tpot=tpot, met=met)
