"""A pool of replicas on a clock of its own: requests, slots, a queue, replicas that take minutes to start, and an HPA.

One gateway queue feeds all slots, so that the wait is that of a queue with several servers. A request is good if it
waits no longer than it may; one that has waited for `GIVEN_UP` is shed.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, inf
from typing import Protocol

from gateway.policy.capacity.arrivals import ArrivalMeter
from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.forecast import LoadForecast
from gateway.policy.capacity.needs import OUT, carried_by
from gateway.policy.capacity.want import Memory, PoolLoad, Rules, Want
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.burn import burn
from gateway.policy.slo.windows import Windows

TARGET = 0.99
PATIENCE = 2.0
"""Seconds that a request may wait for a slot and still meet its objective."""
GIVEN_UP = 10.0
SLO_WINDOW = 30 * 86400.0
HPA_EVERY = 15.0
LATEST = 2000
"""Requests whose time in a slot is averaged."""

Request = tuple[float, float]
"""When it comes, and for how long it holds a slot."""


class Scaler(Protocol):
    """Says once a second how many replicas there should be."""

    def __call__(self, pool: "Pool", now: float) -> float: ...


@dataclass
class Pool:
    """What there is at one moment, and what became of each request: when it came, and whether it was good."""

    slots: int
    warm_up: float
    ready: int = 1
    starting: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    queue: deque[Request] = field(default_factory=deque)
    arrived: int = 0
    held: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    windows: Windows = field(default_factory=lambda: Windows(0.0, SLO_WINDOW))
    answers: list[tuple[float, bool]] = field(default_factory=list)
    replica_seconds: float = 0.0

    @property
    def replicas(self) -> int:
        """All that cost: ready and starting ones."""
        return self.ready + len(self.starting)

    def scale(self, count: int, now: float) -> None:
        """Ask for so many: new ones are ready after the warm-up; those that still start go first."""
        for _ in range(count - self.replicas):
            self.starting.append(now + self.warm_up)
        while self.replicas > count and self.starting:
            self.starting.pop()
        self.ready = min(self.ready, count)

    def come(self, request: Request) -> None:
        """Take a request."""
        self.arrived += 1
        self.queue.append(request)

    def serve(self, until: float) -> None:
        """Give the slots that come free up to a moment to those who wait."""
        while self.starting and self.starting[0] <= until:
            self.starting.pop(0)
            self.ready += 1
        while self.queue:
            at = self.queue[0][0]
            while self.busy and self.busy[0] <= at:
                heappop(self.busy)
            free = at
            taken = len(self.busy)
            if taken >= self.ready * self.slots:
                # Those that drain, beyond the slots that there are, give theirs to nobody.
                over = taken - self.ready * self.slots
                free = at + GIVEN_UP if over >= taken else max(at, sorted(self.busy)[over])
            if free > until:
                while self.queue and until - self.queue[0][0] >= GIVEN_UP:
                    self._answered(self.queue.popleft()[0], good=False)
                return
            arrived, holding = self.queue.popleft()
            if free - arrived >= GIVEN_UP:
                self._answered(arrived, good=False)
                continue
            while self.busy and self.busy[0] <= free:
                heappop(self.busy)
            heappush(self.busy, free + holding)
            self.held.append(holding)
            self._answered(arrived, good=free - arrived <= PATIENCE)

    def tick(self, now: float) -> None:
        """Let the second end."""
        self.serve(now)
        while self.busy and self.busy[0] <= now:
            heappop(self.busy)
        self.windows.advance(now)
        self.replica_seconds += self.replicas

    def _answered(self, at: float, *, good: bool) -> None:
        self.answers.append((at, good))
        if good:
            self.windows.good += 1
        else:
            self.windows.bad += 1

    @property
    def holding(self) -> float:
        """Mean seconds for which requests of late held a slot."""
        return sum(self.held) / len(self.held) if self.held else 0.0


class Gateway:
    """What the gateway wants of a pool, and an HPA that follows it."""

    def __init__(self, rules: Rules, *, tolerance: float = 0.1) -> None:
        self.rules = rules
        self.forecast = LoadForecast(rules.warm_up)
        self.meter = ArrivalMeter()
        self.wants: list[tuple[float, Want]] = []
        self._memory = Memory()
        self._tolerance = tolerance
        self._minute = 0
        self._count = self._arrived = 0

    def __call__(self, pool: Pool, now: float) -> float:
        arrived, self._arrived = pool.arrived - self._arrived, pool.arrived
        self.meter.observe(int(now) - 1, arrived)
        self._count += arrived
        if now // 60 > self._minute:
            self.forecast.observe(self._minute, self._count / 60)
            self._minute, self._count = int(now // 60), 0
        decision = decide(self._load(pool, now), self.rules, self._memory, now)
        self._memory = decision.memory
        self.wants.append((now, decision.want))
        return hpa(pool.replicas, decision.want.value, self._tolerance) if now % HPA_EVERY == 0 else pool.replicas

    def _load(self, pool: Pool, now: float) -> PoolLoad:
        budget = 1 - TARGET
        long = burn(pool.windows.count(FASTEST.long), budget)
        limit = pool.ready * pool.slots
        wait = (len(pool.queue) + 1) * pool.holding / limit if limit and len(pool.busy) >= limit else 0.0
        return PoolLoad(
            "pool",
            pool.ready,
            len(pool.starting),
            burn=None if long is None else long * pool.windows.weight(FASTEST.long),
            burn_now=burn(pool.windows.count(FASTEST.short), budget),
            page_factor=FASTEST.factor(SLO_WINDOW),
            budget=budget,
            queue_wait=wait,
            patience=PATIENCE,
            queued=len(pool.queue),
            in_flight=float(len(pool.busy)),
            limit=float(limit) or None,
            arrivals=self.meter.rate(),
            holding=pool.holding or None,
            bursts=self.meter.bursts(pool.holding),
            expected=self.forecast.expected(now),
        )

    def turns(self) -> list[float]:
        """Return when the direction of the want changed."""
        turns, direction, before = [], 0, self.wants[0][1].target
        for now, want in self.wants:
            if want.target != before:
                if direction and (want.target > before) != (direction > 0):
                    turns.append(now)
                direction, before = (1 if want.target > before else -1), want.target
        return turns


def hpa(replicas: int, value: float, tolerance: float) -> int:
    """Return what an HPA comes to: an external metric with a target of 1 per replica, read in thousandths.

    KEDA, not the HPA, goes from and to none.
    """
    told = int(value * 1000) / 1000
    if not replicas or not told:
        return ceil(told)
    return replicas if abs(told / replicas - 1) <= tolerance + 1e-9 else ceil(told)


def replicas_for(requests: Sequence[Request], slots: int) -> int:
    """Return how many replicas the first five minutes need."""
    first = [holding for at, holding in requests if at < 300]
    load = PoolLoad("pool", 1, patience=PATIENCE, holding=sum(first) / len(first))
    return max(1, carried_by(sum(first) / 300, slots, OUT, load, 1 - TARGET))


def play(
    requests: Sequence[Request],
    scaler: Scaler,
    pool: Pool,
    until: float,
    *,
    begin: float = 0.0,
    most: float = inf,
) -> bool:
    """Let requests come, and the replicas follow what the scaler says once a second.

    Returns False once that has taken more than `most` replica seconds.
    """
    position = 0
    for second in range(int(begin) + 1, int(until) + 1):
        now = float(second)
        while position < len(requests) and requests[position][0] <= now:
            pool.come(requests[position])
            position += 1
        pool.tick(now)
        if pool.replica_seconds > most:
            return False
        pool.scale(int(scaler(pool, now)), now)
    return True
