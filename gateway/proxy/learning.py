"""What a complete answer teaches: how fast its backend is, how long prompts and answers of its model are."""

from random import Random

from gateway.exchange import Exchange, Verdict
from gateway.policy.routing.health import Health, Lease
from gateway.proxy.order import Order


def began(order: Order, exchange: Exchange, health: Health, lease: Lease) -> None:
    """Learn from a first token, the moment it is there."""
    ttft = exchange.first_content - exchange.sent
    health.began(lease, ttft)
    target = order.model.ttft
    if target is not None:
        health.judged(lease, late=ttft > target.threshold(exchange.prompt_estimate))


def answered(order: Order, exchange: Exchange, health: Health, lease: Lease, *, now: float, rng: Random) -> None:
    """Learn from a complete answer."""
    model = order.model
    prompts = model.memory.prompts
    prompt = exchange.prompt_tokens
    if prompt is None:
        prompt = exchange.prompt_estimate
    else:
        prompts.observe(order.size, prompt)
    if exchange.output_tokens:
        prompts.answered(exchange.output_tokens)
    tpot = exchange.tpot
    health.judged(lease, late=tpot is not None and model.tpot is not None and tpot > model.tpot.under)
    kept = not lease.is_probe or model.objective.kept(exchange.attempt_ttft, tpot, prompt)
    health.ended(lease, Verdict.GOOD, now, rng, tpot=tpot, kept=kept)
