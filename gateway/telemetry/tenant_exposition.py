"""What tenants used and what engines cost, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.policy.admission.quota import Quota
from gateway.telemetry.families import Piece, counter, gauge, with_samples
from gateway.telemetry.tenant_usage import TenantUsage
from gateway.wire.slices import Work

_TENANT = ("tenant", "model")
_VERSION = ("model", "version", "pool")


@dataclass(frozen=True, slots=True)
class CostsByPool:
    """What engines cost so far: `used` and `idle` by pool, `mirrored` by model, version and pool."""

    used: Mapping[str, float]
    idle: Mapping[str, float]
    mirrored: Mapping[tuple[str, str, str], float]


class TenantCollector:
    """Requests, tokens and costs by tenant and model, what is left of quotas, and what engines cost in all."""

    def __init__(
        self,
        usage: TenantUsage,
        quotas: Callable[[], Iterable[tuple[str, Quota]]],
        costs: Callable[[], Work[CostsByPool]],
        now: Callable[[], float],
    ) -> None:
        """Take the quotas of the tenants that are counted by name."""
        self._usage = usage
        self._quotas = quotas
        self._costs = costs
        self._now = now

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        yield from self._used()
        yield from self._left()
        cost = counter("tenant_cost", "What attempts of tenants cost.", (*_TENANT, "pool"))
        yield from with_samples(cost, self._usage.costs)
        found = yield from self._costs()
        text = "What copies of requests for candidates cost."
        yield from with_samples(counter("cost_mirrored", text, _VERSION), found.mirrored)
        idle, engines = (
            counter("cost_idle", "What engines cost while no attempt held them.", ("pool",)),
            counter("cost_engines", "What engines cost in all.", ("pool",)),
        )
        for pool, cost_idle in list(found.idle.items()):
            idle.add((pool,), cost_idle)
            engines.add((pool,), cost_idle + found.used.get(pool, 0.0))
        yield from (idle, engines)

    def _used(self) -> Iterator[Piece]:
        requests = counter("tenant_requests", "Requests of tenants by result.", (*_TENANT, "result"))
        tokens = counter("tenant_tokens", "Tokens of tenants by direction.", (*_TENANT, "direction"))
        text = "Tokens of prompts that engines had in their caches, as far as they tell."
        cached = counter("tenant_cached_prompt_tokens", text, _TENANT)
        for key, usage in list(self._usage.usage.items()):
            for result, count in usage.results.items():
                requests.add((*key, result), count)
            tokens.add((*key, "prompt"), usage.prompt)
            tokens.add((*key, "output"), usage.output)
            cached.add(key, usage.cached)
            yield None
        yield from (requests, tokens, cached)

    def _left(self) -> Iterator[Piece]:
        left = gauge("tenant_quota_left_ratio", "Share of a limit that is left; 0 in debt.", ("tenant", "limit"))
        for name, quota in self._quotas():
            for limit, share in quota.unused(self._now()):
                left.add((name, limit), share)
            yield None
        yield left
