"""Replicas that share a tenant's quota by an exchange that takes its time, for tests."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from gateway.clock import Clock
from gateway.control.fleet_quotas import INTERVAL, SPACING, FleetQuotas
from gateway.control.shared_limits import SharedLimits
from gateway.policy.admission.quota import Denied, Quota, QuotaLimits
from gateway.shared.memory import JoinedTable
from gateway.state.redis_quotas import Heard, QuotaExchange, TenantCharged
from gateway.state.store import StateError
from tests.control.quota_exchange import ModelExchange
from tests.control.tables import in_force, registered, written
from tests.waiting import HandClock

STEP = 0.005


def routes(limits: dict[str, Any]) -> dict[str, Any]:
    return {
        "tenants": {"acme": {"key_sha256": "0" * 64, "limits": limits}, "free": {"key_sha256": "1" * 64}},
        "models": {"m": {"backends": ["http://a:1"]}},
    }


class Replica:
    """A gateway's quotas, and the exchange that is under way: it reaches the server half way through the delay."""

    def __init__(
        self,
        folder: Path,
        exchange: QuotaExchange,
        clock: Clock,
        limits: dict[str, Any],
        joined: JoinedTable | None = None,
    ) -> None:
        """Take the table of its machine's workers, where it is one of them."""
        table = written(folder / "routes.yaml", routes(limits))
        registry = registered(table, clock)
        self.current = in_force(table, registry, clock)
        if joined is not None:
            SharedLimits(joined, registry, self.current, clock).follow(clock())
        self.fleet = FleetQuotas(exchange, self.current, clock, None if joined is None else joined.table)
        self.fleet.follow(clock())
        self.alive = True
        self._exchange = exchange
        self.clock = clock
        self._begun = clock() - INTERVAL
        self._told: tuple[list[TenantCharged], bool] | None = None
        self._heard: tuple[Heard, float] | None = None
        self._ticked = clock()

    @property
    def quota(self) -> Quota:
        return next(iter(self.current.tenants)).quota

    def step(self, delay: float) -> None:
        """Do what is due now."""
        now = self.clock()
        if now - self._ticked >= 0.25:
            self._ticked = now
            self.fleet.tick(now)
        if self._told is not None and now >= self._begun + delay / 2:
            told, self._told = self._told, None
            try:
                sequence = int(self._begun * 1e6)
                self._heard = self._exchange.exchange(self.fleet.machine, sequence, told[0], scarce=told[1]), now
            except StateError:
                self._begun = now + INTERVAL  # as the loop, which sleeps then
        if self._heard is not None and now >= self._begun + delay:
            heard, self._heard = self._heard, None
            self.fleet.hear(*heard)
        since = now - self._begun
        is_due = since >= INTERVAL or (since >= SPACING and self.fleet.wanted.is_set())
        if is_due and self._told is None and self._heard is None:
            self.fleet.wanted.clear()
            self._begun = now
            self._told = self.fleet.telling(now)


class Simulation:
    """A tenant's requests, divided among replicas. `admitted` are when they were, `single` when one process would."""

    def __init__(self, folder: Path, limits: dict[str, Any], replicas: int, delay: float = 0.01) -> None:
        self.clock = HandClock()
        self.exchange = ModelExchange(self.clock)
        self._limits, self._folder = limits, folder
        self._apart = 0.0
        self.replicas = [self.replica() for _ in range(replicas)]
        self.admitted: list[tuple[float, int]] = []
        self.single: list[float] = []
        self._one = Quota(QuotaLimits(**limits), self.clock())
        self._delay = delay
        self.run(1.5, [], [])

    def replica(self) -> Replica:
        """Return a replica whose clock shows another time than those of all others."""
        self._apart += 12_345.0
        apart = self._apart
        return Replica(self._folder, self.exchange, lambda: self.clock() + apart, self._limits)

    def run(
        self, seconds: float, skew: Sequence[float], per_minute: Sequence[float], tokens: int = 0, seed: int = 1
    ) -> None:
        """Let requests come by chance, so many a minute, divided by `skew` among the replicas that live."""
        chance, end = Random(seed), self.clock() + seconds
        rate = sum(per_minute) / 60.0
        following = self.clock() + (chance.expovariate(rate) if rate else seconds)
        while self.clock() < end:
            self.clock.now += STEP
            for replica in self.replicas:
                if replica.alive:
                    replica.step(self._delay)
            while rate and following <= self.clock():
                following += chance.expovariate(rate)
                (index,) = chance.choices(range(len(skew)), skew)
                if self.replicas[index].alive:
                    self.ask(index, tokens)

    def ask(self, index: int, tokens: int = 0) -> Denied | None:
        """Send one request to a replica."""
        now = self.clock()
        replica = self.replicas[index]
        denied = replica.quota.reserve(tokens, replica.clock())
        if denied is None:
            self.admitted.append((now, index))
            replica.quota.settle(tokens, tokens)
        if self._one.reserve(tokens, now) is None:
            self._one.settle(tokens, tokens)
            self.single.append(now)
        return denied

    def in_any_minute(self, since: float) -> tuple[int, int]:
        """Return the fewest and the most that were admitted in any minute from `since` on."""
        counts = [counted for counted, _ in self._minutes(since)]
        return min(counts), max(counts)

    def beyond_single(self, since: float) -> tuple[int, int]:
        """Return by how many, in any minute, more were admitted than by one process: the least and the most."""
        beyond = [counted - single for counted, single in self._minutes(since)]
        return min(beyond), max(beyond)

    def _minutes(self, since: float) -> list[tuple[int, int]]:
        times = [at for at, _ in self.admitted]
        starts = [since + step * 0.25 for step in range(int((self.clock() - 60.0 - since) * 4))]
        return [(_in_minute(times, each), _in_minute(self.single, each)) for each in starts]


def _in_minute(times: Sequence[float], begins: float) -> int:
    return bisect_right(times, begins + 60.0) - bisect_right(times, begins)
