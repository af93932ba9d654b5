"""What a complete answer teaches: how fast its backend is, how long prompts and answers of its model are."""

from random import Random

from gateway.exchange import AttemptEnd, Exchange, Verdict
from gateway.policy.routing.health import Health, Lease
from gateway.policy.routing.pools import HYSTERESIS
from gateway.policy.slo.classify import RULINGS
from gateway.policy.slo.judge import judge_attempt
from gateway.proxy.order import Order


def began(order: Order, exchange: Exchange, health: Health, lease: Lease) -> None:
    """Learn from a first token, the moment it is there."""
    ttft = exchange.first_content - exchange.sent
    health.began(lease, ttft)
    target = order.objective.ttft
    if target is not None:
        health.judged(lease, late=ttft > target.threshold(exchange.prompt_estimate))


def ended(
    order: Order, exchange: Exchange, health: Health, lease: Lease, end: AttemptEnd, *, now: float, rng: Random
) -> None:
    """Learn how an attempt ended."""
    kept, verdict = False, RULINGS[end].verdict
    if verdict is Verdict.GOOD:
        # Only what is on trial is judged here: the SLIs are counted elsewhere.
        tried = lease.is_probe or order.trial is not None
        kept = not tried or all(judge_attempt(order.objective, exchange, end).values())
        _answered(order, exchange, health, lease, now=now, rng=rng, kept=kept)
    else:
        health.ended(lease, verdict, now, rng)
    trial, order.trial = order.trial, None
    if trial is not None:
        calm = health.peers.burn < HYSTERESIS * order.route.spill_at
        if trial.end(now, kept=None if verdict is Verdict.UNCOUNTED else kept, calm=calm):
            health.peers.forget()


def _answered(
    order: Order, exchange: Exchange, health: Health, lease: Lease, *, now: float, rng: Random, kept: bool
) -> None:
    """Learn from a complete answer."""
    prompts = order.model.memory.prompts
    if exchange.prompt_tokens is not None and not order.has_media:
        prompts.observe(order.size, exchange.prompt_tokens)
    if exchange.output_tokens:
        prompts.answered(exchange.output_tokens)
    tpot, target = exchange.tpot, order.objective.tpot
    health.judged(lease, late=tpot is not None and target is not None and tpot > target.under)
    health.ended(lease, Verdict.GOOD, now, rng, tpot=tpot, kept=kept)
