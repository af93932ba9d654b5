"""Getting the slot that was seen at a backend, where other processes may take it first."""

from collections.abc import Sequence
from random import Random

from gateway.backends.backend import Backend
from gateway.exchange import Exchange
from gateway.proxy.finding import FULL, Tried, find
from gateway.proxy.pool_selection import Routing
from gateway.proxy.routed_request import Chooser, RoutedRequest


def secured(
    found: Backend,
    routed: RoutedRequest,
    exchange: Exchange,
    tried: Sequence[Backend],
    choose: Chooser,
    *,
    now: float,
    rng: Random,
) -> Backend | Tried:
    """Return the backend that was found once it has a slot for the request, or the next one found that has."""
    refused: list[Backend] = []
    while not found.health.slots.secure(routed.claim, now):
        refused.append(found)
        routing = exchange.routing
        if isinstance(routing, Routing) and routing.trial is not None:
            routing.trial.end(now, met=None, calm=False)
            routing.trial = None
        another = find(routed, exchange, [*tried, *refused], choose, now=now, rng=rng)
        if isinstance(another, Tried):
            return FULL
        found = another
    return found
