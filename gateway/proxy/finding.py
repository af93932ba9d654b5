"""Finding a backend for one attempt of a request: one that serves it, was not tried yet, and has a slot."""

from collections.abc import Sequence
from enum import Enum, auto
from random import Random

from gateway.backends.backend import Backend
from gateway.exchange import Exchange
from gateway.policy.routing.choose import ONLY
from gateway.proxy.order import Chooser, Order
from gateway.proxy.pooling import need_of, pool_for


class Tried(Enum):
    """What became of looking for a backend."""

    STARTED = auto()
    FULL = auto()
    NONE = auto()


# As in gateway.exchange: what every request asks for is read once.
STARTED, FULL = Tried.STARTED, Tried.FULL


def others(order: Order, tried: Sequence[Backend]) -> list[Backend]:
    """Return the backends that could be sent this request and have not been.

    Where none is ready, those of which probes only have no answer: they may be slow, or this machine is, and refusing
    everyone would be worse than asking them. A drained one still tells of what it keeps.
    """
    if order.is_lookup:
        return [b for b in order.route.backends if b not in tried and b.readiness.eligible]
    served = order.version.served_model
    ready = [b for b in order.route.backends if b not in tried and b.serves(served)]
    return ready if ready or tried else [b for b in order.route.backends if b.may_serve(served)]


def find(
    order: Order, exchange: Exchange, tried: Sequence[Backend], choose: Chooser, *, now: float, rng: Random
) -> Backend | Tried:
    """Return the backend of the next attempt, with the reason noted in `exchange.routing`, or why there is none."""
    candidates = others(order, tried)
    if len(candidates) == 1:
        if not (order.is_lookup or candidates[0].health.takes(order.claim, now)):
            return FULL
        exchange.routing = ONLY if tried else ""
        return candidates[0]
    if not candidates:
        return Tried.NONE
    if len(order.route.pools) > 1:
        return _find_in_pool(order, exchange, candidates, choose, now=now, rng=rng)
    choice = choose(candidates, exchange.prompt_estimate, now, rng, order.claim)
    if choice is None:
        return FULL
    exchange.routing = choice
    return choice.winner


def _find_in_pool(
    order: Order, exchange: Exchange, candidates: Sequence[Backend], choose: Chooser, *, now: float, rng: Random
) -> Backend | Tried:
    """Select a pool first, then a backend of it."""
    option, routing = pool_for(order.route, need_of(order, exchange), candidates, now)
    choice = choose(option.backends, exchange.prompt_estimate, now, rng, order.claim)
    if choice is None:
        return FULL
    if routing is None:
        exchange.routing = choice
        return choice.winner
    routing.choice = choice
    if routing.selection.trial:
        option.trials.begin()
        order.trial = option.trials
    exchange.routing = routing
    return choice.winner
