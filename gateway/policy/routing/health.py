"""What routing believes of each backend.

Nothing here reads a clock or draws by itself, so a simulation runs the very code that routes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.claim import SMALLEST, Claim
from gateway.exchange import GOOD, UNCOUNTED, Verdict
from gateway.policy.routing import ejection
from gateway.policy.routing.activity import Activity
from gateway.policy.routing.bearing import Bearing
from gateway.policy.routing.ejection import Cause, Member, Standing, State, Transition
from gateway.policy.routing.engine_queue import EngineQueue
from gateway.policy.routing.fit import FLOOR, Fit
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.residual import OUTLIER, RATIO, Residual, Sickness

if TYPE_CHECKING:
    from gateway.policy.routing.peers import Peers

UNLIMITED = 1 << 62
USUAL_SLOTS = 64
"""Slots that a backend is reckoned to have where no limit has been found yet."""
OWN_HALF_LIFE = 5.0
SURPRISE = 5.0
"""How many times the predicted a first token is taken for: one moment of silence says little about the next request."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What others know of a backend at a tick.

    `gone` it is not ready; `burn` its routing burn, over all SLIs; `failing` and `slow` say, in words, which SLI burns
    at page rate over enough events: availability, or a latency. `progressed` is when its own metrics last showed work.
    """

    gone: bool = False
    burn: float = 1.0
    failing: str = ""
    slow: str = ""
    progressed: float = float("-inf")


class Slots(Protocol):
    """Rules of admission for who may have a free slot."""

    def allows(self, claim: Claim, in_flight: int, limit: int) -> bool:
        """Whether a request may have one."""

    def took(self, claim: Claim, now: float) -> None:
        """Learn that a request has one."""

    def released(self, claim: Claim) -> None:
        """Learn that it has given it back."""


class Health:
    """One backend: the work it holds, its standing, its weight, its own model of TTFT.

    `prefilling` are prompt tokens of attempts without a first token yet; `limit` bounds requests in flight, and
    `kv_capacity`, where it is known, the tokens `kv` that their prompts and answers may come to. `peak` is the most in
    flight, `begun` and `late` are latencies of what was let in under this limit, `saturated` whether it refused work
    because it is busy and `borne` the fewest in flight beside what it refused, by the word of two requests, all since
    somebody last looked. `bearing` is what single refusals say.
    `activity` is when it last worked, and until when it is left alone. `slots` are admission's rules for free ones.
    `unbegun` are attempts without a first token yet, `foreign` the requests of others that count as waiting there.
    """

    __slots__ = (
        "_begun",
        "_finished",
        "_queue",
        "activity",
        "bearing",
        "begun",
        "borne",
        "era",
        "failures",
        "fit",
        "foreign",
        "id",
        "in_flight",
        "kv",
        "kv_capacity",
        "late",
        "limit",
        "peak",
        "peers",
        "prefilling",
        "probing",
        "residual",
        "saturated",
        "signal",
        "slots",
        "standing",
        "tpot",
        "unbegun",
        "weight",
    )

    def __init__(self, identity: str, peers: "Peers") -> None:
        self.id = identity
        self.peers = peers
        self.in_flight = 0
        self.kv = 0
        self.limit = UNLIMITED
        self.kv_capacity = UNLIMITED
        self.slots: Slots | None = None
        self.peak = 0
        self.era = 0
        self.begun = self.late = 0
        self.saturated = False
        self.borne = UNLIMITED
        self.prefilling = 0
        self.unbegun = 0
        self.foreign = 0.0
        self._queue = EngineQueue()
        self.failures = 0
        self.activity = Activity()
        self.bearing = Bearing()
        self.probing = False
        self.standing = Standing()
        self.weight = 1.0
        self.signal = Signal()
        self.fit = Fit(OWN_HALF_LIFE)
        self.tpot = Fit(OWN_HALF_LIFE)
        self.residual = Residual()
        self._begun: list[tuple[Lease, float]] = []
        self._finished: list[tuple[Lease, float | None]] = []

    def __repr__(self) -> str:
        return f"<Health {self.id} {self.standing.state} weight {self.weight:.2f} {self.in_flight} in flight>"

    def available(self, now: float) -> bool:
        """Whether it may be sent a request: in service, or half-open and not being asked; in a panic anyway."""
        if now < self.activity.hold_until:
            return False
        if not self.standing.out or self.peers.panic:
            return True
        return self.standing.state is State.HALF_OPEN and not self.probing

    @property
    def wants_probe(self) -> bool:
        """Whether the next request should go here, to see whether it can return."""
        return self.standing.state is State.HALF_OPEN and not self.probing and not self.peers.panic

    def predicted(self, tokens: int) -> float:
        """Return the TTFT in seconds that a prompt of so many tokens would meet."""
        # As fit.predict, without its two calls: every request asks this of every backend.
        base, token, request = self.fit.coefficients
        if foreign := self.foreign:
            seconds = base + token * (self.prefilling + tokens + foreign * tokens)
            seconds += request * (self.in_flight + foreign)
        else:
            seconds = base + token * (self.prefilling + tokens) + request * self.in_flight
        return seconds if seconds > FLOOR else FLOOR

    def told(self, waiting: float | None, now: float) -> None:
        """Learn how many requests wait in the engine, by its own word."""
        self._queue.told(waiting, self.unbegun, now)

    def predicted_tpot(self) -> float:
        """Return the TPOT in seconds that one more request would meet; 0.0 while nothing is known of the pool's."""
        return self.tpot.predict(0.0, self.in_flight) if self.peers.tpot.samples >= 1.0 else 0.0

    def cost(self, seconds: float) -> float:
        """Return what one slot costs for so long, in the currency of the pool's price; 0.0 without one.

        A slot's price is the backend's over its limit: what the capacity that is used is worth, however idle the rest.
        """
        price = self.peers.cost_per_hour or 0.0
        return price / 3600.0 * seconds / min(self.limit, max(USUAL_SLOTS, self.in_flight))

    def has_slot(self, claim: Claim = SMALLEST) -> bool:
        """Whether one more request fits, by number, by tokens, and by the rules of admission."""
        # As `fits`, without its call: every request asks this of every backend.
        in_flight, slots = self.in_flight, self.slots
        if in_flight >= self.limit or (in_flight and self.kv + claim.kv > self.kv_capacity):
            return False
        return slots is None or slots.allows(claim, in_flight, self.limit)

    def fits(self, kv: int) -> bool:
        """Whether so many tokens fit; an empty backend takes any."""
        return self.kv + kv <= self.kv_capacity or not self.in_flight

    def takes_again(self, claim: Claim, now: float) -> bool:
        """Whether it takes one more, and is second choice for nothing but that it had too much to do."""
        second = now < self.activity.hold_until and self.activity.is_busy and not self.standing.out
        return second and self.takes(claim, now)

    def takes(self, claim: Claim, now: float) -> bool:
        """Whether one more request fits, and it is not left alone because it is busy."""
        activity = self.activity
        open_ = now >= activity.closed_until or not activity.is_closed(self.in_flight, now)
        return open_ and self.has_slot(claim)

    def lease(self, tokens: int, claim: Claim = SMALLEST, now: float = 0.0) -> Lease:
        """Take a place for one request of so many prompt tokens."""
        return Lease(self, tokens, claim, now)

    def relimited(self, limit: int) -> None:
        """Take another limit; what was let in under the old one says nothing about it."""
        if limit < self.limit:
            self.era += 1
            self.begun = self.late = 0
        self.limit = limit

    def looked_at(self) -> None:
        """Reset what a limit is judged by."""
        self.peak = self.in_flight
        self.begun = self.late = 0
        self.saturated = False
        self.borne = UNLIMITED

    def refused(
        self, now: float, patience: float | None, *, busy: bool, alone: bool = False, request: object = None
    ) -> None:
        """Learn that it refused a `request`, which is still in flight, and for how many seconds it asked for patience.

        `alone` says that it had nothing else to do: that tells nothing of how much it bears.
        """
        if not busy or alone:
            self.activity.refused(now, patience, busy=busy)
            return
        beside = self.in_flight - 1
        self.activity.refused(now, patience, busy=True, beside=beside)
        borne = self.bearing.refused(request, beside, now)
        if borne is not None:
            self.saturated = True
            self.borne = min(self.borne, borne)

    def judged(self, lease: Lease, *, late: bool) -> None:
        """Learn whether a latency of a request let in under this limit was beyond its target."""
        if lease.era == self.era:
            self.begun += 1
            self.late += late

    def began(self, lease: Lease, ttft: float) -> None:
        """Take the TTFT of an attempt, in seconds, the moment its first token is there."""
        lease.prefilled()
        lease.ttft = ttft
        if self.bearing.doubted:
            self.bearing.took(lease.turn, lease.beside)
        if len(self._begun) < self.peers.samples:
            self._begun.append((lease, ttft))

    def ended(
        self,
        lease: Lease,
        verdict: Verdict,
        now: float,
        rng: Chance,
        *,
        seconds: float = 0.0,
        tpot: float | None = None,
        kept: bool = True,
    ) -> None:
        """Learn how an attempt ended: of a complete answer how many `seconds` it took, its TPOT in seconds, and whether
        it `kept` every target."""
        if lease.is_probe:
            self.probing = False
        if verdict is UNCOUNTED:
            return
        good = verdict is GOOD
        if good:
            self.failures = 0
            self.activity.answered(now, seconds)
            if self.bearing.doubted:
                self.bearing.took(lease.turn, lease.beside)
            self.residual.answered()
            if len(self._finished) < self.peers.samples:
                self._finished.append((lease, tpot))
        else:
            self.failures += 1
            self.residual.failure()
        if lease.is_probe and self.standing.state is State.HALF_OPEN:
            self._judge_probe(good, good and self._is_slow(lease, tpot, kept=kept), now, rng)
        elif self.failures >= ejection.FAILURES_IN_A_ROW and not self.standing.out and self.peers.has_room:
            reason = f"{self.failures} failures in a row"
            self._move(ejection.eject(self.standing, now, reason, rng), Cause.FAILURES)

    def tick(self, now: float, elapsed: float, signal: Signal) -> None:
        """Let time pass and take what others know."""
        was_gone, self.signal = self.signal.gone, signal
        if was_gone and not signal.gone:
            self._reached(now)
        if signal.gone or self.in_flight or self.peers.panic or signal.failing or signal.slow:
            self.standing = ejection.unsettled(self.standing, now)
        if not self.peers.at_work(now):
            self.standing = ejection.idled(self.standing, elapsed)
        if self._begun:
            self.peers.learnt_at = now
        self._learn()
        self.residual.advance(elapsed, self.peers.residuals(self))
        self.fit.refit(elapsed, lean_on=self.peers.ttft)
        self.tpot.refit(elapsed, lean_on=self.peers.tpot)
        self.foreign = self._queue.foreign(now)
        self._move(ejection.elapse(self.standing, now))
        self.weight = ejection.weight(signal.burn, self.standing, now)

    def _reached(self, now: float) -> None:
        """It can be reached, and could not be: one that has never worked is new, whatever else is not trusted yet."""
        if self.activity.has_worked or self.standing.ejections:
            if self.standing.out or self.peers.has_room:
                self._move(ejection.returned(self.standing, now))
        elif self.peers.at_work(now):
            self._move(ejection.began(self.standing, now))

    def as_member(self) -> Member:
        """Return this backend as the rules for its pool see it."""
        signal = self.signal
        sickness = self.sickness if signal.slow else None
        reason = signal.failing or (f"{signal.slow}: {sickness}" if sickness and sickness.is_grave else "")
        burning = bool(signal.failing or signal.slow)
        slow, spare = not signal.failing, max(0, self.limit - self.in_flight)
        works = max(self.activity.worked_at, signal.progressed) > self.standing.since
        return Member(self.standing, signal.gone, burning, bool(reason), reason, slow, self.in_flight, spare, works)

    def eject(self, reason: str, now: float, rng: Chance) -> None:
        """Take it out of service because of its burn rate."""
        self._move(ejection.eject(self.standing, now, reason, rng, slow=not self.signal.failing), Cause.BURN)

    def needed(self, now: float) -> None:
        """Take it back if it is only slow, or was only away: the rest of its pool has no free slot."""
        self._move(ejection.needed(self.standing, now))

    @property
    def sickness(self) -> Sickness | None:
        """What sets it apart from its peers, None when nothing does."""
        return self.residual.sickness(self.peers.residuals(self))

    @property
    def residual_ratio(self) -> float | None:
        """Its TTFT over that of its peers at the same work; None while too little is known."""
        return self.residual.ratio(self.peers.residuals(self))

    def _learn(self) -> None:
        """Learn from the samples taken since the last tick."""
        ttfts, tpots, residual = self.peers.ttft, self.peers.tpot, self.residual
        for lease, seconds in self._begun:
            ttft, predicted = max(seconds, FLOOR), lease.predicted
            expected = ttfts.predict(lease.tokens, lease.in_flight)
            self.fit.judge(predicted, ttft)
            self.fit.observe(lease.tokens, lease.in_flight, min(ttft, SURPRISE * predicted), predicted)
            ttfts.observe(lease.tokens, lease.in_flight, min(ttft, SURPRISE * expected), expected)
            residual.ttft.add(ttft / expected)
        for lease, tpot in self._finished:
            residual.late.add(hit=self.peers.slowness(lease, tpot) > OUTLIER)
            if tpot is not None:
                expected = tpots.predict(0.0, lease.in_flight)
                tpots.observe(0.0, lease.in_flight, max(tpot, FLOOR), expected)
                self.tpot.judge(self.tpot.predict(0.0, lease.in_flight), max(tpot, FLOOR))
                self.tpot.observe(0.0, lease.in_flight, max(tpot, FLOOR), expected)
                residual.tpot.add(max(tpot, FLOOR) / expected)
        self._begun.clear()
        self._finished.clear()

    def _is_slow(self, lease: Lease, tpot: float | None, *, kept: bool) -> bool:
        """Whether a trial's answer is held against it: where its peers miss their promises too, they are the measure.

        One that was ejected because it was slow has to keep its promise, or to be as fast as they are.
        """
        slowness = self.peers.slowness(lease, tpot)
        if kept or not self.standing.slow:
            return slowness > OUTLIER
        return slowness > RATIO if slowness else self.peers.keep_promises(self)

    def _judge_probe(self, good: bool, slow: bool, now: float, rng: Chance) -> None:
        if slow or not good:
            reason = f"a request that tried it {'was slow' if good else 'failed'}"
            self._move(ejection.failed(self.standing, now, reason, rng, slow=good), Cause.PROBE)
            return
        self._move(ejection.answered(self.standing, now))
        if not self.standing.out:
            self.fit.forget()
            self.residual = Residual()
            self.weight = ejection.weight(1.0, self.standing, now)

    def _move(self, after: Standing, cause: Cause | None = None) -> None:
        before, self.standing = self.standing, after
        if after.state is not before.state:
            self.failures = 0
            self.peers.transitions.append(Transition(self.id, before.state, after, cause))
