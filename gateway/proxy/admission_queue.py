"""Where requests of one version of a model wait for a slot, and how a slot that is given back finds who is next."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from gateway.claim import Claim, HoldingTimes
from gateway.policy.admission import chance as chances
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import CAPACITY, HOLD_PAUSE, Shed, TurnedAway
from gateway.policy.admission.headroom import Holders
from gateway.policy.admission.limit import Seen
from gateway.policy.admission.queue import Entry, Queue
from gateway.policy.routing.health import Health
from gateway.proxy import showing
from gateway.proxy.awaited_slots import AwaitedSlots, holders_of
from gateway.proxy.wait_forecast import Outlook, WaitForecast
from gateway.wire.slices import Work, finish

_log = logging.getLogger(__name__)
_LOOK: Final = 8
"""How many of a class are looked at for one that fits, where its head does not."""
PASSED: Final = 1.0
"""Seconds for which smaller requests may pass one that is too large for what is free."""


class Queued(Protocol):
    """A request in the queue."""

    @property
    def claim(self) -> Claim:
        """What it asks of a backend's slots."""

    def begin(self, now: float) -> bool:
        """Take a slot; return False where there is none."""

    def turned_away(self, refused: TurnedAway) -> None:
        """Learn that it gets no slot."""

    def broke(self) -> None:
        """Learn that it cannot be handled, and is out of the queue."""

    def renew(self, now: float) -> None:
        """Follow a reload of the routes, into another line where need be."""


