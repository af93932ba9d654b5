"""What engines cost: prices as the routes have them by now, and what of it was used and what was idle."""

from collections import defaultdict
from collections.abc import Callable

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock, next_turn
from gateway.policy.routing.cost_meter import CostMeter
from gateway.policy.routing.readiness import State
from gateway.wire.slices import Slices, Work

INTERVAL = 1.0
_HOUR = 3600.0


class EngineCosts:
    """Has each backend's meter follow its price, and adds up by pool what engines cost since this process started.

    `used` is what attempts paid or owe for engines that they held, `idle` what nobody held. A backend costs something
    for as long as the routes name it, ready or not, and then until its last request has ended. One in a pool that
    scales from zero does only while it is ready: its engine may not exist.
    """

    def __init__(self, registry: Registry, clock: Clock, divided: Callable[[], tuple[float, float]]) -> None:
        """Take what says which part of every price this machine reckons with, and of that this process while idle."""
        self.used: defaultdict[str, float] = defaultdict(float)
        self.idle: defaultdict[str, float] = defaultdict(float)
        self._registry = registry
        self._clock = clock
        self._divided = divided
        self._meters: dict[CostMeter, str] = {}

    def __repr__(self) -> str:
        return f"<EngineCosts of {len(self._meters)} backends>"

    async def run(self, slices: Slices) -> None:
        """Look until cancelled, in slices of the loop's time."""
        while True:
            await slices.do(self.looking())
            await next_turn(INTERVAL)

    def looking(self) -> Work[None]:
        """Add up what engines cost until now, and take their prices of now, a backend at a time."""
        if not self._meters and all(pool.cost_per_hour is None for pool in self._registry.pools.values()):
            return
        machine, process = self._divided()
        meters: dict[CostMeter, str] = {}
        for backend in self._registry.watched():
            meter, pool = backend.health.costs, backend.spec.pool
            meter.follow(self._price(backend) * machine / _HOUR, process, self._clock())
            meters[meter] = pool
            self._take(pool, meter)
            yield
        before, self._meters = self._meters, meters
        for meter in before.keys() - meters.keys():
            meter.follow(0.0, process, self._clock())
            self._take(before[meter], meter)

    def _price(self, backend: Backend) -> float:
        """Return what a backend costs per hour at the moment."""
        pool = self._registry.pools.get(backend.spec.pool)
        is_ready = backend.readiness.state is State.READY and not backend.availability.asleep
        if pool is not None and pool.waking is not None and not is_ready and not backend.in_flight:
            return 0.0
        return backend.health.peers.cost_per_hour or 0.0

    def _take(self, pool: str, meter: CostMeter) -> None:
        used, idle = meter.take()
        if used or idle or meter.price:
            self.used[pool] += used
            self.idle[pool] += idle
