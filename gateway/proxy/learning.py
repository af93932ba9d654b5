"""What a complete answer teaches: how fast its backend is, how long prompts and answers of its model are."""

from random import Random

from gateway.exchange import Exchange, Verdict
from gateway.policy.routing.health import Health, Lease
from gateway.policy.routing.pools import HYSTERESIS
from gateway.proxy.order import Order


def began(order: Order, exchange: Exchange, health: Health, lease: Lease) -> None:
    """Learn from a first token, the moment it is there."""
    ttft = exchange.first_content - exchange.sent
    health.began(lease, ttft)
    target = order.model.ttft
    if target is not None:
        health.judged(lease, late=ttft > target.threshold(exchange.prompt_estimate))


def ended(
    order: Order, exchange: Exchange, health: Health, lease: Lease, verdict: Verdict, *, now: float, rng: Random
) -> None:
    """Learn how an attempt ended."""
    kept = False
    if verdict is Verdict.GOOD:
        kept = _answered(order, exchange, health, lease, now=now, rng=rng)
    else:
        health.ended(lease, verdict, now, rng)
    trial, order.trial = order.trial, None
    if trial is not None:
        calm = health.peers.burn < HYSTERESIS * order.route.spill_at
        if trial.end(now, kept=None if verdict is Verdict.UNCOUNTED else kept, calm=calm):
            health.peers.forget()


def _answered(order: Order, exchange: Exchange, health: Health, lease: Lease, *, now: float, rng: Random) -> bool:
    """Learn from a complete answer; return whether it kept its promise."""
    model = order.model
    prompts = model.memory.prompts
    prompt = exchange.prompt_tokens
    if prompt is None:
        prompt = exchange.prompt_estimate
    elif not order.has_media:
        prompts.observe(order.size, prompt)
    if exchange.output_tokens:
        prompts.answered(exchange.output_tokens)
    tpot = exchange.tpot
    health.judged(lease, late=tpot is not None and model.tpot is not None and tpot > model.tpot.under)
    kept = not (lease.is_probe or order.trial) or model.objective.kept(exchange.attempt_ttft, tpot, prompt)
    health.ended(lease, Verdict.GOOD, now, rng, tpot=tpot, kept=kept)
    return kept and (model.e2e is None or now - exchange.sent <= model.e2e.threshold(prompt))
