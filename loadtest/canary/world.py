"""One rollout in a simulated world: outcomes by chance, decisions by the gateway's own code."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gateway.policy.canary import findings
from gateway.policy.canary.evidence import AVAILABILITY, Evidence
from gateway.policy.canary.forecast import ENOUGH_TRAFFIC, Pace, Traffic
from gateway.policy.canary.keys import hashed
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import GATEWAY, WATCHED, Decision, Event, Phase, Rollout, Seen, decide, move
from gateway.policy.canary.track import Sample
from gateway.policy.canary.warmth import Warmth
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.objective import DAY

BUDGETS = {AVAILABILITY: 0.001, "ttft": 0.01}
FACTOR = FASTEST.factor(28 * DAY)
LEARNING = 600.0
"""Seconds of traffic before the rollout begins."""
_TICK = 10.0
_EVENTS_A_TICK = 5.0
_COLD = "candidate-0"

Rng = np.random.Generator
Bad = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Incident:
    """Both versions fail at `errors` from `at` for `seconds`."""

    at: float
    seconds: float
    errors: float


@dataclass(frozen=True)
class Clients:
    """Sticky clients, of even or heavy-tailed traffic; each fails at its own rate, unless all are alike."""

    count: int
    heavy: bool = False
    alike: bool = False


@dataclass(frozen=True)
class World:
    """What happens: `times` is how much more often the candidate fails than stable, at `errors`; `late` is the share
    of late answers of either, by input class; `mix` are the shares of those classes; `cold` seconds long nearly all
    answers of a fresh candidate are late.
    """

    rate: float
    errors: float
    times: float = 1.0
    late: tuple[float, float, float] = (0.003, 0.003, 0.003)
    mix: tuple[float, float, float] = (1.0, 0.0, 0.0)
    incidents: tuple[Incident, ...] = ()
    clients: Clients | None = None
    cold: float = 0.0
    mixed_clients: bool = False

    def failing(self, now: float) -> tuple[float, float]:
        """Return how often stable and the candidate fail now."""
        shared = max((each.errors for each in self.incidents if each.at <= now < each.at + each.seconds), default=0.0)
        candidate = min(0.95, self.errors * self.times)
        return 1 - (1 - shared) * (1 - self.errors), 1 - (1 - shared) * (1 - candidate)


@dataclass
class Ended:
    """How a rollout ended, after how many seconds, and how many had been predicted."""

    phase: Phase
    reason: str
    seconds: float
    predicted: float
    bad_served: int = 0
    history: list[Rollout] = field(default_factory=list)


class Crowd:
    """Sticky clients of one world."""

    def __init__(self, rng: Rng, world: World, clients: Clients) -> None:
        weights = 1 / np.arange(1, clients.count + 1) if clients.heavy else np.ones(clients.count)
        self.weights = weights / weights.sum()
        self.places = rng.random(clients.count) * 100
        self.keys = [hashed(b"%d" % number) for number in range(clients.count)]
        skill = np.ones(clients.count) if clients.alike else rng.gamma(1.0, 1.0, clients.count)
        self.skill = skill / max(1e-9, float((skill * self.weights).sum()))
        if world.mixed_clients:
            self.classes = [rng.dirichlet(np.array(world.mix) * 2 + 1e-3) for _ in range(clients.count)]
        else:
            self.classes = [np.array(world.mix)] * clients.count


class Simulation:
    """A rollout with a plan; `run` lets time pass until it has ended or cannot go on."""

    def __init__(self, rng: Rng, world: World, plan: Plan) -> None:
        self._rng = rng
        self._world = world
        self._plan = plan
        self._evidence = Evidence(BUDGETS, FACTOR)
        self._pace = Pace()
        self._warmth = Warmth(plan.warm_up, plan.warm_up_time)
        self._crowd = Crowd(rng, world, world.clients) if world.clients is not None else None
        self._usual = {AVAILABILITY: (0, 0), "ttft": (0, 0)}
        self._tick = max(_TICK, _EVENTS_A_TICK / world.rate)
        self._bad_served = 0

    def run(self, horizon: float) -> Ended:
        """Return how the rollout ended within `horizon` seconds of its start."""
        now, plan = -max(LEARNING, ENOUGH_TRAFFIC / self._world.rate), self._plan
        while now < 0:
            self._pass(now, 0.0, live=False)
            now += self._tick
        self._evidence = Evidence(BUDGETS, FACTOR, self._usual)
        rollout = move(Rollout(), Event.START, 0.0, actor=GATEWAY, decision=Decision(None, "start"))
        rollout = self._decide(rollout, 0.0)
        predicted = self._traffic(0.0).rest(plan, rollout.share)
        history, now = [rollout], 0.0
        while now < horizon and rollout.phase is Phase.STEP:
            self._pass(now, rollout.share, live=True)
            now += self._tick
            after = self._decide(rollout, now)
            if after is not rollout:
                history.append(after)
                rollout = after
        return Ended(rollout.phase, rollout.reason, now, predicted, self._bad_served, history)

    def _decide(self, rollout: Rollout, now: float) -> Rollout:
        said, must_go = self._evidence.guard(now) if rollout.is_live else (None, False)
        seen = Seen(
            worse=findings.regression_reason(self._evidence),
            guard=said if must_go else None,
            doubt=findings.doubt(self._evidence),
            traffic=self._traffic(now),
            watched=WATCHED,
        )
        decision = decide(self._plan, rollout, seen, now)
        if decision.event is None:
            return rollout
        if decision.event is Event.ADVANCE:
            self._evidence.begin_step()
        return move(rollout, decision.event, now, actor=GATEWAY, decision=decision)

    def _traffic(self, now: float) -> Traffic:
        return Traffic(self._pace.rate(now), self._evidence.standings(self._usual), self._evidence.requests)

    def _pass(self, now: float, share: float, *, live: bool) -> None:
        requests = int(self._rng.poisson(self._world.rate * self._tick))
        if not requests:
            return
        self._pace.add(now + self._tick, requests)
        if self._crowd is not None:
            self._by_client(self._crowd, requests, now, share, live=live)
        else:
            self._by_chance(requests, now, share, live=live)

    def _by_chance(self, requests: int, now: float, share: float, *, live: bool) -> None:
        rng, world = self._rng, self._world
        mine = int(rng.binomial(requests, share / 100)) if share else 0
        for candidate, count in ((False, requests - mine), (True, mine)):
            errors = world.failing(now)[candidate]
            for number, each in enumerate(rng.multinomial(count, world.mix)) if count else ():
                if each:
                    bad = int(rng.binomial(each, errors))
                    fine = int(each) - bad
                    late = int(rng.binomial(fine, self._late(number, now, candidate=candidate)))
                    self._take(Sample(candidate, now, number), (fine, bad), (fine - late, late), None, live=live)

    def _by_client(self, crowd: Crowd, requests: int, now: float, share: float, *, live: bool) -> None:
        rng, world = self._rng, self._world
        whose = rng.choice(len(crowd.keys), size=requests, p=crowd.weights)
        on_candidate, failing = (crowd.places[whose] < share).tolist(), world.failing(now)
        skills, chances = crowd.skill[whose].tolist(), (rng.random(requests).tolist(), rng.random(requests).tolist())
        for client, candidate, skill, chance, chance_late in zip(
            whose.tolist(), on_candidate, skills, *chances, strict=True
        ):
            number = int(rng.choice(3, p=crowd.classes[client])) if world.mixed_clients else 0
            bad = int(chance < min(0.95, failing[candidate] * skill))
            late = int(not bad and chance_late < self._late(number, now, candidate=candidate))
            timely = (int(not bad) - late, late)
            self._take(Sample(candidate, now, number), (1 - bad, bad), timely, crowd.keys[client], live=live)

    def _late(self, number: int, now: float, *, candidate: bool) -> float:
        return 0.95 if candidate and now < self._world.cold else self._world.late[number]

    def _take(
        self, sample: Sample, served: tuple[int, int], timely: tuple[int, int], key: int | None, *, live: bool
    ) -> None:
        if not live:
            self._usual = {
                sli: (known[0] + more[0], known[1] + more[1])
                for (sli, known), more in zip(self._usual.items(), (served, timely), strict=True)
            }
            return
        self._bad_served += served[1] * sample.candidate
        self._evidence.take(AVAILABILITY, *served, sample, key)
        if sample.candidate:
            for _ in range(min(sum(served), self._plan.warm_up)):
                self._warmth.answered(_COLD, sample.at)
        if sum(timely) and (not sample.candidate or self._warmth.is_warm(_COLD, sample.at)):
            self._evidence.take("ttft", *timely, sample, key)