class AdmissionQueue:
    """The queue of one version, for `slots`; `neighbours` are the lines, itself among them, that wait for some of them.

    `sheds` counts those turned away, by class and reason. Sheddable classes below the priority `held_below` are held
    back: one start a second passes. `refuses` False lets everyone wait.
    """

    __slots__ = ("_passed", "forecast", "held_below", "neighbours", "queue", "refuses", "sheds", "slots")

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self.queue: Queue[Queued] = Queue(classes)
        self.neighbours: tuple[AdmissionQueue, ...] = (self,)
        self.slots = AwaitedSlots()
        self.forecast = WaitForecast(self.slots)
        self.sheds: Counter[tuple[str, str]] = Counter()
        self.held_below: int | None = None
        self.refuses = True
        self._passed = float("-inf")

    def __repr__(self) -> str:
        held = " held" if self.held_below is not None else ""
        return f"<AdmissionQueue {self.queue} at {self.forecast.rate:.1f} slots/s{held}>"

    def holds(self, service_class: ServiceClass) -> bool:
        """Whether a class is held back."""
        below = self.held_below
        return below is not None and service_class.sheddable and service_class.priority > below

    def must_wait(self, service_class: ServiceClass) -> bool:
        """Whether a newcomer of a class may not look for a slot before others do."""
        if self.holds(service_class):
            return True
        return self.queue.size > 0 and self.queue.waits_before(service_class.priority)

    def patience(
        self, service_class: ServiceClass, kind: HoldingTimes, threshold: float, prompt: int, now: float
    ) -> float:
        """Return for how many seconds a request waits; `threshold` is that of its TTFT, infinite where it has none.

        A class that has waited without a pause for longer than its threshold is in lasting overload: only then is the
        engine's TTFT taken with caution.
        """
        cautious = self.queue.standing(service_class, now) > threshold
        return self.forecast.patience(service_class, kind, threshold, prompt, cautious=cautious)

    def enter(
        self,
        waiter: Queued,
        service_class: ServiceClass,
        tenant: str,
        *,
        now: float,
        patience: float,
        chance: float,
    ) -> Entry[Queued] | TurnedAway:
        """Let a request wait for `patience` seconds at most, or say at once why not; `chance` spreads out retries."""
        if self.slots.shared:
            self.slots.look()
        outlook = self.outlook(service_class, tenant, patience, now)
        if outlook.chance < chances.LEAST and self.refuses:
            return self._refused(Shed.HOPELESS, service_class, outlook, patience=patience, chance=chance)
        if self.queue.size >= CAPACITY and not self.make_room(service_class, chance):
            return self._refused(Shed.FULL, service_class, outlook, patience=patience, chance=chance)
        claim = waiter.claim
        entry = Entry(
            waiter,
            service_class,
            tenant,
            claim.kv,
            now,
            holding=claim.kind.mean or self.forecast.seconds,
            until=now + patience,
        )
        self.queue.push(entry)
        self.freed(now)
        return entry

    def rejoin(self, entry: Entry[Queued], now: float) -> None:
        """Let one that an engine sent back wait on, in its old place and until its old patience ends."""
        self.queue.restore(entry)
        self.freed(now)

    def leave(self, entry: Entry[Queued], now: float) -> None:
        """Take out one that does not wait any more; those after it may fit where it did not."""
        if self.queue.remove(entry):
            self.slots.unkeep(entry.item.claim)
            if self.queue.size:
                self.freed(now)
            elif self.slots.shows:
                showing.show(self.neighbours)

    def adopt(self, entry: Entry[Queued]) -> None:
        """Let one wait here that keeps its time: it has waited in another line, or no engine is there for it."""
        self.queue.push(entry)

    def hand_over(self, entry: Entry[Queued]) -> None:
        """Take out one that goes on waiting in another line."""
        self.queue.remove(entry)
        self.slots.unkeep(entry.item.claim)

    def first(self) -> tuple[int, float] | None:
        """Return the priority of what waits first for any free slot, and since when; None where nothing does."""
        entries = self.queue.next(1, _is_stuck)
        waiting = [(each.service_class.priority, each.since) for each in entries if not self.holds(each.service_class)]
        return min(waiting) if waiting else None

    def waited(self, entry: Entry[Queued], chance: float) -> TurnedAway:
        """Return what to tell one whose time to wait is over; it still has to `leave`."""
        outlook = Outlook(self.queue.ahead(entry.service_class, entry.tenant)[0], 0.0, "")
        patience = entry.until - entry.since
        return self._refused(Shed.WAITED, entry.service_class, outlook, patience=patience, chance=chance)

    def outlook(self, service_class: ServiceClass, tenant: str, patience: float, now: float) -> Outlook:
        """Return how it looks for a request that came now and would wait so long; it bounds its place in line."""
        ahead, holding = self.queue.ahead(service_class, tenant)
        return self.forecast.outlook(ahead, holding, service_class.priority, patience, now)

    def retry_after(self, service_class: ServiceClass, tenant: str, chance: float) -> int:
        """Return in how many seconds a request that got no slot may ask again; `chance` spreads them out."""
        ahead, _ = self.queue.ahead(service_class, tenant)
        return self.forecast.retry_after(ahead, chance)

    def give_back(self, now: float, seconds: float | None = None) -> None:
        """Learn that a slot came free which was held for so many seconds; None: by no work of an engine."""
        if seconds is not None:
            self.forecast.held(seconds)
        for line in self.neighbours:
            if line.queue.size:
                self.freed(now)
                return

    def freed(self, now: float) -> None:
        """Give slots that are free to the next requests, in any line that waits for them, as long as there are some."""
        shared = self.slots.shared
        lines = [line for line in self.neighbours if line.queue.size]
        if len(lines) > 1:
            lines.sort(key=_precedence)
        if shared:
            for line in lines:
                line.slots.look()
        while lines:
            if lines[0]._serve_one(now):  # noqa: SLF001 - of this class too
                if len(lines) > 1:
                    lines = [line for line in lines if line.queue.size]
                    lines.sort(key=_precedence)
            else:
                lines.pop(0)
        if shared and showing.show(self.neighbours):
            self.freed(now)

    def _serve_one(self, now: float) -> bool:
        """Serve the first that fits; return False where there is none."""
        slots = self.slots
        if not self.queue.size or not slots.any_free:
            return False
        smallest: dict[str, int] = {}
        denied: int | None = None
        for entry in self._candidates():
            service_class, claim = entry.service_class, entry.item.claim
            if claim.kv >= smallest.get(service_class.name, 1 << 62) or not self._may_pass(service_class, now):
                continue
            if denied is not None and claim.priority > denied and not slots.is_kept_for(claim):
                continue
            has_slot = slots.has_slot(claim)
            if has_slot and self._begin(entry, now):
                self.queue.serve(entry)
                slots.unkeep(claim)
                if service_class.sheddable:
                    self._passed = now
                return True
            if claim.only is not None:
                continue
            if not has_slot and slots.has_room(claim):
                # A slot stays free for classes above this one, so it is not for those below.
                denied = claim.priority
            if service_class.name not in smallest and now - entry.since >= PASSED:
                slots.keep(claim)
            smallest[service_class.name] = claim.kv
        return False

    def _candidates(self) -> list[Entry[Queued]]:
        """Return who could be served, in order; their claims say what other processes weigh theirs against."""
        entries = [*self.queue.next(_LOOK, _is_stuck)]
        if self.slots.shared:
            due = self.queue.due()
            for entry in entries:
                entry.item.claim.since, entry.item.claim.is_due = entry.since, entry is due
        return entries

    def _may_pass(self, service_class: ServiceClass, now: float) -> bool:
        return not self.holds(service_class) or now - self._passed >= HOLD_PAUSE

    def _begin(self, entry: Entry[Queued], now: float) -> bool:
        """Offer a slot; one that cannot be handled leaves, since it would stay at the head for ever."""
        try:
            return entry.item.begin(now)
        except Exception:  # noqa: BLE001 - the others that wait are still to be served
            _log.exception("a request that waited broke the gateway")
            self.queue.remove(entry)
            self.slots.unkeep(entry.item.claim)
            entry.item.broke()
            return False

    def _refused(
        self, why: Shed, service_class: ServiceClass, outlook: Outlook, *, patience: float, chance: float
    ) -> TurnedAway:
        self.sheds[service_class.name, why] += 1
        seconds = self.forecast.retry_after(outlook.ahead, chance)
        return TurnedAway(why, seconds, patience, outlook.chance, outlook.ahead)

    def make_room(self, service_class: ServiceClass, chance: float) -> bool:
        """Push out the newest of a lower class; return whether there was one."""
        victim = self.queue.below(service_class)
        if victim is None:
            return False
        self.queue.remove(victim)
        self.slots.unkeep(victim.item.claim)
        outlook = Outlook(self.queue.size, 0.0, "")
        patience = victim.until - victim.since
        victim.item.turned_away(
            self._refused(Shed.PUSHED_OUT, victim.service_class, outlook, patience=patience, chance=chance)
        )
        return True


