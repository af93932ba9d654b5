"""Finding a backend for one attempt of a request: one that serves it, was not tried yet, and has a slot."""

from collections.abc import Sequence
from enum import Enum, auto
from random import Random
from typing import Final

from gateway.backends.backend import Backend
from gateway.exchange import Exchange
from gateway.policy.routing.readiness import State
from gateway.proxy.pool_selection import need_of, pool_for
from gateway.proxy.routed_request import Chooser, RoutedRequest


class Tried(Enum):
    """What became of looking for a backend."""

    STARTED = auto()
    FULL = auto()
    NONE = auto()


LEFT: Final = "the only backend left: the others were tried or are not ready"
STILL: Final = "no ready backend has a slot: this one's probes time out, but it is at work"
_NAMES: Final = 3
"""Models that are named of one engine."""
# As in gateway.exchange: what every request asks for is read once.
STARTED: Final = Tried.STARTED
FULL: Final = Tried.FULL


def others(routed: RoutedRequest, tried: Sequence[Backend]) -> list[Backend]:
    """Return the backends that could be sent this request and have not been.

    A drained one still tells of what it keeps; one that sleeps is asked nothing.
    """
    route, served = routed.route, routed.version.served_model
    if routed.spec.is_lookup:
        return [b for b in route.backends if b not in tried and b.readiness.eligible and not b.availability.asleep]
    # Those that are ready have not changed since the last request, nearly always.
    ready = route.ready(served)
    if tried:
        ready = [b for b in ready if b not in tried]
    return ready if ready else first_asked(route.backends, served, tried)


def why_none(routed: RoutedRequest) -> str:
    """Say why no backend is ready, after a colon; "" where no more is known, or the client is told of no backend.

    The usual mistake is a model that its engine serves under another name.
    """
    if not routed.spec.shows_labels:
        return ""
    served, route = routed.version.served_model, routed.route
    words = [
        f"{each.id} serves {', '.join(sorted(each.models)[:_NAMES]) or 'nothing'}, not {served}"
        for each in route.backends
        if each.readiness.state is State.READY and each.models is not None and served not in each.models
    ]
    return f": {words[0]}" if words else route.discovery


def first_asked(backends: Sequence[Backend], served: str, tried: Sequence[Backend] = ()) -> list[Backend]:
    """Return the backends that are asked first for a model, beside those that were tried: the ready ones.

    Where none is ready, those that are at work although their probes have no answer; where there are none and nothing
    was tried yet, all of which probes only have no answer: they may be slow, or this machine is, and refusing everyone
    would be worse than asking them.
    """
    ready = [b for b in backends if b not in tried and b.serves(served)]
    if ready:
        return ready
    working = [b for b in backends if b not in tried and b.still_serves(served)]
    return working if working or tried else [b for b in backends if b.may_serve(served)]


def asked_next(
    backends: Sequence[Backend], served: str, full: Sequence[Backend], tried: Sequence[Backend] = ()
) -> list[Backend]:
    """Return those that are asked where the first are `full`: probes only have no answer of them, and they are at work.

    Where no other is ready and nothing was tried yet, they need not be.
    """
    none_ready = not tried and not any(backend.serves(served) for backend in full)
    rest = (b for b in backends if b not in tried and b not in full)
    return [b for b in rest if b.still_serves(served) or (none_ready and b.may_serve(served))]


def find(
    routed: RoutedRequest, exchange: Exchange, tried: Sequence[Backend], choose: Chooser, *, now: float, rng: Random
) -> Backend | Tried:
    """Return the backend of the next attempt, with the reason noted in `exchange.routing`, or why there is none.

    Before anyone has to wait for a slot, those are asked that are silent to probes.
    """
    candidates = others(routed, tried)
    found = _among(routed, exchange, candidates, tried, choose, now=now, rng=rng)
    if found is not FULL:
        return found
    silent = asked_next(routed.route.backends, routed.version.served_model, candidates, tried)
    if not silent:
        return found
    found = _among(routed, exchange, silent, tried, choose, now=now, rng=rng)
    if found is not FULL and len(silent) == 1:
        exchange.routing = STILL
    return found


def _among(
    routed: RoutedRequest,
    exchange: Exchange,
    candidates: list[Backend],
    tried: Sequence[Backend],
    choose: Chooser,
    *,
    now: float,
    rng: Random,
) -> Backend | Tried:
    """Return the one of the candidates that gets the request, or why none does."""
    if len(candidates) == 1:
        if not (routed.spec.is_lookup or candidates[0].health.takes(routed.claim, now)):
            return FULL
        exchange.routing = LEFT if tried else ""
        return candidates[0]
    if not candidates:
        return Tried.NONE
    if len(routed.route.pools) > 1:
        return _find_in_pool(routed, exchange, candidates, choose, now=now, rng=rng)
    choice = choose(candidates, exchange.prompt_estimate, now, rng, routed.claim)
    if choice is None:
        return FULL
    exchange.routing = choice
    return choice.winner


def _find_in_pool(
    routed: RoutedRequest,
    exchange: Exchange,
    candidates: list[Backend],
    choose: Chooser,
    *,
    now: float,
    rng: Random,
) -> Backend | Tried:
    """Select a pool first, then a backend of it."""
    option, routing = pool_for(routed.route, need_of(routed, exchange), candidates, now)
    choice = choose(option.backends, exchange.prompt_estimate, now, rng, routed.claim)
    if choice is None:
        return FULL
    if routing is None:
        exchange.routing = choice
        return choice.winner
    routing.choice = choice
    if routing.selection.trial:
        option.trials.begin()
        routing.trial = option.trials
    exchange.routing = routing
    return choice.winner
