"""The backends of one pool, measured against each other."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import USUAL, Finding, Member, Thresholds
from gateway.policy.routing.health import Health
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.residual import compare
from gateway.policy.routing.vitals import PoolVitals
from gateway.policy.routing.waking import ScaleFromZero, Waking

_NONE: Final[Mapping[str, Health]] = {}
SHORT: Final = 2.0
"""Seconds without a free slot in a pool after which one that is out, but only slow or only back, is taken back."""


class PoolState(PoolVitals):
    """The backends of one pool, and the rules that look at all of them; `members` are their healths by id.

    `waking` is None for a pool that does not scale from zero.
    """

    __slots__ = ("_short", "_ticked", "members", "waking")

    def __init__(self, pool: str, now: float) -> None:
        super().__init__(pool, now)
        self.members: dict[str, Health] = {}
        self._ticked = now
        self._short = 0.0
        self.waking: Waking | None = None

    def __repr__(self) -> str:
        out = sum(health.outlier.ejection.out for health in self.members.values())
        return f"<PoolState {self.pool} {len(self.members)} backends {out} out{' in panic' if self.panic else ''}>"

    def follow(
        self,
        identities: Iterable[str],
        *,
        cost_per_hour: float | None = None,
        thresholds: Thresholds = USUAL,
        prepared: Mapping[str, Health] = _NONE,
        scale_from_zero: ScaleFromZero | None = None,
    ) -> None:
        """Hold exactly these backends: those that were `prepared`; others that stay keep what is known of them."""
        self.cost_per_hour = cost_per_hour
        self.thresholds = thresholds
        known = {**self.members, **prepared}
        self.members = {each: known.get(each) or Health(each, self) for each in identities}
        self.vitals = [*self.members.values()]
        for health in self.members.values():
            health.outlier.follow(thresholds)
        self.latency.share_among(len(self.members))
        self._scale(scale_from_zero)

    def _scale(self, settings: ScaleFromZero | None) -> None:
        if settings is None or self.waking is None:
            self.waking = None if settings is None else Waking(settings)
        else:
            self.waking.settings = settings

    def told(self, identity: str, finding: Finding, now: float, rng: Chance) -> None:
        """Learn what another gateway has found about a backend, which may not be one of these.

        One that is in service stays there until the rules for all of them say.
        """
        health = self.members.get(identity)
        if health is None or finding.until <= now:
            return
        symptoms, outlier = health.symptoms, health.outlier
        if not symptoms.concerns(finding):
            return
        if not outlier.ejection.out:
            symptoms.finding = finding
        elif (moved := outlier.told(finding, now, rng)) is not None:
            symptoms.forgive()
            self.note(moved)

    def tick(self, now: float, signals: Mapping[str, Signal], rng: Chance) -> None:
        """Let time pass, and eject the backends that have to be; called a few times a second."""
        for _ in self.ticking(now, signals, rng):
            pass

    def ticking(self, now: float, signals: Mapping[str, Signal], rng: Chance) -> Iterator[None]:
        """Do so in small pieces: a backend at a time, and then all of them together."""
        elapsed, self._ticked = now - self._ticked, now
        self.latency.refit(elapsed)
        healths, at_work = list(self.members.values()), self.at_work(now)
        for health in healths:
            health.tick(now, elapsed, signals.get(health.id, health.symptoms.signal), at_work=at_work)
            yield
        self.note_half_open()
        compare([health.symptoms.residual for health in healths])
        yield
        if all(health.is_well for health in healths):
            self.panic, self.panic_reason, self._short = False, "", 0.0
            return
        members = [self._member(health) for health in healths]
        ruling = ejection.rule(members, self.thresholds)
        self.panic, self.panic_reason = ruling.panic, ruling.reason
        self._short = self._short + elapsed if ruling.needed else 0.0
        for index in ruling.needed if self._short >= SHORT else ():
            healths[index].needed(now)
        for index in ruling.eject:
            healths[index].eject(members[index].reason, now, rng)

    def _member(self, health: Health) -> Member:
        """Return a backend as the rules for its pool see it."""
        symptoms, standing = health.symptoms, health.outlier.ejection
        signal = symptoms.signal
        finding, peers = symptoms.finding, self.residuals(health)
        reason = symptoms.guilt(peers) if signal.burns else ""
        told = not reason and finding is not None and symptoms.bears_out(finding, peers)
        works = max(health.activity.worked_at, signal.progressed) > standing.since
        return Member(
            standing,
            signal.gone,
            burning=signal.burns or told,
            guilty=bool(reason) or told,
            reason=reason,
            slow=finding.slow if told and finding is not None else not signal.failing,
            carries=health.slots.in_flight,
            spare=health.slots.spare,
            works=works,
        )