class Joining:
    """Lines, the backends whose slots they wait for, and which of them share some: found out, and then told.

    Lines that wait for the same backends are a group: all of it has the same neighbours.
    """

    __slots__ = ("_groups", "_holders", "_lines", "_neighbours")

    def __init__(self, lines: Iterable[tuple[AdmissionQueue, Sequence[Health]]]) -> None:
        self._lines = {line: tuple(healths) for line, healths in lines}
        self._groups: dict[tuple[Health, ...], list[AdmissionQueue]] = {}
        self._holders: dict[tuple[Health, ...], list[Holders]] = {}
        self._neighbours: dict[tuple[Health, ...], tuple[AdmissionQueue, ...]] = {}

    def __repr__(self) -> str:
        return f"<Joining {len(self._lines)} lines>"

    def work(self) -> Work[None]:
        """Find out, in small pieces."""
        places: dict[AdmissionQueue, int] = {}
        for line, healths in self._lines.items():
            places[line] = len(places)
            self._groups.setdefault(healths, []).append(line)
            yield
        groups: dict[Health, list[tuple[Health, ...]]] = {}
        for healths in self._groups:
            self._holders[healths] = [holders_of(health) for health in healths]
            for health in healths:
                groups.setdefault(health, []).append(healths)
            yield
        for healths in self._groups:
            shared = dict.fromkeys(group for health in healths for group in groups[health])
            lines = [line for group in shared for line in self._groups[group]]
            self._neighbours[healths] = tuple(sorted(lines, key=places.__getitem__))
            yield

    def tell(self) -> None:
        """Tell the lines whose slots they wait for, and make neighbours of those that share some."""
        for healths, lines in self._groups.items():
            neighbours, holders = self._neighbours[healths], self._holders[healths]
            for line in lines:
                line.slots.follow(healths, holders)
                line.neighbours = neighbours


def join(lines: Iterable[tuple[AdmissionQueue, Sequence[Health]]]) -> None:
    """Find out and tell at once."""
    joining = Joining(lines)
    finish(joining.work())
    joining.tell()


def seen(health: Health, queued: int, *, running: float = 0.0, fixed: bool = False) -> Seen:
    """Return what a backend's limit is judged by.

    `queued` is how many looks in a row found the engine's own queue filled. `running` is how many requests it has
    reported as running since the last call, while none waited in it. A `fixed` limit follows only the engine's word
    that it is busy.
    """
    slots = health.slots
    evidence = slots.evidence
    # A free slot that a lower class was denied was wanted: the limit is in use, as far as it may be.
    peak = max(evidence.peak, slots.limit) if holders_of(health).wanted else evidence.peak
    borne = evidence.borne if evidence.saturated else None
    if fixed:
        return Seen(peak, borne=borne)
    return Seen(peak, queued, evidence.begun, evidence.late, borne, health.activity.worked_at, running)


def _is_stuck(entry: Entry[Queued]) -> bool:
    """Whether it may use one backend alone, and that has no slot; others need not wait for it."""
    claim = entry.item.claim
    return isinstance(claim.only, Health) and not claim.only.slots.has_slot(claim)


def _precedence(line: AdmissionQueue) -> tuple[int, float]:
    head = line.queue.head()
    return (head.service_class.priority, head.since) if head is not None else (1 << 30, 0.0)
