"""What a pool has to do, read off everything that is counted and asked anyway: what its wants are decided from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.table import CapacitySpec, PoolSpec
from gateway.control.capacity_arrivals import PoolArrivals
from gateway.policy.admission.classes import CLASSES, STANDARD
from gateway.policy.admission.decide import predicted_wait
from gateway.policy.capacity.want import PoolLoad
from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.routing.readiness import State
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DEFAULT, Sli
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.windows import MINUTE
from gateway.proxy.admission_queue import AdmissionQueue
from gateway.proxy.current import CurrentTable
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveVersion
from gateway.telemetry.discovery_exposition import DiscoveryRow
from gateway.wire.slices import Work

_LATENCIES = frozenset((Sli.TTFT, Sli.TPOT, Sli.ITL, Sli.E2E))
"""What more replicas make better. Requests that fail say nothing of how many are needed, but for those turned away,
which waited."""
_TOLD = frozenset((State.READY, State.NOT_READY))
_USUAL_WINDOW = DEFAULT.window
_TOGETHER = 32
"""Backends that are looked at in one piece."""
USUAL_PROMPT = 512
"""Prompt tokens of the request whose TTFT is predicted."""


@dataclass(slots=True)
class _Demand:
    """What requests ask of one pool; `share` of a version's requests is the pool's."""

    arrivals: float | None = None
    burn: float | None = None
    burn_now: float | None = None
    page_factor: float = inf
    budget: float = 0.01
    queued: float = 0.0
    wait: float | None = None
    target: float = inf
    held: float = 0.0
    ended: float = 0.0
    scale: float = 1.0

    @property
    def holding(self) -> float | None:
        """How long a request holds a slot, in seconds, the mean over all that arrive; None while unknown."""
        return self.held / self.arrivals if self.arrivals and self.held else None

    def burns(self, series: Series) -> None:
        """Take a series whose latency more replicas make better; the highest burn counts."""
        long = series.windows.count(FASTEST.long)
        budget, factor = series.target.budget, FASTEST.factor(series.windows.slo)
        spent = (burn(long, budget) or 0.0) * (series.windows.weight(FASTEST.long) if long.bad else 0.0)
        if spent > factor and not FASTEST.speaks(long, factor, budget):
            spent = factor  # too few events to page for are too few to pay for
        if self.burn is None or spent / factor > self.burn / self.page_factor:
            now = burn(series.windows.count(FASTEST.short), budget) or 0.0
            self.burn, self.burn_now, self.page_factor, self.budget = spent, now, factor, budget

    def waits(self, line: AdmissionQueue) -> None:
        """Take a queue; the longest wait counts."""
        size = line.queue.size
        if size and not line.slots.any_free_in_service:
            wait = predicted_wait(size, line.forecast.rate)
            self.wait = max(self.wait or 0.0, wait) if wait else self.wait
        elif self.wait is None and line.slots.healths:
            self.wait = 0.0


class LoadReader:
    """Reads the load of every pool that wants replicas.

    Counts of requests are those of all gateways that share a store. What waits is known of this one alone: where
    several are alive, it counts as its share of all requests says.
    """

    def __init__(
        self,
        registry: Registry,
        current: CurrentTable,
        ledger: SloLedger,
        clock: Clock,
        *,
        origins: Callable[[], Iterable[DiscoveryRow]],
        alive: Callable[[], int],
    ) -> None:
        """Take the clock that backends are told by, what is known of origins, and how many share the store."""
        self._registry = registry
        self._current = current
        self._ledger = ledger
        self._clock = clock
        self._origins = origins
        self._alive = alive
        self._counted: dict[str, tuple[float, int, float]] = {}
        self._arrivals = PoolArrivals()
        self._holdings: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<LoadReader of {len(self._current.routes.pools)} pools>"

    def reading(self, pools: Sequence[PoolSpec]) -> Work[dict[str, PoolLoad | None]]:
        """Return the load of these pools, in small pieces; None of one that is not known well enough yet.

        As long as a backend has not been probed, or an origin has not told of its backends, nobody knows how many
        there are.
        """
        demands = {pool.name: _Demand() for pool in pools}
        for model in self._current.table:
            for version in model.versions.values():
                self._ask(model, version, demands)
                yield
        silent = {pool for row in self._origins() if row.age is None for pool in row.pools}
        found: dict[str, PoolLoad | None] = {}
        for pool in pools:
            backends = []
            for spec in pool.backends:
                if spec.id in self._registry.pools[pool.name].members:
                    backends.append(self._registry[spec.id])
                    yield
            known = pool.name not in silent and all(each.readiness.state in _TOLD for each in backends)
            capacity = pool.capacity
            found[pool.name] = None
            if known and capacity is not None:
                found[pool.name] = yield from self._loading(pool.name, capacity, backends, demands[pool.name])
            yield
        return found

    def _ask(self, model: LiveModel, version: LiveVersion, demands: dict[str, _Demand]) -> None:
        """Add what a version's requests ask of its pools."""
        names = [pool.peers.pool for pool in version.routes[-1].pools]
        if not any(name in demands for name in names):
            return
        series = self._ledger.get(Kind.VERSION, f"{model.name}/{version.name}")
        merged = sum(_last_minute(each) for each in series if each.sli == Sli.AVAILABILITY)
        scale, ended = self._scale(model, version, merged)
        for name, share in zip(names, self._shares(names), strict=True):
            demand = demands.get(name)
            if demand is None:
                continue
            arrivals = merged / MINUTE * share
            demand.arrivals = (demand.arrivals or 0.0) + arrivals
            demand.ended += ended * share * scale
            demand.scale = max(demand.scale, scale)
            for each in series if name == names[0] else self._ledger.get(Kind.POOL, name):
                if each.sli in _LATENCIES:
                    demand.burns(each)
            targets = [each.ttft.under for each in model.objectives if each.ttft is not None]
            demand.target = min(demand.target, *targets) if targets else demand.target
            lines = {
                route.line: None for route in version.routes if any(each.peers.pool == name for each in route.pools)
            }
            for line in lines:
                demand.held += arrivals / len(lines) * line.forecast.seconds
                demand.queued += line.queue.size * share * scale
                demand.waits(line)

    def _shares(self, names: Sequence[str]) -> list[float]:
        """Return the shares of pools in the requests of a version, by what they were sent in the last minute."""
        if len(names) == 1:
            return [1.0]
        sent = [
            sum(_last_minute(each) for each in self._ledger.get(Kind.POOL, name) if each.sli == Sli.AVAILABILITY)
            for name in names
        ]
        total = sum(sent)
        return [each / total for each in sent] if total else [1.0, *(0.0 for _ in names[1:])]

    def _scale(self, model: LiveModel, version: LiveVersion, merged: int) -> tuple[float, int]:
        """Return how many times what this process has of a version's requests all have, as of the last minute.

        And how many of its own have ended since the last look.
        """
        key, now, alive = f"{model.name}/{version.name}", self._clock(), self._alive()
        own = sum(
            cell.good + cell.bad
            for objective in {each.name for each in model.objectives}
            if (counts := self._ledger.requests.get((model.name, version.name, objective))) is not None
            for cell in counts
            if cell.sli is Sli.AVAILABILITY
        )
        at, before, pace = self._counted.get(key, (now, own, 0.0))
        if now > at:
            weight = min(1.0, (now - at) / MINUTE)
            pace += ((own - before) / (now - at) - pace) * weight
        self._counted[key] = now, own, pace
        ended = max(0, own - before)
        if alive <= 1 or not pace:
            return 1.0, ended
        return min(float(alive), max(1.0, merged / MINUTE / pace)), ended

    def _loading(
        self, pool: str, capacity: CapacitySpec, backends: Sequence[Backend], demand: _Demand
    ) -> Work[PoolLoad]:
        now, each = self._clock(), capacity.backends_per_replica
        ready: list[Backend] = []
        coming, drained, in_flight, own, limit, ttft = 0, 0, 0, 0, 0.0, inf
        for number, backend in enumerate(backends):
            if number % _TOGETHER == _TOGETHER - 1:
                yield
            own += backend.in_flight
            if backend.drained or backend.leaving:
                drained += not backend.leaving and backend.readiness.state is State.READY
                continue
            if backend.readiness.state is not State.READY:
                coming += _exists(backend)
                continue
            health = backend.health
            ready.append(backend)
            in_flight += health.slots.in_flight
            # What engines tell is of all gateways, and a limit that no table shares is of this one's requests.
            limit += health.slots.limit * (demand.scale if health.slots.shared is None else 1.0)
            ttft = min(ttft, health.predicted(USUAL_PROMPT))
        yield
        engines = tuple(load for backend in ready if (load := backend.engine.fresh_load(now)) is not None)
        whole, serving = len(ready) // each, -(-(len(ready) + coming) // each)
        if ready:
            limit *= whole * each / len(ready)  # of a replica in part, nothing counts
        meter = self._arrivals.look(pool, demand.ended, own * demand.scale + demand.queued, now)
        if demand.holding is not None:
            self._holdings[pool] = demand.holding
        arrivals, holding = demand.arrivals, self._holdings.get(pool)  # while nothing comes, it is what it was
        if self._alive() <= 1:  # what comes here is all that comes
            arrivals = meter.rate() if meter.rate() is not None else arrivals
        told = sum((engine.running or 0.0) + (engine.backlog or 0.0) for engine in engines)
        yield
        return PoolLoad(
            pool=pool,
            ready=whole,
            starting=serving - whole,
            drained=-(-(len(ready) + coming + drained) // each) - serving,
            burn=demand.burn,
            burn_now=demand.burn_now,
            page_factor=demand.page_factor if demand.burn is not None else FASTEST.factor(_USUAL_WINDOW),
            budget=demand.budget,
            queue_wait=demand.wait,
            patience=_patience(demand, ttft),
            queued=round(demand.queued),
            in_flight=max(float(in_flight), told),
            limit=limit if 0 < limit < UNLIMITED else None,
            arrivals=arrivals,
            holding=holding,
            bursts=None if holding is None else meter.bursts(holding),
            engines=engines,
            age=_age(ready, now),
        )


def _exists(backend: Backend) -> bool:
    """Whether an engine that does not serve yet is there: its origin tells of it, or it answers some path."""
    return bool(backend.spec.key) or backend.readiness.reason.startswith("/")


def _patience(demand: _Demand, ttft: float) -> float | None:
    """Return how long a request of usual length may wait and still meet its TTFT target, in seconds.

    `ttft` is what it would meet at the best backend, infinite where there is none.
    """
    if demand.arrivals is None:
        return None
    if demand.target == inf:
        return CLASSES[STANDARD].max_queue_wait
    return max(0.0, demand.target - ttft) if ttft < inf else demand.target


def _age(ready: Sequence[Backend], now: float) -> float:
    """Return how old the reports of most engines are, in seconds; of those that never told anything, nothing is."""
    ages = sorted(now - backend.engine.load_at for backend in ready if backend.engine.load is not None)
    return ages[(len(ages) - 1) // 2] if ages else 0.0


def _last_minute(series: Series) -> int:
    return series.windows.count(MINUTE).total
