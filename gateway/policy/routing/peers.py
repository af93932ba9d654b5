"""The backends of one pool, measured against each other."""

from collections.abc import Iterable, Mapping

from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import Transition
from gateway.policy.routing.fit import Fit
from gateway.policy.routing.health import Health, Signal
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.residual import Residual

POOL_HALF_LIFE = 30.0
MOST_SAMPLES, FEWEST_SAMPLES = 256, 8
"""First tokens, and answers, that are learnt from at one tick, of a whole pool and of each of its backends: more would
say the same, and keep the event loop from its work."""

SHORT = 2.0
"""Seconds without a free slot in a pool after which one that is out, but only slow or only back, is taken back."""
KEPT = 2.0
"""The routing burn up to which a backend counts as one that keeps its promises; one without traffic reads 1."""


class Peers:
    """The backends of one pool: what they have in common, and the rules that look at all of them.

    `samples` is how many of one backend are learnt from at a tick, `learnt_at` when there last was one (seconds);
    `burns` are the pool's routing burns by objective, `cost_per_hour` the price of one backend, None where there is
    none; `panic` says that ejections are ignored, and `panic_reason` why; `transitions` are those since they were last
    taken.
    """

    __slots__ = (
        "_short",
        "_ticked",
        "burns",
        "cost_per_hour",
        "learnt_at",
        "members",
        "panic",
        "panic_reason",
        "pool",
        "samples",
        "tpot",
        "transitions",
        "ttft",
    )

    def __init__(self, pool: str, now: float) -> None:
        self.pool = pool
        self.members: dict[str, Health] = {}
        self.samples = MOST_SAMPLES
        self.panic = False
        self.panic_reason = ""
        self.ttft = Fit(POOL_HALF_LIFE)
        self.tpot = Fit(POOL_HALF_LIFE)
        self.burns: Mapping[str, float] = {}
        self.cost_per_hour: float | None = None
        self.learnt_at = now
        self.transitions: list[Transition] = []
        self._ticked = now
        self._short = 0.0

    def __repr__(self) -> str:
        out = sum(health.standing.out for health in self.members.values())
        return f"<Peers {self.pool} {len(self.members)} backends {out} out{' in panic' if self.panic else ''}>"

    def follow(self, identities: Iterable[str]) -> None:
        """Hold exactly these backends; those that stay keep what is known of them."""
        self.members = {each: self.members.get(each) or Health(each, self) for each in identities}
        self.samples = max(FEWEST_SAMPLES, MOST_SAMPLES // max(1, len(self.members)))

    @property
    def is_known(self) -> bool:
        """Whether there are samples to predict from."""
        return self.ttft.samples >= 1.0

    def burn(self, objective: str) -> float:
        """Return the pool's routing burn under an objective, 1.0 while too little is known to say."""
        return self.burns.get(objective, 1.0)

    def forget(self) -> None:
        """Unlearn how slow it was: it is not any more."""
        for fit in (
            self.ttft,
            self.tpot,
            *(fit for health in self.members.values() for fit in (health.fit, health.tpot)),
        ):
            fit.forget()

    def residuals(self, of: Health) -> list[Residual]:
        """Return the residuals of everyone else."""
        return [health.residual for health in self.members.values() if health is not of]

    def slowness(self, lease: Lease, tpot: float | None) -> float:
        """Return how many times longer an answer took than the pool's models expect of the same work: the worse of its
        TTFT and its TPOT in seconds; 0.0 where neither is known."""
        ttfts, tpots = self.ttft, self.tpot
        begun = lease.ttft / ttfts.predict(lease.tokens, lease.in_flight) if ttfts.samples >= 1.0 else 0.0
        if tpot is None or tpots.samples < 1.0:
            return begun
        return max(begun, tpot / tpots.predict(0.0, lease.in_flight))

    def keep_promises(self, but: Health) -> bool:
        """Whether some backend in service, `but` this one, keeps what is promised."""
        return any(
            health.signal.burn <= KEPT
            for health in self.members.values()
            if health is not but and not (health.signal.gone or health.standing.out)
        )

    @property
    def has_room(self) -> bool:
        """Whether one more may be ejected: at most half of the pool is out at a time."""
        out = sum(health.signal.gone or health.standing.out for health in self.members.values())
        return (out + 1) * 2 <= len(self.members)

    def at_work(self, now: float) -> bool:
        """Whether some backend has produced something of late."""
        return any(health.activity.works(now) for health in self.members.values())

    def tick(self, now: float, signals: Mapping[str, Signal], rng: Chance) -> None:
        """Let time pass, and eject the backends that have to be; called a few times a second."""
        elapsed, self._ticked = now - self._ticked, now
        self.ttft.refit(elapsed)
        self.tpot.refit(elapsed)
        healths = list(self.members.values())
        for health in healths:
            health.tick(now, elapsed, signals.get(health.id, health.signal))
        members = [health.as_member() for health in healths]
        ruling = ejection.rule(members)
        self.panic, self.panic_reason = ruling.panic, ruling.reason
        self._short = self._short + elapsed if ruling.needed else 0.0
        for index in ruling.needed if self._short >= SHORT else ():
            healths[index].needed(now)
        for index in ruling.eject:
            healths[index].eject(members[index].reason, now, rng)

    def take_transitions(self) -> list[Transition]:
        """Return the transitions since the last call, in order."""
        taken, self.transitions = self.transitions, []
        return taken
