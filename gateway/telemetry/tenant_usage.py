"""What tenants used, and what it cost: counts by tenant and model, of bounded number."""

from collections.abc import Collection
from typing import Final

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.observers import Observer

MOST_TENANTS: Final = 1_000
"""Tenants that are counted by name."""
MOST_PAIRS: Final = 10_000
"""Pairs of a tenant and a model that are counted apart, and likewise costs by tenant, model and pool."""
OTHER: Final = "other"
RESULTS: Final[dict[Outcome, str]] = {
    Outcome.OK: "ok",
    Outcome.QUOTA: "limited",
    Outcome.CLIENT_ERROR: "client",
    Outcome.CLIENT_GONE: "client",
    Outcome.CLIENT_TIMEOUT: "client",
    Outcome.TOO_LARGE: "client",
    Outcome.SHED: "failed",
    Outcome.NO_BACKEND: "failed",
    Outcome.BACKEND_ERROR: "failed",
    Outcome.TIMEOUT: "failed",
    Outcome.TRUNCATED: "failed",
    Outcome.INTERNAL: "failed",
}
"""What an outcome is to a tenant: served, refused by a limit of its own, its client's doing, or a failure."""


class Usage:
    """What one tenant used of one model: requests by result, and tokens.

    `cached` are those of `prompt` that engines had in their caches, as far as they tell.
    """

    __slots__ = ("cached", "output", "prompt", "results")

    def __init__(self) -> None:
        self.results: dict[str, int] = {}
        self.prompt = self.cached = self.output = 0

    def __repr__(self) -> str:
        return f"<Usage {self.results}, {self.prompt} tokens in, {self.output} out>"

    def add(self, other: "Usage") -> None:
        """Add what another one counted."""
        for result, count in other.results.items():
            self.results[result] = self.results.get(result, 0) + count
        self.prompt += other.prompt
        self.cached += other.cached
        self.output += other.output


class TenantUsage(Observer):
    """Counts by (tenant, model) what was used, and by (tenant, model, pool) what attempts cost.

    Tenants are those of the routes, in their order, up to MOST_TENANTS. Everyone else is OTHER: requests without a
    tenant too. A tenant keeps its name when the routes name it no more, until others need the room; what it had counts
    as OTHER from then on, so that no sum over all tenants falls.
    """

    def __init__(self) -> None:
        self.usage: dict[tuple[str, str], Usage] = {}
        self.costs: dict[tuple[str, str, str], float] = {}
        self._names: dict[str, None] = {}

    def follow(self, tenants: Collection[str]) -> None:
        """Count these by name from now on, as far as there is room; those that are gone make room for new ones."""
        new = [name for name in tenants if name not in self._names]
        if len(self._names) + len(new) > MOST_TENANTS:
            gone = {name for name in self._names if name not in tenants}
            if gone:
                self._forget(gone)
        for name in new[: MOST_TENANTS - len(self._names)]:
            self._names[name] = None

    def is_named(self, tenant: str) -> bool:
        """Whether a tenant is counted by name."""
        return tenant in self._names

    def on_attempt_ended(self, exchange: Exchange, _backend: Backend, _end: AttemptEnd) -> None:
        """Charge the tenant for an attempt."""
        cost = exchange.attempt_cost
        if cost:
            tenant = exchange.tenant if exchange.tenant in self._names else OTHER
            self._charge((tenant, exchange.model, exchange.pool), cost)

    def on_settled(self, exchange: Exchange) -> None:
        """Count a request."""
        tenant = exchange.tenant if exchange.tenant in self._names else OTHER
        usage = self.usage.get((tenant, exchange.model))
        if usage is None:
            usage = self._usage(tenant, exchange.model)
        result = RESULTS[exchange.outcome]
        usage.results[result] = usage.results.get(result, 0) + 1
        if exchange.prompt_tokens is not None:
            usage.prompt += exchange.prompt_tokens
            if exchange.cached_tokens is not None:
                usage.cached += min(exchange.cached_tokens, exchange.prompt_tokens)
        output = exchange.output_tokens
        usage.output += exchange.content_events if output is None else output

    def _usage(self, tenant: str, model: str) -> Usage:
        """Return where a tenant's use of a model is counted; with too many models, among those of OTHER."""
        key = (tenant, model if len(self.usage) < MOST_PAIRS else OTHER)
        usage = self.usage.get(key)
        if usage is None:
            usage = self.usage[key] = Usage()
        return usage

    def _charge(self, key: tuple[str, str, str], cost: float) -> None:
        if key not in self.costs and len(self.costs) >= MOST_PAIRS:
            key = (key[0], OTHER, key[2])
        self.costs[key] = self.costs.get(key, 0.0) + cost

    def _forget(self, gone: set[str]) -> None:
        """Let what these had count as OTHER."""
        for name in gone:
            del self._names[name]
        for tenant, model in list(self.usage):
            if tenant in gone:
                self._usage(OTHER, model).add(self.usage.pop((tenant, model)))
        for tenant, model, pool in list(self.costs):
            if tenant in gone:
                self._charge((OTHER, model, pool), self.costs.pop((tenant, model, pool)))
