"""What speaks against a backend, and what follows from it: detected here by `Symptoms`, enforced by `OutlierState`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.exchange import Fault
from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import USUAL, Cause, EjectionState, Finding, State, Thresholds, Transition
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.residual import Residual, Sickness

_SILENT: Final = 0.1
_SEEN: Final = 8.0
"""Answers of late from which on a gateway knows as much as another one."""
_SAME: Final = 5.0
"""Seconds within which all gateways see that an engine is back, or is another one."""
_AS_BAD: Final = 0.25
"""The part of another gateway's share of failures from which on it is the same trouble."""


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

    @property
    def burns(self) -> bool:
        """Whether it spends a budget at page rate, for whatever cause."""
        return bool(self.failing or self.slow)


class Symptoms:
    """What speaks against one backend.

    `failures` in a row since `failing_since`, of which `silent` were no answers, count from zero when it moves from
    state to state; `failed_in_a_row` are all since its last good answer, the latest at `failed_at`. Beside them go its
    `residual` beside its peers, and the `signal` of its burn rates. `finding` is what another gateway has found and
    nothing has followed from yet. `good_since` is when the latest request was sent that it answered well; `new_since`
    when it came back last, or took the place of another. Times are seconds.
    """

    __slots__ = (
        "failed_at",
        "failed_in_a_row",
        "failing_since",
        "failures",
        "finding",
        "good_since",
        "new_since",
        "residual",
        "signal",
        "silent",
    )

    def __init__(self) -> None:
        self.failures = self.silent = self.failed_in_a_row = 0
        self.failing_since = 0.0
        self.good_since = self.new_since = self.failed_at = float("-inf")
        self.finding: Finding | None = None
        self.residual = Residual()
        self.signal = Signal()

    def __repr__(self) -> str:
        return f"<Symptoms {self.failures} failures in a row, burn {self.signal.burn:.1f}>"

    def answered(self, since: float = 0.0) -> None:
        """Learn of a complete answer to a request that was sent then."""
        self.failures = self.failed_in_a_row = 0
        self.good_since = max(self.good_since, since)
        self.residual.answered()

    def failed(self, now: float = 0.0, fault: Fault = Fault.ANSWER) -> None:
        """Learn of an attempt that failed."""
        silent = fault is Fault.SILENCE
        if not self.failures:
            self.failing_since, self.silent = now, 0
        self.failures += 1
        self.failed_in_a_row += 1
        self.failed_at = now
        self.silent += silent
        self.residual.failure(silent=silent)

    @property
    def are_answers(self) -> bool:
        """Whether its failures of late were answers, all but one of ten: any gateway may get such answers."""
        residual = self.residual
        return residual.silent <= _SILENT * residual.failing.hits

    def hidden(self) -> None:
        """Learn that no client notices the last failure: another backend was asked at once."""
        self.residual.hidden += 1.0

    def told(self, signal: Signal) -> bool:
        """Take what others know; return whether it can be reached again, and could not be."""
        before, self.signal = self.signal, signal
        return before.gone and not signal.gone

    def forgive(self) -> None:
        """Count failures in a row from zero, and hold no finding against it any more."""
        self.failures = 0
        self.finding = None

    def began_anew(self, now: float) -> None:
        """Learn that it is back, or has taken the place of another: what others found before is no matter of it."""
        self.new_since = now
        self.failed_in_a_row = 0
        self.finding = None

    def concerns(self, finding: Finding) -> bool:
        """Whether a finding is about the engine as it is now, and no good answer since speaks against it."""
        if finding.since < self.new_since - _SAME:
            return False
        return not finding.in_row or self.good_since <= finding.since

    def renew(self) -> None:
        """Measure it anew: what made it slow is over."""
        self.residual = Residual()

    def guilt(self, peers: Sequence[Residual]) -> str:
        """Return in words why its burn is its own doing, "" where it is not: then the load may be to blame."""
        signal = self.signal
        if signal.failing or not signal.slow:
            return signal.failing
        sickness = self.sickness(peers)
        return f"{signal.slow}: {sickness}" if sickness is not None and sickness.is_grave else ""

    def sickness(self, peers: Sequence[Residual]) -> Sickness | None:
        """Return what sets it apart from its peers, None when nothing does."""
        return self.residual.sickness(peers)

    def bears_out(self, finding: Finding, peers: Sequence[Residual]) -> bool:
        """Whether a finding is not at odds with what was seen here of late: little was, or it is as bad here."""
        residual = self.residual
        if finding.slow:
            return not residual.ttft.known or self.sickness(peers) is not None
        few = residual.failing.seen < _SEEN
        return finding.in_row or few or residual.failing.ratio >= _AS_BAD * finding.share


