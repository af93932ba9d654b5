"""Finding a backend for one attempt of a request: whoever serves it, was not tried yet, and has a slot."""

from collections.abc import Sequence
from enum import Enum, auto
from random import Random

from gateway.backends.backend import Backend
from gateway.exchange import Exchange
from gateway.policy.routing.choose import ONLY
from gateway.proxy.order import Chooser, Order


class Tried(Enum):
    """What became of looking for a backend."""

    STARTED = auto()
    FULL = auto()
    NOBODY = auto()


def others(order: Order, tried: Sequence[Backend]) -> list[Backend]:
    """Return the backends that could be sent this request and have not been."""
    version = order.version
    return [b for b in version.backends if b not in tried and b.serves(version.served_model)]


def find(
    order: Order, exchange: Exchange, tried: Sequence[Backend], choose: Chooser, *, now: float, rng: Random
) -> Backend | Tried:
    """Return who gets the next attempt, with the reason noted in `exchange.routing`, or why nobody does."""
    candidates = others(order, tried)
    if len(candidates) == 1:
        if not candidates[0].health.has_slot(order.kv):
            return Tried.FULL
        exchange.routing = ONLY if tried else ""
        return candidates[0]
    if not candidates:
        return Tried.NOBODY
    choice = choose(candidates, exchange.prompt_estimate, now, rng, order.kv)
    if choice is None:
        return Tried.FULL
    exchange.routing = choice
    return choice.winner
