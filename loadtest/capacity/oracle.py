"""What a scaler costs that knows everything but the future.

It knows each second how many requests came and for how long they hold a slot on average over the whole trace, needs as
many replicas as the same formula says, and waits for the same warm-up. How far it looks back, by how much it rounds up
and how long it keeps what it has is chosen in hindsight: the cheapest that keeps the objective.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

from gateway.policy.capacity.needs import OUT, carried_by
from gateway.policy.capacity.want import PoolLoad
from loadtest.capacity.world import PATIENCE, TARGET, Pool, Request

EVERY = 15.0
LOOKS = (30.0, 60.0, 120.0)
MARGINS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)
KEEPS = (0.0, 300.0, 900.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """Seconds that it looks back, what it rounds up by, and seconds for which it keeps the most it wanted."""

    look: float
    margin: float
    keep: float

    def __str__(self) -> str:
        return f"looks back {self.look:g} s, rounds up by {self.margin:g}, keeps for {self.keep:g} s"


def choices() -> Iterator[Choice]:
    """Yield everything that it may be."""
    for look, margin, keep in product(LOOKS, MARGINS, KEEPS):
        yield Choice(look, margin, keep)


class Oracle:
    """A scaler with a true view of the present."""

    def __init__(self, choice: Choice, requests: Sequence[Request]) -> None:
        self._choice = choice
        self._arrivals = [at for at, _ in requests]
        self._holding = sum(holding for _, holding in requests) / len(requests)
        self._first = self._next = 0
        self._kept: deque[tuple[float, int]] = deque()

    def __call__(self, pool: Pool, now: float) -> float:
        if now % EVERY:
            return pool.replicas
        arrivals, look = self._arrivals, min(self._choice.look, now)
        while self._next < len(arrivals) and arrivals[self._next] <= now:
            self._next += 1
        while self._first < self._next and arrivals[self._first] <= now - look:
            self._first += 1
        demand = (self._next - self._first) / look * self._holding
        load = PoolLoad("pool", 1, patience=PATIENCE, holding=self._holding)
        need = ceil(carried_by(demand, pool.slots, OUT, load, 1 - TARGET) * self._choice.margin - 1e-9)
        while self._kept and self._kept[-1][1] <= need:
            self._kept.pop()
        self._kept.append((now, need))
        while self._kept[0][0] < now - self._choice.keep:
            self._kept.popleft()
        return max(1, self._kept[0][1])
