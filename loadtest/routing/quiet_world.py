"""Quiet services in virtual time: few requests, short spells in which engines are slow or fail, and three gateways.

Tidegate is played by its own policy: choice, ejection, admission, retries, probes. nginx and HAProxy are models of what
`loadtest/scenarios/conf` sets up: least_conn with passive marks, leastconn with checks of /health.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from gateway.control.outlier_detection import signal
from gateway.policy.admission.classes import CLASSES
from gateway.policy.routing import readiness
from gateway.policy.routing.choose import choose
from gateway.policy.routing.readiness import Readiness, State
from gateway.policy.routing.retry import MAX_RETRIES, RetryBudget, may_retry, pause
from gateway.policy.slo.judge import meets
from gateway.policy.slo.objective import DEFAULT
from gateway.policy.slo.windows import TICK
from gateway.sim.engine import Sequence as Work
from gateway.sim.engine import Step
from gateway.sim.profiles import GPU, Profile
from loadtest.admission.world import Admission, Overloaded
from loadtest.routing.world import Request, Server, Workload

PROFILE: Profile = replace(GPU, step_base=0.03, prefix_caching=False)
PROBE_EVERY, PROBE_TIMEOUT = 1.0, 2.0
FIRST_TOKEN = 30.0
NGINX_MARK = 10.0
"""Seconds for which nginx leaves a server alone after one failure (`max_fails=1 fail_timeout=10s`, its defaults)."""
NGINX_TRIES, HAPROXY_TRIES = 3, 3
HAPROXY_RISE, HAPROXY_FALL = 2, 2
TIDEGATE, NGINX, HAPROXY = "Tidegate", "nginx least_conn", "HAProxy leastconn"


@dataclass(frozen=True)
class Spell:
    """What is wrong with some engines (by number) for some seconds from `at` on.

    `slow` times slower, `failing` the share of calls that get 500, `paused` nothing moves and no probe is answered,
    `down` connections are refused and streams cut, `unready` /health and calls say 503, streams go on.
    """

    at: float
    seconds: float
    engines: tuple[int, ...]
    slow: float = 1.0
    failing: float = 0.0
    paused: bool = False
    down: bool = False
    unready: bool = False


@dataclass(frozen=True)
class Arrival:
    """One request: when it comes, and its lengths in tokens."""

    at: float
    prompt: int
    output: int


def arrivals(seed: int, rate: float, seconds: float) -> list[Arrival]:
    """Return the requests of one seed, the same for every gateway."""
    rng, at, found = Random(f"arrivals {seed}"), 0.0, []
    while (at := at + rng.expovariate(rate)) < seconds:
        found.append(Arrival(at, rng.randint(100, 1500), rng.randint(10, 60)))
    return found


class Quiet(Overloaded):
    """One gateway before its engines under one plan of spells."""

    def __init__(self, gateway: str, seed: int, load: Sequence[Arrival], spells: Sequence[Spell], count: int) -> None:
        self.gateway = gateway
        self._seed = seed
        self.budget = RetryBudget()
        self._turn = 0
        self._load = load
        super().__init__(
            seed,
            Workload(1.0),
            Admission(on=gateway == TIDEGATE),
            objective=DEFAULT,
            servers=count,
            profile=PROFILE,
            shares={"standard": 1.0},
            classes=CLASSES,
        )
        self.readiness = {server.name: Readiness(State.READY, "probes pass") for server in self.servers}
        self.passes = dict.fromkeys(self.readiness, HAPROXY_RISE)
        self.marked = dict.fromkeys(self.readiness, 0.0)
        self.state: dict[str, Spell] = {}
        self.work: dict[int, Work] = {}
        self.tries: dict[int, int] = {}
        self.stories: list[str] = []
        for arrival in load:
            self.at(arrival.at, partial(self._come, arrival))
        for spell in spells:
            self.at(spell.at, partial(self._befall, spell))
            self.at(spell.at + spell.seconds, partial(self._lift, spell))
        for number, server in enumerate(self.servers):
            self.at(0.1 * number, partial(self._probe, server))

    def missed(self, request: Request) -> bool:
        """Whether a user would say that this request missed its objective."""
        if request.ended < 0 or request.failed:
            return True
        ttft = request.first - request.arrived
        tpot = (request.ended - request.first) / max(1, request.output - 1)
        return not meets(DEFAULT, ttft, tpot, request.prompt)

    # What happens to engines.

    def _befall(self, spell: Spell) -> None:
        for number in spell.engines:
            server = self.servers[number]
            self.state[server.name] = spell
            server.slow, server.error_rate = spell.slow, spell.failing
            if spell.unready:
                server.error_rate = 1.0
            if spell.paused:
                server.frozen_until = self.now + spell.seconds
            if spell.down:
                for request in [each for each in self.requests if each.server is server and each.lease is not None]:
                    self._cut(request, server)

    def _lift(self, spell: Spell) -> None:
        for number in spell.engines:
            server = self.servers[number]
            if self.state.get(server.name) is spell:
                del self.state[server.name]
                server.slow, server.error_rate = 1.0, 0.0

    def _cut(self, request: Request, server: Server) -> None:
        work = self.work.pop(request.number, None)
        if work is not None:
            server.engine.abort(work)
        if request.first >= 0:
            self._end(request, server, None)
            request.failed = True
        else:
            self._fail(request, server)

    def _probe(self, server: Server) -> None:
        """Ask /health as each gateway does."""
        state = self.state.get(server.name)
        timeout = PROBE_TIMEOUT if self.gateway == TIDEGATE else PROBE_EVERY
        if state is not None and state.paused and self.now + timeout < server.frozen_until:
            self.at(self.now + timeout, lambda: self._probed(server, well=False, silent=True))
            return
        self._probed(server, well=state is None or not (state.down or state.unready), silent=False)

    def _probed(self, server: Server, *, well: bool, silent: bool) -> None:
        before = self.readiness[server.name]
        after = readiness.probe_passed(before) if well else readiness.probe_failed(before, "probe", silent=silent)
        if self.gateway == HAPROXY:
            self.passes[server.name] = self.passes[server.name] + 1 if well else 0
            if well and before.state is State.NOT_READY and self.passes[server.name] < HAPROXY_RISE:
                after = before
        self.readiness[server.name] = after
        self.at(self.now + PROBE_EVERY, lambda: self._probe(server))

    # What gateways do.

    def _come(self, arrival: Arrival) -> None:
        request = Request(len(self.requests), arrival.prompt, arrival.output, self.now)
        self.requests.append(request)
        self.tries[request.number] = 0
        self.budget.request(self.now)
        self._send(request)

    def _arrive(self) -> None:
        """Requests are known beforehand."""

    def _luck(self, request: Request) -> float:
        """The same for every gateway (common random numbers), so that it decides between none of them."""
        return Random(f"luck {self._seed} {request.number} {self.tries[request.number]}").random()

    def _candidates(self, request: Request) -> list[Server]:
        others = [server for server in self.servers if server not in request.tried]
        if self.gateway == NGINX:
            return [server for server in others if len(self.servers) == 1 or self.marked[server.name] <= self.now]
        ready = [server for server in others if self.readiness[server.name].eligible]
        if ready or request.tried or self.gateway != TIDEGATE:
            return ready
        return [server for server in others if self.readiness[server.name].silent]

    def _begin(self, request: Request) -> bool:
        candidates = self._candidates(request)
        if not candidates:
            request.failed = True  # no backend is ready
            return True
        if self.gateway == TIDEGATE:
            choice = choose(candidates, request.prompt, self.now, self.rng, self.guest(request).claim)
            if choice is None:
                return False
            self._start(request, choice.winner)
            return True
        lowest = min(server.health.slots.in_flight for server in candidates)
        tied = [server for server in candidates if server.health.slots.in_flight == lowest]
        self._turn += 1
        self._start(request, tied[self._turn % len(tied)])
        return True

    def _start(self, request: Request, server: Server) -> None:
        self.tries[request.number] += 1
        state = self.state.get(server.name)
        if state is not None and state.down:
            request.server, request.sent = server, self.now
            request.tried.append(server)
            request.lease = self._lease(request, server)
            if self.gateway == TIDEGATE:
                self.readiness[server.name] = readiness.connect_failed(self.readiness[server.name], "refused")
            self.at(self.now + 0.001, lambda: self._fail(request, server))
            return
        super()._start(request, server)
        works = (*server.engine.waiting, *server.engine.running)
        work = next((each for each in works if each.adapter == str(request.number)), None)
        if work is not None:
            self.work[request.number] = work

    def _fail(self, request: Request, server: Server) -> None:
        if request.lease is None:
            return
        state = self.state.get(server.name)
        if self.gateway == TIDEGATE and state is not None and state.unready:
            busy = server.health.activity.works(self.now)
            server.health.refused(self.now, None, busy=busy, request=request)
        self._end(request, server, None)
        if self.gateway == TIDEGATE:
            again = may_retry(worth=True, attempts=self.tries[request.number], committed=False, time_left=60.0)
            if again and self._candidates(request) and self.budget.take(self.now):
                self.at(self.now + pause(self.tries[request.number], self.rng), lambda: self._again(request))
            else:
                request.failed = True
            return
        self.marked[server.name] = self.now + NGINX_MARK
        most = NGINX_TRIES if self.gateway == NGINX else HAPROXY_TRIES
        if self.tries[request.number] < most and self._candidates(request):
            self._begin(request)
        else:
            request.failed = True

    def _again(self, request: Request) -> None:
        if not self._begin(request):
            self._enter(request)

    def _tick(self) -> None:
        signals = {}
        for server in self.servers:
            for series in server.series:
                series.windows.advance(self.now)
            signals[server.name] = signal(server.series, gone=not self.readiness[server.name].eligible)
        if self.gateway == TIDEGATE:
            self.peers.tick(self.now, signals, self.rng)
            for each in self.peers.take_transitions():
                self.stories.append(f"{self.now:6.1f} {each.backend} {each.after.state}: {each.after.reason}")
            self._hold_deadlines()
        for watch in self.every_tick:
            watch()
        self.at(self.now + TICK, self._tick)

    def _hold_deadlines(self) -> None:
        """Time out first tokens, and leave engines that have gone."""
        for request in self.requests:
            server = request.server
            if request.lease is None or request.first >= 0 or server is None:
                continue
            late = self.now - request.sent > FIRST_TOKEN
            if late or (self.readiness[server.name].is_lost() and self._may_move(request)):
                self._cut(request, server)

    def _may_move(self, request: Request) -> bool:
        return (
            self.tries[request.number] <= MAX_RETRIES
            and self.budget.allows(self.now)
            and any(
                each.health.available(self.now) and each.health.takes(self.guest(request).claim, self.now)
                for each in self._candidates(request)
            )
        )

    def _stepped(self, server: Server, step: Step) -> None:
        super()._stepped(server, step)
        for number in [number for number, work in self.work.items() if not work.alive]:
            del self.work[number]
            request = self.requests[number]
            if request.ended >= 0 and request.server is not None:
                request.server.health.activity.answered(self.now, self.now - request.sent)


def counted(world: Quiet, since: float, until: float) -> tuple[int, int]:
    """Return how many of the requests due in a span were missed, and how many there were."""
    due = [request for request in world.requests if since <= request.arrived < until]
    return sum(map(world.missed, due)), len(due)
