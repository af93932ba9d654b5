"""Where requests of one version of a model wait for a slot, and how a slot that is given back finds who is next."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import Protocol

from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import CAPACITY, Shed, TurnedAway, decide, longest_wait, predicted_wait, refusal
from gateway.policy.admission.queue import Entry, Queue
from gateway.policy.routing.health import Health

_log = logging.getLogger(__name__)
_HALF_LIFE = 3.0
_FRESH = 0.05
"""What the latest request weighs in how long one takes."""


class Waiter(Protocol):
    """A request in the queue."""

    def begin(self, since: float, now: float) -> bool:
        """Take a slot, having waited `since` then; return False where there is none."""

    def turned_away(self, refused: TurnedAway) -> None:
        """Learn that it gets no slot."""

    def broke(self) -> None:
        """Learn that it cannot be handled, and is out of the queue."""


class Line:
    """The queue of one version; `neighbours` are the lines, itself among them, that wait for the same backends.

    `healths` are those backends. `sheds` counts those turned away, by class and reason.
    """

    __slots__ = ("_seconds", "_served", "_shares", "away", "healths", "neighbours", "queue", "sheds")

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self.queue: Queue[Waiter] = Queue(classes)
        self.neighbours: tuple[Line, ...] = (self,)
        self.sheds: Counter[tuple[str, str]] = Counter()
        self.away: frozenset[str] = frozenset()
        self.healths: Sequence[Health] = ()
        self._seconds = 0.0
        self._served: Counter[str] = Counter()
        self._shares: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Line {self.queue} at {self.rate:.1f} slots/s>"

    @property
    def seconds(self) -> float:
        """How long a request holds its slot, of late; 0.0 unknown."""
        return self._seconds

    @property
    def rate(self) -> float:
        """Slots that come free in a second (Little's law): requests in flight over how long one takes; 0.0 unknown."""
        return sum(health.in_flight for health in self.healths) / self._seconds if self._seconds else 0.0

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
        ahead, rate = self.queue.ahead(service_class, tenant), self._rate_for(service_class)
        wait = predicted_wait(ahead, rate)
        refused = decide(service_class, wait=longest_wait(ahead, rate), patience=patience, chance=chance)
        if refused is None and self.queue.size >= CAPACITY:
            refused = self._make_room(service_class, wait, chance)
        if refused is not None:
            self.sheds[service_class.name, refused.why] += 1
            return refused
        entry = self.queue.push(waiter, service_class, tenant, max(cost, 1.0), now)
        if self.queue.head() is entry:
            self.freed(now)  # whoever stood at the head may have been too large for what is free
        return entry

    def leave(self, entry: Entry[Waiter], now: float) -> None:
        """Take out one that does not wait any more; whoever comes after it may fit where it did not."""
        if self.queue.remove(entry) and self.queue.size:
            self.freed(now)

    def shed(self, service_class: ServiceClass, tenant: str, chance: float) -> TurnedAway | None:
        """Return why a class is turned away before it even asks for a slot, None when it is not."""
        if service_class.name not in self.away:
            return None
        self.sheds[service_class.name, Shed.BUDGET] += 1
        return refusal(Shed.BUDGET, max(5.0, self.predicted_wait(service_class, tenant)), chance)

    def waited(self, entry: Entry[Waiter], chance: float) -> TurnedAway:
        """Return what to tell one whose time to wait is over; it still has to `leave`."""
        self.sheds[entry.service_class.name, Shed.WAITED] += 1
        return refusal(Shed.WAITED, self.predicted_wait(entry.service_class, entry.tenant), chance)

    def predicted_wait(self, service_class: ServiceClass, tenant: str) -> float:
        """Return the wait, in seconds, of a request that came now."""
        return predicted_wait(self.queue.ahead(service_class, tenant), self._rate_for(service_class))

    def _rate_for(self, service_class: ServiceClass) -> float:
        """Return how many slots a second a class gets: what higher ones leave, and its guaranteed share at least."""
        above = sum(
            share
            for name, share in self._shares.items()
            if (known := self.queue.service_class(name)) is not None and known.priority < service_class.priority
        )
        return self.rate * max(1.0 - above, service_class.min_share, 0.01)

    def give_back(self, now: float, seconds: float) -> None:
        """Learn that a slot came free which was held for so many seconds."""
        self._seconds += (seconds - self._seconds) * (_FRESH if self._seconds else 1.0)
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
            if entry is None or not line._begin(entry, now):
                lines.remove(line)
                continue
            line.queue.serve(entry)
            line._served[entry.service_class.name] += 1
            if not line.queue.size:
                lines.remove(line)

    def _begin(self, entry: Entry[Waiter], now: float) -> bool:
        """Offer a slot; one that cannot be handled leaves, since it would stay at the head for ever."""
        try:
            return entry.item.begin(entry.since, now)
        except Exception:
            _log.exception("a request that waited broke the gateway")
            self.queue.remove(entry)
            entry.item.broke()
            return False

    def tick(self, elapsed: float) -> None:
        """Take stock of whom slots go to."""
        fading = exp(-0.6931 * elapsed / _HALF_LIFE)
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


def join(lines: Iterable[tuple[Line, Sequence[Health]]]) -> None:
    """Tell lines whose slots they wait for, and make neighbours of those that share some."""
    every = list(dict(lines).items())
    for line, healths in every:
        line.healths = healths
        line.neighbours = tuple(other for other, theirs in every if not set(healths).isdisjoint(theirs))


def _precedence(line: Line) -> tuple[int, float]:
    head = line.queue.head()
    return (head.service_class.priority, head.since) if head is not None else (1 << 30, 0.0)
