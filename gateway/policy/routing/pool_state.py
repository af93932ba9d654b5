"""The backends of one pool, measured against each other."""

from collections.abc import Iterable, Mapping

from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import USUAL, Member, Thresholds, Transition
from gateway.policy.routing.health import Health
from gateway.policy.routing.latency_model import PoolLatency
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.residual import Residual

SHORT = 2.0
"""Seconds without a free slot in a pool after which one that is out, but only slow or only back, is taken back."""
KEPT = 2.0
"""The routing burn up to which a backend counts as one that keeps its promises; one without traffic reads 1."""


class PoolState:
    """The backends of one pool: what they have in common, and the rules that look at all of them.

    `latency` is what their models lean on; `burns` are the pool's routing burns by objective, `cost_per_hour` the price
    of one backend, None where there is none; `thresholds` say when one is ejected; `panic` says that ejections are
    ignored, and `panic_reason` why.
    """

    __slots__ = (
        "_short",
        "_ticked",
        "_transitions",
        "burns",
        "cost_per_hour",
        "latency",
        "members",
        "panic",
        "panic_reason",
        "pool",
        "thresholds",
    )

    def __init__(self, pool: str, now: float) -> None:
        self.pool = pool
        self.members: dict[str, Health] = {}
        self.latency = PoolLatency(now)
        self.panic = False
        self.panic_reason = ""
        self.burns: Mapping[str, float] = {}
        self.cost_per_hour: float | None = None
        self.thresholds = USUAL
        self._transitions: list[Transition] = []
        self._ticked = now
        self._short = 0.0

    def __repr__(self) -> str:
        out = sum(health.outlier.ejection.out for health in self.members.values())
        return f"<PoolState {self.pool} {len(self.members)} backends {out} out{' in panic' if self.panic else ''}>"

    def follow(
        self, identities: Iterable[str], *, cost_per_hour: float | None = None, thresholds: Thresholds = USUAL
    ) -> None:
        """Hold exactly these backends; those that stay keep what is known of them."""
        self.cost_per_hour = cost_per_hour
        self.thresholds = thresholds
        self.members = {each: self.members.get(each) or Health(each, self) for each in identities}
        for health in self.members.values():
            health.outlier.follow(thresholds)
        self.latency.share_among(len(self.members))

    def burn(self, objective: str) -> float:
        """Return the pool's routing burn under an objective, 1.0 while too little is known to say."""
        return self.burns.get(objective, 1.0)

    def take_burns(self, burns: Mapping[str, float]) -> None:
        """Take the pool's routing burns by objective."""
        self.burns = burns

    def forget(self) -> None:
        """Unlearn how slow it was: it is not any more."""
        self.latency.forget()
        for health in self.members.values():
            health.latency.forget()

    def residuals(self, of: Health) -> list[Residual]:
        """Return the residuals of everyone else."""
        return [health.symptoms.residual for health in self.members.values() if health is not of]

    def keep_promises(self, but: Health) -> bool:
        """Whether some backend in service, `but` this one, keeps what is promised."""
        return any(
            health.symptoms.signal.burn <= KEPT
            for health in self.members.values()
            if health is not but and not (health.symptoms.signal.gone or health.outlier.ejection.out)
        )

    @property
    def has_room(self) -> bool:
        """Whether one more may be ejected: at most half of the pool is out at a time, or fewer by its thresholds."""
        out = sum(health.symptoms.signal.gone or health.outlier.ejection.out for health in self.members.values())
        return out < self.thresholds.most_out(len(self.members))

    def at_work(self, now: float) -> bool:
        """Whether some backend has produced something of late."""
        return any(health.activity.works(now) for health in self.members.values())

    def tick(self, now: float, signals: Mapping[str, Signal], rng: Chance) -> None:
        """Let time pass, and eject the backends that have to be; called a few times a second."""
        elapsed, self._ticked = now - self._ticked, now
        self.latency.refit(elapsed)
        healths = list(self.members.values())
        for health in healths:
            health.tick(now, elapsed, signals.get(health.id, health.symptoms.signal))
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
        signal, reason = symptoms.signal, symptoms.guilt(self.residuals(health))
        works = max(health.activity.worked_at, signal.progressed) > standing.since
        return Member(
            standing,
            signal.gone,
            burning=signal.burns,
            guilty=bool(reason),
            reason=reason,
            slow=not signal.failing,
            carries=health.slots.in_flight,
            spare=health.slots.spare,
            works=works,
        )

    def note(self, transition: Transition) -> None:
        """Remember a transition of one of its backends."""
        self._transitions.append(transition)

    def take_transitions(self) -> list[Transition]:
        """Return the transitions since the last call, in order."""
        taken, self._transitions = self._transitions, []
        return taken
