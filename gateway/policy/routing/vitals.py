"""What is known of one backend, by part, and of all backends of one pool: below the rules that act on it."""

from collections.abc import Mapping
from typing import Final

from gateway.policy.routing.activity import Activity
from gateway.policy.routing.cost_meter import CostMeter
from gateway.policy.routing.ejection import USUAL, State, Thresholds, Transition
from gateway.policy.routing.latency_model import LatencyModel, PoolLatency
from gateway.policy.routing.outlier import OutlierState, Symptoms
from gateway.policy.routing.readiness import Changes
from gateway.policy.routing.residual import Residual
from gateway.policy.routing.slots import Slots

MET_BURN: Final = 2.0
"""The routing burn up to which a backend counts as one that meets its objectives; one without traffic reads 1."""


class Vitals:
    """The parts of one backend, each written through its own methods alone.

    `slots` are the work it holds and may hold, `latency` how long it takes, `activity` when it last worked, `backoff`
    until when it is left alone, `symptoms` what speaks against it, `outlier` whether it is in service for all that.
    `costs` divides what it costs among those that hold it.
    """

    __slots__ = ("activity", "backoff", "costs", "id", "latency", "outlier", "slots", "symptoms")

    def __init__(self, identity: str, latency: PoolLatency, thresholds: Thresholds) -> None:
        self.id = identity
        self.slots = Slots()
        self.costs = CostMeter()
        self.latency = LatencyModel(latency)
        self.activity = Activity()
        self.backoff = self.activity.backoff
        self.symptoms = Symptoms()
        self.outlier = OutlierState(identity, thresholds)


class PoolVitals:
    """What the backends of one pool have in common, and what each sees of the others.

    `latency` is what their models lean on, `vitals` what is known of each; `burns` are the pool's routing burns by
    objective, `cost_per_hour` the price of one backend, None where there is none; `thresholds` say when one is ejected.
    `changes` are counted of which may be sent requests. `panic` says that ejections are ignored, and `panic_reason`
    why; `half_open` are those that were at the last tick. `discovery` says where its backends are found, and what was
    found there, "" where the routes name all of them.
    """

    __slots__ = (
        "_transitions",
        "burns",
        "changes",
        "cost_per_hour",
        "discovery",
        "half_open",
        "latency",
        "panic",
        "panic_reason",
        "pool",
        "thresholds",
        "vitals",
    )

    def __init__(self, pool: str, now: float) -> None:
        self.pool = pool
        self.vitals: list[Vitals] = []
        self.half_open: list[Vitals] = []
        self.changes = Changes()
        self.latency = PoolLatency(now)
        self.burns: Mapping[str, float] = {}
        self.panic = False
        self.panic_reason = ""
        self.discovery = ""
        self.cost_per_hour: float | None = None
        self.thresholds = USUAL
        self._transitions: list[Transition] = []

    def burn(self, objective: str) -> float:
        """Return the pool's routing burn under an objective, 1.0 while too little is known to say."""
        return self.burns.get(objective, 1.0)

    def take_burns(self, burns: Mapping[str, float]) -> None:
        """Take the pool's routing burns by objective."""
        self.burns = burns

    def forget(self) -> None:
        """Unlearn how slow it was: it is not any more."""
        self.latency.forget()
        for each in self.vitals:
            each.latency.forget()

    def residuals(self, of: Vitals) -> list[Residual]:
        """Return the residuals of everyone else."""
        return [each.symptoms.residual for each in self.vitals if each is not of]

    def meet_objectives(self, but: Vitals) -> bool:
        """Whether some backend in service, `but` this one, meets its objectives."""
        return any(
            each.symptoms.signal.burn <= MET_BURN
            for each in self.vitals
            if each is not but and not (each.symptoms.signal.gone or each.outlier.ejection.out)
        )

    @property
    def has_room(self) -> bool:
        """Whether one more may be ejected: at most half of the pool is out at a time, or fewer by its thresholds."""
        out = sum(each.symptoms.signal.gone or each.outlier.ejection.out for each in self.vitals)
        return out < self.thresholds.most_out(len(self.vitals))

    def at_work(self, now: float) -> bool:
        """Whether some backend has produced something of late."""
        return any(each.activity.works(now) for each in self.vitals)

    @property
    def must_look_at_all(self) -> bool:
        """Whether a choice has to look at each backend: in a panic, or while a request should try one of them."""
        if not self.half_open:
            return self.panic
        return self.panic or any(each.outlier.wants_probe for each in self.half_open)

    def note_half_open(self) -> None:
        """Note which of them are half-open."""
        self.half_open = [each for each in self.vitals if each.outlier.ejection.state is State.HALF_OPEN]

    def note(self, transition: Transition) -> None:
        """Remember a transition of one of its backends."""
        self._transitions.append(transition)

    def take_transitions(self) -> list[Transition]:
        """Return the transitions since the last call, in order."""
        taken, self._transitions = self._transitions, []
        return taken
