"""Where requests of one version of a model wait for a slot, and how a slot that is given back finds who is next."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from gateway.claim import Claim, HoldingTimes
from gateway.policy.admission import chance as chances
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import CAPACITY, HOLD_PAUSE, Shed, TurnedAway, predicted_wait, retry_after
from gateway.policy.admission.expected import Expected
from gateway.policy.admission.headroom import Holders
from gateway.policy.admission.limit import Seen
from gateway.policy.admission.queue import Entry, Queue
from gateway.policy.routing.health import Health

_log = logging.getLogger(__name__)
_FRESH = 0.05
"""What the latest request weighs in how long one takes."""
_LOOK = 8
"""How many of a class are looked at for one that fits, where its head does not."""
PASSED = 1.0
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


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it looks for a request that came now: how many are `ahead`, and a bound of its chance to get a slot in time.

    `why` says what the bound rests on.
    """

    ahead: int
    chance: float
    why: str


class AdmissionQueue:
    """The queue of one version; `neighbours` are the lines, itself among them, that wait for the same backends.

    `healths` are those backends, `holders` who has their slots. `sheds` counts those turned away, by class and reason.
    Sheddable classes below the priority `held_below` are held back: one start a second passes. `refuses` False lets
    everyone wait.
    """

    __slots__ = (
        "_expected",
        "_keeps",
        "_passed",
        "_seconds",
        "healths",
        "held_below",
        "holders",
        "neighbours",
        "queue",
        "refuses",
        "sheds",
    )

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self.queue: Queue[Queued] = Queue(classes)
        self.neighbours: tuple[AdmissionQueue, ...] = (self,)
        self.sheds: Counter[tuple[str, str]] = Counter()
        self.held_below: int | None = None
        self.refuses = True
        self.healths: Sequence[Health] = ()
        self.holders: Sequence[Holders] = ()
        self._expected = Expected()
        self._keeps: Holders | None = None
        self._passed = float("-inf")
        self._seconds = 0.0

    def __repr__(self) -> str:
        return (
            f"<AdmissionQueue {self.queue} at {self.rate:.1f} slots/s{' held' if self.held_below is not None else ''}>"
        )

    @property
    def seconds(self) -> float:
        """How long a request holds its slot, of late; 0.0 unknown."""
        return self._seconds

    @property
    def rate(self) -> float:
        """Slots that come free in a second (Little's law): requests in flight over how long one takes; 0.0 unknown."""
        return sum(health.slots.in_flight for health in self.healths) / self._seconds if self._seconds else 0.0

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
        self, service_class: ServiceClass, kind: HoldingTimes, promise: float, prompt: int, now: float
    ) -> float:
        """Return for how many seconds a request waits; `promise` is its TTFT threshold, infinite where it has none.

        A class that has waited without a pause for longer than its promise is in lasting overload: only then is the
        engine's TTFT taken with caution. A short queue gets the time that the engine is likely to leave.
        """
        ttft = 0.0
        if promise < inf:
            lasts = self.queue.standing(service_class, now) > promise
            ttft = min(
                (health.predicted(prompt) * (health.latency.ttft.caution if lasts else 1.0) for health in self.healths),
                default=0.0,
            )
        return chances.patience(service_class.max_queue_wait, kind.mean, promise, ttft)

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
        outlook = self.outlook(service_class, tenant, patience, now)
        if outlook.chance < chances.LEAST and self.refuses:
            return self._refused(Shed.HOPELESS, service_class, outlook, patience=patience, chance=chance)
        if self.queue.size >= CAPACITY and not self._make_room(service_class, chance):
            return self._refused(Shed.FULL, service_class, outlook, patience=patience, chance=chance)
        claim = waiter.claim
        entry = Entry(
            waiter, service_class, tenant, claim.kv, now, holding=claim.kind.mean or self._seconds, until=now + patience
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
            self._unkeep(entry.item.claim)
            if self.queue.size:
                self.freed(now)

    def adopt(self, entry: Entry[Queued]) -> None:
        """Let one wait here that has waited in another line; it keeps its time."""
        self.queue.push(entry)

    def hand_over(self, entry: Entry[Queued]) -> None:
        """Take out one that goes on waiting in another line."""
        self.queue.remove(entry)
        self._unkeep(entry.item.claim)

    def waited(self, entry: Entry[Queued], chance: float) -> TurnedAway:
        """Return what to tell one whose time to wait is over; it still has to `leave`."""
        outlook = Outlook(self.queue.ahead(entry.service_class, entry.tenant)[0], 0.0, "")
        patience = entry.until - entry.since
        return self._refused(Shed.WAITED, entry.service_class, outlook, patience=patience, chance=chance)

    def outlook(self, service_class: ServiceClass, tenant: str, patience: float, now: float) -> Outlook:
        """Return how it looks for a request that came now and would wait so long; it bounds its place in line."""
        ahead, holding = self.queue.ahead(service_class, tenant)
        if any(health.slots.has_free for health in self.healths):
            return Outlook(ahead, 1.0, "a slot is free")
        if any(holders.holds_below(service_class.priority) for holders in self.holders):
            return Outlook(ahead, 1.0, "lower classes hold slots")
        self._expected.look(self.holders, now)
        if not self._expected.is_known:
            return Outlook(ahead, 1.0, "too little is known of how long slots are held")
        bound = chances.chance(ahead, holding, patience, self._expected)
        if bound < chances.LEAST:
            # Slots that have been held for long make a slow spell as well as a load: only the latter is lasting.
            bound = max(bound, chances.at_least(ahead + 1, self._expected.pace * patience))
        return Outlook(ahead, bound, "by how long slots have been held")

    def retry_after(self, service_class: ServiceClass, tenant: str, chance: float) -> int:
        """Return in how many seconds a request that got no slot may ask again; `chance` spreads them out."""
        ahead, _ = self.queue.ahead(service_class, tenant)
        return self._retry_after(ahead, chance)

    def give_back(self, now: float, seconds: float | None = None) -> None:
        """Learn that a slot came free which was held for so many seconds; None: by no work of an engine."""
        if seconds is not None:
            self._seconds += (seconds - self._seconds) * (_FRESH if self._seconds else 1.0)
        for line in self.neighbours:
            if line.queue.size:
                self.freed(now)
                return

    def freed(self, now: float) -> None:
        """Give slots that are free to the next requests, in any line that waits for them, as long as there are some."""
        lines = [line for line in self.neighbours if line.queue.size]
        if len(lines) > 1:
            lines.sort(key=_precedence)
        while lines:
            if lines[0]._serve_one(now):  # noqa: SLF001 - of this class too
                if len(lines) > 1:
                    lines = [line for line in lines if line.queue.size]
                    lines.sort(key=_precedence)
            else:
                lines.pop(0)

    def _serve_one(self, now: float) -> bool:
        """Serve the first that fits; return False where there is none."""
        if not self.queue.size or not any(health.slots.has_free for health in self.healths):
            return False
        smallest: dict[str, int] = {}
        denied: int | None = None
        for entry in [*self.queue.next(_LOOK, _is_stuck)]:
            service_class, claim = entry.service_class, entry.item.claim
            if claim.kv >= smallest.get(service_class.name, 1 << 62) or not self._may_pass(service_class, now):
                continue
            if denied is not None and claim.priority > denied and not self._has_place(claim):
                continue
            has_slot = any(health.slots.has_slot(claim) for health in self.healths)
            if has_slot and self._begin(entry, now):
                self.queue.serve(entry)
                self._unkeep(claim)
                if service_class.sheddable:
                    self._passed = now
                return True
            if claim.only is not None:
                continue
            if not has_slot and self._has_room(claim):
                # A slot stays free for classes above this one, so it is not for those below.
                denied = claim.priority
            if service_class.name not in smallest:
                self._keep(entry, now)
            smallest[service_class.name] = claim.kv
        return False

    def _has_place(self, claim: Claim) -> bool:
        return self._keeps is not None and self._keeps.kept_for is claim

    def _has_room(self, claim: Claim) -> bool:
        """Whether a slot is free that is large enough, also one that is kept for another."""
        return any(health.slots.has_free and health.slots.fits(claim.kv) for health in self.healths)

    def _may_pass(self, service_class: ServiceClass, now: float) -> bool:
        return not self.holds(service_class) or now - self._passed >= HOLD_PAUSE

    def _begin(self, entry: Entry[Queued], now: float) -> bool:
        """Offer a slot; one that cannot be handled leaves, since it would stay at the head for ever."""
        try:
            return entry.item.begin(now)
        except Exception:  # noqa: BLE001 - the others that wait are still to be served
            _log.exception("a request that waited broke the gateway")
            self.queue.remove(entry)
            self._unkeep(entry.item.claim)
            entry.item.broke()
            return False

    def _keep(self, entry: Entry[Queued], now: float) -> None:
        """Keep a place for the first of a class when it has been too large for a while for what is free.

        There is one such place: a higher class takes it over.
        """
        claim = entry.item.claim
        kept_for = self._keeps.kept_for if self._keeps is not None else None
        if now - entry.since < PASSED or (kept_for is not None and kept_for.priority <= claim.priority):
            return
        if self._has_room(claim):
            return
        rows = list(zip(self.healths, self.holders, strict=True))
        kept_in = {health.peers.pool for health, holders in rows if holders.kept_for not in (None, kept_for)}
        open_ = [row for row in rows if row[0].peers.pool not in kept_in and not row[0].symptoms.signal.gone]
        if not open_:
            return
        if kept_for is not None:
            self._unkeep(kept_for)
        _, holders = min(open_, key=lambda row: row[0].slots.kv)
        holders.kept_for, holders.gently = claim, len(rows) == 1
        self._keeps = holders

    def _unkeep(self, claim: Claim) -> None:
        if self._keeps is not None and self._keeps.kept_for is claim:
            self._keeps.kept_for = None
            self._keeps = None

    def _refused(
        self, why: Shed, service_class: ServiceClass, outlook: Outlook, *, patience: float, chance: float
    ) -> TurnedAway:
        self.sheds[service_class.name, why] += 1
        seconds = self._retry_after(outlook.ahead, chance)
        return TurnedAway(why, seconds, patience, outlook.chance, outlook.ahead)

    def _retry_after(self, ahead: int, chance: float) -> int:
        return retry_after(predicted_wait(ahead, self.rate), chance)

    def _make_room(self, service_class: ServiceClass, chance: float) -> bool:
        """Push out the newest of a lower class; where there is none, the queue is full."""
        victim = self.queue.below(service_class)
        if victim is None:
            return False
        self.queue.remove(victim)
        self._unkeep(victim.item.claim)
        outlook = Outlook(self.queue.size, 0.0, "")
        patience = victim.until - victim.since
        victim.item.turned_away(
            self._refused(Shed.PUSHED_OUT, victim.service_class, outlook, patience=patience, chance=chance)
        )
        return True


def join(lines: Iterable[tuple[AdmissionQueue, Sequence[Health]]]) -> None:
    """Tell lines whose slots they wait for, and make neighbours of those that share some."""
    every = list(dict(lines).items())
    for line, healths in every:
        line.healths, line.holders = healths, [holders_of(health) for health in healths]
        line.neighbours = tuple(other for other, theirs in every if not set(healths).isdisjoint(theirs))


def holders_of(health: Health) -> Holders:
    """Return who has the slots of a backend; from the first call on, admission's rules hold there."""
    rules = health.slots.rules
    if not isinstance(rules, Holders):
        rules = Holders()
        health.slots.rule_by(rules)
    return rules


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
