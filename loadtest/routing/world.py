"""Engines, requests and the gateway's own routing in virtual time: an hour of traffic in seconds, the same every time.

The engines are the simulated vLLM's, without their HTTP; what chooses between them is `gateway.policy.routing`.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

from gateway.control.outlier_detection import signal
from gateway.exchange import Verdict
from gateway.policy.routing.choose import choose
from gateway.policy.routing.health import Health
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.slo.judge import is_met, meets
from gateway.policy.slo.objective import Objective, Sli
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import TICK, Windows
from gateway.sim.engine import Engine, Sequence, Step
from gateway.sim.profiles import GPU, Profile


@dataclass(eq=False)
class Server:
    """One engine with faults: `slow` multiplies its steps, `error_rate` is the share of calls that fail at once,
    `freeze` = (seconds, seconds between) stops all its streams now and then."""

    name: str
    engine: Engine
    health: Health
    series: list[Series]
    slow: float = 1.0
    error_rate: float = 0.0
    freeze: tuple[float, float] | None = None
    stepping: bool = False
    frozen_until: float = 0.0
    next_freeze: float = 0.0


@dataclass(eq=False)
class Request:
    """One request of so many tokens; times in seconds, negative until they happen."""

    number: int
    prompt: int
    output: int
    arrived: float
    lease: Lease | None = None
    server: Server | None = None
    sent: float = -1.0
    first: float = -1.0
    ended: float = -1.0
    failed: bool = False
    tried: list[Server] = field(default_factory=list)


Strategy = Callable[["World", Request, list[Server]], Server]


def by_burn(world: "World", request: Request, servers: list[Server]) -> Server:
    """The gateway's own choice."""
    choice = choose(servers, request.prompt, world.now, world.rng)
    assert choice is not None, "nothing is limited here"
    return choice.winner


def least_in_flight(world: "World", _: Request, servers: list[Server]) -> Server:
    """The fewest requests in progress."""
    lowest = min(server.health.slots.in_flight for server in servers)
    return world.rng.choice([server for server in servers if server.health.slots.in_flight == lowest])


def round_robin(_: "World", request: Request, servers: list[Server]) -> Server:
    """One after the other."""
    return servers[request.number % len(servers)]


STRATEGIES: dict[str, Strategy] = {"burn": by_burn, "round robin": round_robin, "least in flight": least_in_flight}


@dataclass
class Workload:
    """What arrives: requests per second, and how long they are (means; lengths vary by a half either way)."""

    rate: float
    prompt: int = 200
    output: int = 60


class World:
    """Servers of one pool under load. `at` schedules changes; `run` lets time pass."""

    def __init__(
        self,
        seed: int,
        objective: Objective,
        workload: Workload,
        *,
        servers: int = 4,
        profile: Profile = GPU,
        strategy: Strategy = by_burn,
    ) -> None:
        self.now = 0.0
        self.rng = Random(seed)
        self.objective = objective
        self.workload = workload
        self.requests: list[Request] = []
        self.every_tick: list[Callable[[], None]] = []
        self._strategy = strategy
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.peers = PoolState("gpu", 0.0)
        names = [f"gpu/{letter}" for letter in "abcdefgh"[:servers]]
        self.peers.follow(names)
        self.servers = [self._server(name, profile) for name in names]
        self.at(0.0, self._arrive)
        self.at(TICK, self._tick)

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a moment."""
        heapq.heappush(self._events, (when, next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until

    def _server(self, name: str, profile: Profile) -> Server:
        series = [
            Series(SeriesKey(Kind.BACKEND, name, self.objective.name, sli), target, Windows(0.0, self.objective.window))
            for sli, target in self.objective.targets.items()
        ]
        return Server(name, Engine(profile, Random(self.rng.random())), self.peers.members[name], series)

    def _length(self, mean: int) -> int:
        return max(2, int(mean * self.rng.uniform(0.5, 1.5)))

    def _arrive(self) -> None:
        workload = self.workload
        request = Request(len(self.requests), self._length(workload.prompt), self._length(workload.output), self.now)
        self.requests.append(request)
        self._send(request)
        self.at(self.now + self.rng.expovariate(workload.rate), self._arrive)

    def _send(self, request: Request) -> None:
        others = [server for server in self.servers if server not in request.tried]
        self._start(request, self._strategy(self, request, others))

    def _start(self, request: Request, server: Server) -> None:
        request.server, request.sent = server, self.now
        request.tried.append(server)
        request.lease = self._lease(request, server)
        if server.error_rate and self._luck(request) < server.error_rate:
            self.at(self.now + 0.001, lambda: self._fail(request, server))
            return
        sequence = Sequence(request.prompt, request.output, self.now)
        sequence.adapter = str(request.number)
        server.engine.submit(sequence)
        if not server.stepping:
            self._step(server)

    def _luck(self, request: Request) -> float:  # noqa: ARG002 - the brownout overrides it, by request
        """Return what decides whether a call fails, from 0 to 1."""
        return self.rng.random()

    def _lease(self, request: Request, server: Server) -> Lease:
        return server.health.lease(request.prompt)

    def _fail(self, request: Request, server: Server) -> None:
        self._end(request, server, None)
        if len(request.tried) <= 2:
            server.health.symptoms.hidden()
            self._send(request)
        else:
            request.failed = True

    def _step(self, server: Server) -> None:
        if server.freeze is not None and self.now >= server.next_freeze:
            seconds, between = server.freeze
            server.frozen_until = self.now + seconds
            server.next_freeze = server.frozen_until + between
        start = max(self.now, server.frozen_until)
        step = server.engine.schedule(self.now)
        server.stepping = step is not None
        if step is not None:
            self.at(start + step.duration * server.slow, lambda: self._stepped(server, step))

    def _stepped(self, server: Server, step: Step) -> None:
        for sequence in server.engine.complete(step, self.now):
            request = self.requests[int(sequence.adapter)]
            if sequence.produced == 1:
                request.first = self.now
                if request.lease is not None:
                    server.health.began(request.lease, self.now - request.sent)
            if sequence.finished:
                request.ended = self.now
                tpot = (self.now - request.first) / (request.output - 1)
                self._end(request, server, (request.first - request.sent, tpot))
        self._step(server)

    def _end(self, request: Request, server: Server, answer: tuple[float, float] | None) -> None:
        for series in server.series:
            if series.sli == Sli.AVAILABILITY:
                good = answer is not None
            elif answer is None:
                continue
            else:
                good = is_met(series.target, answer[series.sli == Sli.TPOT], request.prompt)
            series.windows.good += good
            series.windows.bad += not good
        lease, request.lease = request.lease, None
        assert lease is not None
        lease.release()
        self._freed(request)
        if answer is None:
            server.health.ended(lease, Verdict.BAD, self.now, self.rng)
        else:
            met = meets(self.objective, *answer, request.prompt)
            server.health.ended(lease, Verdict.GOOD, self.now, self.rng, tpot=answer[1], met=met)

    def _freed(self, request: Request) -> None:
        """No request waits here."""

    def _tick(self) -> None:
        signals = {}
        for server in self.servers:
            for series in server.series:
                series.windows.advance(self.now)
            signals[server.name] = signal(
                server.series, gone=False, hidden=server.health.symptoms.residual.hidden_share
            )
        self.peers.tick(self.now, signals, self.rng)
        for watch in self.every_tick:
            watch()
        self.at(self.now + TICK, self._tick)
