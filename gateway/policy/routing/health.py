"""What is believed of each backend, by which requests are let in and routed.

Nothing here reads a clock or draws by itself, so a simulation runs the very code that routes.
"""

from dataclasses import replace
from typing import Final

from gateway.claim import SMALLEST, Claim
from gateway.exchange import GOOD, UNCOUNTED, Fault, Verdict
from gateway.policy.routing.ejection import Cause, Finding, State, Transition
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.residual import OUTLIER, RATIO, Sickness
from gateway.policy.routing.vitals import PoolVitals, Vitals

USUAL_SLOTS: Final = 64
"""Slots that a backend is reckoned to have where no limit has been found yet."""


class Health(Vitals):
    """One backend beside its `peers`: whether it may be asked, and what follows from how its requests end."""

    __slots__ = ("peers",)

    def __init__(self, identity: str, peers: PoolVitals) -> None:
        super().__init__(identity, peers.latency, peers.thresholds)
        self.peers = peers

    def __repr__(self) -> str:
        outlier = self.outlier
        standing = f"{outlier.ejection.state} weight {outlier.weight:.2f}"
        return f"<Health {self.id} {standing} {self.slots.in_flight} in flight>"

    def available(self, now: float) -> bool:
        """Whether it may be sent a request: in service, or half-open and not being asked; in a panic anyway."""
        if now < self.backoff.hold_until:
            return False
        outlier = self.outlier
        return not outlier.ejection.out or self.peers.panic or outlier.wants_probe

    def is_free(self, claim: Claim, now: float) -> bool:
        """Whether nothing speaks against one more request: it is in service, not left alone, and has a slot."""
        return self.backoff.hold_until <= now and not self.outlier.ejection.out and self.slots.has_slot(claim)

    @property
    def wants_probe(self) -> bool:
        """Whether the next request should go here, to see whether it can return."""
        return self.outlier.wants_probe and not self.peers.panic

    def predicted(self, tokens: int) -> float:
        """Return the TTFT in seconds that a prompt of so many tokens would meet."""
        return self.latency.predicted(tokens, self.slots.in_flight)

    def predicted_tpot(self) -> float:
        """Return the TPOT in seconds that one more request would meet; 0.0 while nothing is known of the pool's."""
        return self.latency.predicted_tpot(self.slots.in_flight)

    def cost(self, seconds: float) -> float:
        """Return what one slot costs for so long, in the currency of the pool's price; 0.0 without one.

        A slot's price is the backend's over its limit: what the capacity that is used is worth, however idle the rest.
        """
        price, slots = self.peers.cost_per_hour or 0.0, self.slots
        return price / 3600.0 * seconds / min(slots.limit, max(USUAL_SLOTS, slots.in_flight))

    def takes_again(self, claim: Claim, now: float) -> bool:
        """Whether it takes one more, and is second choice for nothing but that it had too much to do."""
        second = now < self.backoff.hold_until and self.backoff.is_busy and not self.outlier.ejection.out
        return second and self.takes(claim, now)

    def takes(self, claim: Claim, now: float) -> bool:
        """Whether one more request fits, and it is not left alone because it is busy."""
        backoff, slots = self.backoff, self.slots
        open_ = now >= backoff.closed_until or not backoff.is_closed(slots.in_flight, now)
        return open_ and slots.has_slot(claim)

    def lease(self, tokens: int, claim: Claim = SMALLEST, now: float = 0.0) -> Lease:
        """Take a place for one request of so many prompt tokens."""
        return Lease(self, tokens, claim, now, is_probe=self.outlier.ejection.out and self.wants_probe)

    def refused(
        self, now: float, patience: float | None, *, busy: bool, alone: bool = False, request: object = None
    ) -> None:
        """Learn that it refused a `request`, which is still in flight, and for how many seconds it asked for patience.

        `alone` says that it had nothing else to do: that tells nothing of how much it bears.
        """
        if not busy or alone:
            self.backoff.refused(now, patience, busy=busy)
            return
        beside = self.slots.in_flight - 1
        self.backoff.refused(now, patience, busy=True, beside=beside)
        self.slots.evidence.refused(request, beside, now)

    def began(self, lease: Lease, ttft: float) -> None:
        """Take the TTFT of an attempt, in seconds, the moment its first token is there."""
        lease.prefilled()
        lease.ttft = ttft
        self.slots.evidence.took(lease.turn, lease.beside)
        self.latency.began(lease, ttft)

    def ended(
        self,
        lease: Lease,
        verdict: Verdict,
        now: float,
        rng: Chance,
        *,
        seconds: float = 0.0,
        tpot: float | None = None,
        met: bool = True,
        fault: Fault = Fault.ANSWER,
    ) -> None:
        """Learn how an attempt ended.

        Of a complete answer: how many `seconds` it took, its TPOT in seconds, and whether it `met` every target. Of a
        failure: which `fault` of the backend it shows.
        """
        outlier, symptoms = self.outlier, self.symptoms
        if lease.is_probe:
            outlier.probed()
        if verdict is UNCOUNTED:
            return
        good = verdict is GOOD
        if good:
            symptoms.answered(lease.at)
            self.activity.answered(now, seconds)
            self.slots.evidence.took(lease.turn, lease.beside)
            self.latency.finished(lease, tpot)
        else:
            symptoms.failed(now, fault)
        if lease.is_probe and outlier.ejection.state is State.HALF_OPEN:
            slow = good and _is_slow(self, lease, tpot, met=met)
            moved = outlier.probe_ended(now, rng, good=good, slow=slow)
            shown = good or fault is not Fault.SILENCE
            self._note(_found(moved, since=lease.at, in_row=True) if shown else moved)
            if not outlier.ejection.out:
                self.latency.ttft.forget()
                symptoms.renew()
        elif (
            symptoms.failures >= outlier.thresholds.consecutive_failures
            and not outlier.ejection.out
            and self.peers.has_room
        ):
            moved = outlier.eject(f"{symptoms.failures} failures in a row", now, rng, Cause.FAILURES)
            self._note(_found(moved, since=symptoms.failing_since, in_row=True) if _are_shown(self, fault) else moved)

    def tick(self, now: float, elapsed: float, signal: Signal, *, at_work: bool) -> None:
        """Let time pass and take what others know; `at_work` says whether its pool has produced something of late."""
        outlier, symptoms = self.outlier, self.symptoms
        if symptoms.told(signal):
            symptoms.began_anew(now)
            self._reached(now, at_work=at_work)
        if signal.gone or self.slots.in_flight or self.peers.panic or signal.burns:
            outlier.unsettled(now)
        if not at_work:
            outlier.idled(elapsed)
        self.latency.learn(symptoms.residual, now)
        symptoms.residual.forget(elapsed)
        self.latency.tick(elapsed, now)
        if symptoms.finding is not None and symptoms.finding.until <= now:
            symptoms.finding = None
        self._note(outlier.elapse(now))
        outlier.weigh(signal.burn, now)

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to rule on: it can be reached, is in service, and spends no budget at page rate.

        Nor has another gateway found anything.
        """
        symptoms = self.symptoms
        signal = symptoms.signal
        return not (signal.gone or signal.failing or signal.slow or self.outlier.ejection.out or symptoms.finding)

    def _reached(self, now: float, *, at_work: bool) -> None:
        """Learn that it can be reached again: one that has never worked is new, what else is not trusted yet."""
        outlier = self.outlier
        if self.activity.has_worked or outlier.ejection.ejections:
            if outlier.ejection.out or self.peers.has_room:
                self._note(outlier.returned(now))
        elif at_work:
            self._note(outlier.began(now))

    def eject(self, reason: str, now: float, rng: Chance) -> None:
        """Take it out of service because of its burn rate, or of what another gateway has found."""
        symptoms = self.symptoms
        if not reason:
            if symptoms.finding is not None:
                self._note(self.outlier.told(symptoms.finding, now, rng))
            return
        slow = not symptoms.signal.failing
        moved = self.outlier.eject(reason, now, rng, Cause.BURN, slow=slow)
        shown = slow or symptoms.are_answers
        self._note(_found(moved, since=now, share=symptoms.residual.failing.ratio) if shown else moved)

    def needed(self, now: float) -> None:
        """Take it back if it is only slow, or was only away: the rest of its pool has no free slot."""
        self._note(self.outlier.needed(now))

    @property
    def sickness(self) -> Sickness | None:
        """What sets it apart from its peers, None when nothing does."""
        return self.symptoms.sickness(self.peers.residuals(self))

    @property
    def residual_ratio(self) -> float | None:
        """Its TTFT over that of its peers at the same work; None while too little is known."""
        return self.symptoms.residual.ratio(self.peers.residuals(self))

    def _note(self, transition: Transition | None) -> None:
        if transition is not None:
            self.symptoms.forgive()
            self.peers.note(transition)


def _found(moved: Transition | None, *, since: float, share: float = 1.0, in_row: bool = False) -> Transition | None:
    """Return a transition as a finding for other gateways, if it is an ejection."""
    if moved is None or moved.cause is None:
        return moved
    after = moved.after
    return replace(moved, finding=Finding(after.until, after.reason, after.slow, share, since, in_row))


def _are_shown(health: Health, fault: Fault) -> bool:
    """Whether failures in a row, the last of them this, concern other gateways: all were answers.

    So are those that broke off where it has begun others meanwhile: then it can be reached.
    """
    symptoms = health.symptoms
    reached = fault is Fault.ANSWER or health.activity.worked_at > symptoms.failing_since
    return reached and not symptoms.silent


def _is_slow(health: Health, lease: Lease, tpot: float | None, *, met: bool) -> bool:
    """Return whether a trial's answer is held against a backend: where its peers miss too, they are the measure.

    One that was ejected because it was slow has to meet its objective, or to be as fast as they are.
    """
    slowness = health.latency.slowness(lease, tpot)
    if met or not health.outlier.ejection.slow:
        return slowness > OUTLIER
    return slowness > RATIO if slowness else health.peers.meet_objectives(health)
