"""Selecting the pool for one attempt, where a request may use several."""

from collections.abc import Sequence
from math import inf

from gateway.backends.backend import Backend
from gateway.claim import SMALLEST, Claim
from gateway.exchange import Dialect, Exchange
from gateway.policy.routing.choose import Choice
from gateway.policy.routing.pools import Need, Option, Outlook, PoolProbe, Selection, Waiting, by_cost, outlook, select
from gateway.policy.slo.objective import Objective
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveRoute
from gateway.proxy.routed_request import RoutedRequest


class Routing:
    """Why an attempt went where it did: the pool, then the backend in it; `trial` is the pool's, if it is one."""

    __slots__ = ("choice", "outlooks", "selection", "trial")

    def __init__(self, selection: Selection, outlooks: Sequence[Outlook]) -> None:
        self.selection = selection
        self.outlooks = outlooks
        self.choice: Choice[Backend] | None = None
        self.trial: PoolProbe | None = None

    def __str__(self) -> str:
        """Return the decision in words."""
        pools = "; ".join(map(str, self.outlooks))
        pool = f"pool {self.outlooks[self.selection.place].pool}, {self.selection.why} ({pools})"
        return f"{pool}; {self.choice}" if self.choice is not None else pool


def need_of(routed: RoutedRequest, exchange: Exchange) -> Need:
    """Return what a request asks of a pool."""
    if routed.spec.endpoint.dialect is Dialect.PLAIN:
        return Need(exchange.prompt_estimate, routed.claim, objective=routed.objective.name)
    return need_for(
        routed.model,
        routed.objective,
        exchange.prompt_estimate,
        claim=routed.claim,
        output=routed.spec.output,
        streams=routed.spec.stream,
    )


def need_for(
    model: LiveModel,
    objective: Objective,
    prompt: int,
    *,
    claim: Claim = SMALLEST,
    output: float = inf,
    streams: bool = True,
) -> Need:
    """Return what a chat asks of a pool: a prompt of so many tokens, an answer of at most so many."""
    ttft, tpot, e2e = objective.ttft, objective.tpot, objective.e2e
    return Need(
        prompt,
        claim,
        output=min(output, model.memory.prompts.output),
        ttft=ttft.threshold(prompt) if streams and ttft is not None else inf,
        tpot=tpot.under if streams and tpot is not None else inf,
        e2e=e2e.threshold(prompt) if e2e is not None else inf,
        objective=objective.name,
    )


def pool_for(
    route: LiveRoute, need: Need, candidates: Sequence[Backend], now: float
) -> tuple[Option[Backend], Routing | None]:
    """Return the pool that the candidates are narrowed to, and why, None where only one is left.

    `candidates` must not be empty.
    """
    options: Sequence[Option[Backend]] = [
        Option(pool.peers, pool.trials[need.objective], backends)
        for pool in route.pools
        if (backends := [backend for backend in candidates if backend.spec.pool == pool.peers.pool])
    ]
    if len(options) == 1:
        return options[0], None
    if route.cheapest:
        options = by_cost(options, need)
    line = Waiting(route.line.queue.size, route.line.forecast.seconds)
    outlooks = [outlook(option, need, route.spill_at, now, line) for option in options]
    selection = select(outlooks)
    return options[selection.place], Routing(selection, outlooks)