class OutlierState:
    """What follows for one backend: whether it is in service, and with what share.

    `ejection` is where it stands, `weight` the share of its due that it gets; a request may be `probing` it while it is
    half-open. `thresholds` are those of its pool. What moves it returns the transition, None where the state stays.
    """

    __slots__ = ("_identity", "ejection", "probing", "thresholds", "weight")

    def __init__(self, identity: str, thresholds: Thresholds = USUAL) -> None:
        self.ejection = EjectionState()
        self.weight = 1.0
        self.probing = False
        self.thresholds = thresholds
        self._identity = identity

    def __repr__(self) -> str:
        return f"<OutlierState {self.ejection.state} weight {self.weight:.2f}>"

    @property
    def wants_probe(self) -> bool:
        """Whether one request should see whether it can return."""
        return self.ejection.state is State.HALF_OPEN and not self.probing

    def follow(self, thresholds: Thresholds) -> None:
        """Take the thresholds that a reload sets; an ejection that runs keeps its end."""
        self.thresholds = thresholds

    def probe(self) -> None:
        """Learn that a request was sent to see whether it can return."""
        self.probing = True

    def probed(self) -> None:
        """Learn that this request has ended."""
        self.probing = False

    def restore(self, standing: EjectionState) -> None:
        """Take back where it stood before a restart."""
        self.ejection = standing

    def eject(self, reason: str, now: float, rng: Chance, cause: Cause, *, slow: bool = False) -> Transition | None:
        """Take it out of service."""
        return self._move(ejection.eject(self.ejection, now, reason, rng, slow=slow, by=self.thresholds), cause)

    def told(self, finding: Finding, now: float, rng: Chance) -> Transition | None:
        """Learn what another gateway has found."""
        return self._move(ejection.told(self.ejection, now, finding, rng, by=self.thresholds), Cause.PEER)

    def probe_ended(self, now: float, rng: Chance, *, good: bool, slow: bool) -> Transition | None:
        """Learn how a request that tried it went; once it is back it starts with the least share."""
        if slow or not good:
            reason = f"a request that tried it {'was slow' if good else 'failed'}"
            failed = ejection.failed(self.ejection, now, reason, rng, slow=good, by=self.thresholds)
            return self._move(failed, Cause.PROBE)
        moved = self._move(ejection.answered(self.ejection, now))
        if not self.ejection.out:
            self.weigh(1.0, now)
        return moved

    def returned(self, now: float) -> Transition | None:
        """Learn that it can be reached again."""
        return self._move(ejection.returned(self.ejection, now))

    def began(self, now: float) -> Transition | None:
        """Learn that it can be reached for the first time."""
        return self._move(ejection.began(self.ejection, now))

    def needed(self, now: float) -> Transition | None:
        """Take it back if it is only slow, or was only away: the rest of its pool has no free slot."""
        return self._move(ejection.needed(self.ejection, now))

    def unsettled(self, now: float) -> None:
        """Learn that it is in use, or cannot be used."""
        self.ejection = ejection.unsettled(self.ejection, now)

    def idled(self, seconds: float) -> None:
        """Learn that nothing in its pool was at work for so long."""
        self.ejection = ejection.idled(self.ejection, seconds)

    def elapse(self, now: float) -> Transition | None:
        """Let time end what it ends."""
        return self._move(ejection.elapse(self.ejection, now, self.thresholds))

    def weigh(self, burn: float, now: float) -> None:
        """Reckon its weight from its routing burn."""
        self.weight = ejection.weight(burn, self.ejection, now)

    def _move(self, after: EjectionState, cause: Cause | None = None) -> Transition | None:
        before, self.ejection = self.ejection, after
        return Transition(self._identity, before.state, after, cause) if after.state is not before.state else None
