"""Engines as seats that are held for drawn times, behind the gateway's own admission: thousands of runs in minutes.

An engine serves as many requests at once as it has seats; what it is sent beyond waits inside it, or is sent back as
too much where it has little room for that. Arrivals and times are drawn beforehand, so that two ways of admission meet
the very same requests.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from math import inf
from random import Random

from gateway.claim import Claim
from gateway.exchange import Verdict
from gateway.policy.admission.chance import LOOKS
from gateway.policy.admission.classes import CLASSES, ServiceClass
from gateway.policy.admission.decide import Shed, TurnedAway
from gateway.policy.admission.hold import held_below
from gateway.policy.admission.kinds import Kind, Kinds
from gateway.policy.admission.limit import FIRST, MOST, AdaptiveLimit, is_late
from gateway.policy.admission.queue import Entry
from gateway.policy.routing.choose import choose
from gateway.policy.routing.health import Health
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.slo.windows import TICK
from gateway.proxy.admission_queue import PASSED, AdmissionQueue, Queued, join, seen
from gateway.proxy.awaited_slots import holders_of

THRESHOLDS: Mapping[str, float] = {"interactive": 2.0, "standard": 10.0, "batch": 600.0}
"""The TTFT threshold of each class, in seconds."""
WITHOUT_SHARES: Mapping[str, ServiceClass] = {name: replace(each, min_share=0.0) for name, each in CLASSES.items()}
REFUSAL = 0.001
"""Seconds that an engine takes to say that it has too much to do."""
LOOK = 4
"""Ticks between two looks at what an engine says of itself."""


@dataclass(frozen=True)
class Drawn:
    """One request: when it arrives, of which class, and how many tokens of the KV cache it needs."""

    at: float
    name: str
    kv: int = 1


Lengths = Mapping[str, Callable[[], float]]
"""For how many seconds the next request of a class that gets a seat holds it, whichever it is, so that two ways of
admission are not told apart by the luck of whom they serve."""


@dataclass(frozen=True)
class Policy:
    """What is switched off: refusals `early`, and leaving the queue when patience ends (`patient`)."""

    early: bool = True
    patient: bool = False


@dataclass(eq=False)
class Guest:
    """One request on its way; times in seconds, negative until they happen; `overtaken` by a lower class.

    `before` is the place in line that it had last, `sent_back` how many times an engine had too much to do.
    """

    drawn: Drawn
    claim: Claim
    kind: Kind
    service_class: ServiceClass
    entry: Entry[Queued] | None = None
    before: Entry[Queued] | None = None
    lease: Lease | None = None
    sent: float = -1.0
    first: float = -1.0
    refused: float = -1.0
    why: Shed | None = None
    overtaken: bool = False
    sent_back: int = 0


@dataclass(eq=False)
class Engine:
    """So many seats, and `room` for those `inside` that wait for one of them."""

    health: Health
    seats: int
    room: float
    taken: int = 0
    inside: list[Guest] = field(default_factory=list)
    queued: int = 0


class Seats:
    """Engines of one pool under drawn load. `slow` says how many times slower than usual everything is at a time.

    An engine's cache has room for `kv` tokens. With `hold` the highest class burns its budget all the time, so that
    sheddable ones are held back whenever one of it waits.
    """

    def __init__(
        self,
        requests: Sequence[Drawn],
        lengths: Lengths,
        policy: Policy,
        *,
        seats: int,
        engines: int,
        ttft: float,
        limit: int | None,
        slow: Callable[[float], float] = lambda _: 1.0,
        room: float = inf,
        kv: int = UNLIMITED,
        hold: bool = False,
    ) -> None:
        self.now = 0.0
        self._ticks = 0
        self.guests: list[Guest] = []
        self.ttft = ttft
        self._slow = slow
        self._lengths = lengths
        self._policy = policy
        self._limit = limit
        self._hold = hold
        self._rng = Random(1)
        self._kinds = Kinds()
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._peers = PoolState("gpu", 0.0)
        self._peers.follow([f"gpu/{number}" for number in range(engines)])
        self.engines = [Engine(health, seats, room) for health in self._peers.members.values()]
        self._limits = {engine.health.id: AdaptiveLimit(limit or FIRST, most=limit or MOST) for engine in self.engines}
        self.line = AdmissionQueue(WITHOUT_SHARES)
        self.line.refuses = policy.early
        join([(self.line, [engine.health for engine in self.engines])])
        self._of = {engine.health.id: engine for engine in self.engines}
        for engine in self.engines:
            engine.health.slots.limit_to(limit or int(self._limits[engine.health.id].value))
            engine.health.slots.limit_kv_to(kv)
        for drawn in requests:
            self._at(drawn.at, partial(self._arrive, drawn))
        self._at(TICK, self._tick)

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()

    def _at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), do))

    def _arrive(self, drawn: Drawn) -> None:
        service_class, kind = WITHOUT_SHARES[drawn.name], self._kinds.of("chat", drawn.name, None)
        claim = Claim(drawn.kv, service_class.priority, sheddable=service_class.sheddable, kind=kind)
        guest = Guest(drawn, claim, kind, service_class)
        self.guests.append(guest)
        if not self.line.must_wait(service_class) and self.begin(guest):
            return
        patience = self._patience(guest)
        place = QueueTicket(self, guest)
        entry = self.line.enter(place, service_class, "", now=self.now, patience=patience, chance=self._rng.random())
        if isinstance(entry, TurnedAway):
            self.refuse(guest, entry)
            guest.overtaken = any(
                held.priority > claim.priority for engine in self.engines for held in holders_of(engine.health).held
            )
        else:
            guest.before = entry
            if guest.lease is None:
                guest.entry = entry
                self._at(entry.until + LOOKS / 2, lambda: self._expire(guest))

    def begin(self, guest: Guest) -> bool:
        """Send a request to an engine, if one has a slot."""
        choice = choose(self.engines, 1, self.now, self._rng, guest.claim)
        if choice is None:
            return False
        self._overtake(guest)
        engine = choice.winner
        guest.lease = engine.health.lease(1, guest.claim, self.now)
        guest.sent, guest.entry = self.now, None
        if engine.taken < engine.seats:
            self._seat(engine, guest)
        elif len(engine.inside) >= engine.room:
            self._at(self.now + REFUSAL, lambda: self._send_back(engine, guest))
        else:
            engine.inside.append(guest)
        return True

    def _overtake(self, guest: Guest) -> None:
        """Note who of the higher classes is passed; one too large for what is free may be, for a moment."""
        for entry in self.line.queue:
            if entry.service_class.priority >= guest.service_class.priority:
                break
            place = entry.item
            if isinstance(place, QueueTicket) and not place.guest.overtaken:
                fits = any(engine.health.slots.fits(place.claim.kv) for engine in self.engines)
                place.guest.overtaken = fits or self.now - entry.since >= PASSED

    def _send_back(self, engine: Engine, guest: Guest) -> None:
        """An engine has too much to do: the request waits on, in its place."""
        lease, guest.lease = guest.lease, None
        assert lease is not None
        engine.health.refused(self.now, None, busy=True, request=guest)
        lease.release()
        engine.health.ended(lease, Verdict.UNCOUNTED, self.now, self._rng)
        self.line.give_back(self.now)
        guest.sent_back += 1
        self.rejoin(guest)

    def rejoin(self, guest: Guest) -> None:
        """Let one wait on."""
        entry = guest.before
        if entry is None:
            until = guest.drawn.at + self._patience(guest)
            place = QueueTicket(self, guest)
            entry = guest.before = Entry(
                place, guest.service_class, "", guest.claim.kv, guest.drawn.at, holding=guest.kind.mean, until=until
            )
        guest.entry = entry
        self._at(max(self.now, entry.until) + LOOKS / 2, lambda: self._expire(guest))
        self.line.rejoin(entry, self.now)

    def _patience(self, guest: Guest) -> float:
        if self._policy.patient:
            return 1e6
        return self.line.patience(guest.service_class, guest.kind, THRESHOLDS[guest.drawn.name], 1, self.now)

    def refuse(self, guest: Guest, why: TurnedAway) -> None:
        """Note that a request was turned away."""
        guest.refused, guest.why, guest.entry = self.now, why.why, None

    def _expire(self, guest: Guest) -> None:
        entry = guest.entry
        if entry is not None:
            entry.item.turned_away(self.line.waited(entry, 0.5))
            self.line.leave(entry, self.now)

    def _seat(self, engine: Engine, guest: Guest) -> None:
        engine.taken += 1
        slow = self._slow(self.now)
        self._at(self.now + slow * self.ttft, lambda: self._first(engine, guest))
        holding = max(self._lengths[guest.drawn.name](), self.ttft)
        self._at(self.now + slow * holding, lambda: self._end(engine, guest))

    def _first(self, engine: Engine, guest: Guest) -> None:
        guest.first = self.now
        if guest.lease is not None:
            ttft = self.now - guest.sent
            engine.health.began(guest.lease, ttft)
            engine.health.activity.began(self.now, ttft)
            idle = max(engine.health.activity.quickest.seconds, engine.health.latency.ttft.predict(1, 0.0))
            engine.health.slots.evidence.judged(guest.lease.era, late=is_late(ttft, THRESHOLDS[guest.drawn.name], idle))

    def _end(self, engine: Engine, guest: Guest) -> None:
        lease, guest.lease = guest.lease, None
        assert lease is not None
        lease.release()
        engine.taken -= 1
        if engine.inside:
            self._seat(engine, engine.inside.pop(0))
        engine.health.ended(lease, Verdict.GOOD, self.now, self._rng)
        guest.kind.ended(self.now - guest.sent)
        self.line.give_back(self.now, self.now - guest.sent)

    def _tick(self) -> None:
        self._ticks += 1
        self._peers.tick(self.now, {}, self._rng)
        for engine in self.engines:
            health, holders, limit = engine.health, holders_of(engine.health), self._limits[engine.health.id]
            engine.queued = engine.queued + 1 if engine.inside else 0
            running = 0 if engine.inside or self._ticks % LOOK else engine.taken
            limit.tick(seen(health, engine.queued // LOOK, running=running, fixed=self._limit is not None), self.now)
            health.slots.limit_to(int(limit.value))
            health.slots.looked_at()
            holders.tick(self.now, TICK)
        if self._hold:
            waiting = self.line.queue.priorities()
            queues = any(engine.queued > LOOK for engine in self.engines)
            self.line.held_below = held_below({0}, waiting, waiting, engine_queues=queues)
        if self.line.queue.size:
            self.line.freed(self.now)
        self._at(self.now + TICK, self._tick)


class QueueTicket:
    """One request's place in the line."""

    def __init__(self, world: Seats, guest: Guest) -> None:
        self.guest = guest
        self.claim = guest.claim
        self._world = world

    def begin(self, now: float) -> bool:
        return self._world.begin(self.guest)

    def broke(self) -> None:
        raise AssertionError("nothing breaks here")

    def renew(self, now: float) -> None:
        raise AssertionError("no routes change here")

    def turned_away(self, why: TurnedAway) -> None:
        self._world.refuse(self.guest, why)
