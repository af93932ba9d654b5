"""Where requests of one version of a model wait for a slot, and how a slot that is given back finds who is next."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import exp
from typing import Protocol

from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import CAPACITY, Shed, TurnedAway, decide, predicted_wait, refusal
from gateway.policy.admission.queue import Entry, Queue

_HALF_LIFE = 3.0
_PESSIMISM = 1.4
"""By how much waits are taken to be longer than predicted, so that whoever is let in is served in time."""


class Waiter(Protocol):
    """A request in the queue."""

    def begin(self, since: float, now: float) -> bool:
        """Take a slot, having waited `since` then; return False where there is none."""

    def turned_away(self, refused: TurnedAway) -> None:
        """Learn that it gets no slot."""


class Line:
    """The queue of one version; `neighbours` are the lines, itself among them, that wait for the same backends.

    `ended` counts slots given back; `sheds` counts those turned away, by class and reason.
    """

    __slots__ = ("_rate", "_served", "_shares", "away", "ended", "neighbours", "queue", "sheds")

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self.queue: Queue[Waiter] = Queue(classes)
        self.neighbours: tuple[Line, ...] = (self,)
        self.sheds: Counter[tuple[str, Shed]] = Counter()
        self.away: frozenset[str] = frozenset()
        self.ended = 0
        self._rate = 0.0
        self._served: Counter[str] = Counter()
        self._shares: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Line {self.queue} at {self._rate:.1f} slots/s>"

    def enter(
        self,
        waiter: Waiter,
        service_class: ServiceClass,
        tenant: str,
        *,
        cost: float,
        now: float,
        patience: float,
        chance: float,
    ) -> Entry[Waiter] | TurnedAway:
        """Let a request wait, or say at once why not; `patience` is what is left of its own time, in seconds."""
        wait = self.predicted_wait(service_class, tenant)
        refused = decide(service_class, wait=wait * _PESSIMISM, patience=patience, chance=chance)
        if refused is None and self.queue.size >= CAPACITY:
            refused = self._make_room(service_class, wait, chance)
        if refused is not None:
            self.sheds[service_class.name, refused.why] += 1
            return refused
        return self.queue.push(waiter, service_class, tenant, max(cost, 1.0), now)

    def shed(self, service_class: ServiceClass, tenant: str, chance: float) -> TurnedAway | None:
        """Return why a class is turned away before it even asks for a slot, None when it is not."""
        if service_class.name not in self.away:
            return None
        self.sheds[service_class.name, Shed.BUDGET] += 1
        return refusal(Shed.BUDGET, max(5.0, self.predicted_wait(service_class, tenant)), chance)

    def waited(self, entry: Entry[Waiter], chance: float) -> TurnedAway:
        """Take out one whose time to wait is over."""
        self.queue.remove(entry)
        self.sheds[entry.service_class.name, Shed.WAITED] += 1
        return refusal(Shed.WAITED, self.predicted_wait(entry.service_class, entry.tenant), chance)

    def predicted_wait(self, service_class: ServiceClass, tenant: str) -> float:
        """Return the wait, in seconds, of a request that came now."""
        above = sum(
            share
            for name, share in self._shares.items()
            if (known := self.queue.service_class(name)) is not None and known.priority < service_class.priority
        )
        share = max(1.0 - above, service_class.min_share, 0.01)
        return predicted_wait(self.queue.ahead(service_class, tenant), self._rate * share)

    def give_back(self, now: float) -> None:
        """Learn that a slot came free."""
        self.ended += 1
        for line in self.neighbours:
            if line.queue.size:
                self.freed(now)
                return

    def freed(self, now: float) -> None:
        """Give a slot that came free to whoever is next, in any line that waits for it, as long as there are slots."""
        lines = [line for line in self.neighbours if line.queue.size]
        while lines:
            line = min(lines, key=_precedence)
            entry = line.queue.head()
            if entry is None or not entry.item.begin(entry.since, now):
                lines.remove(line)
                continue
            line.queue.serve(entry)
            line._served[entry.service_class.name] += 1
            if not line.queue.size:
                lines.remove(line)

    def tick(self, elapsed: float) -> None:
        """Take stock of how fast slots come free, and to whom they go."""
        fading = exp(-0.6931 * elapsed / _HALF_LIFE)
        self._rate = self._rate * fading + (1 - fading) * self.ended / elapsed
        self.ended = 0
        served = sum(self._served.values())
        for name, _ in self.queue.sizes():
            share = self._served[name] / served if served else 0.0
            self._shares[name] = self._shares.get(name, 0.0) * fading + (1 - fading) * share
        self._served.clear()

    def _make_room(self, service_class: ServiceClass, wait: float, chance: float) -> TurnedAway | None:
        """Push out the newest of a lower class; where there is none, the queue is full."""
        victim = self.queue.below(service_class)
        if victim is None:
            return refusal(Shed.FULL, wait, chance)
        self.queue.remove(victim)
        self.sheds[victim.service_class.name, Shed.PUSHED_OUT] += 1
        victim.item.turned_away(refusal(Shed.PUSHED_OUT, wait, chance))
        return None


def join(lines: Iterable[tuple[Line, frozenset[str]]]) -> None:
    """Make neighbours of lines that share backends, given by their ids."""
    every = list(lines)
    for line, ids in every:
        line.neighbours = tuple(other for other, theirs in every if ids & theirs)


def _precedence(line: Line) -> tuple[int, float]:
    head = line.queue.head()
    return (head.service_class.priority, head.since) if head is not None else (1 << 30, 0.0)
