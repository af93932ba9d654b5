"""Two pools in virtual time: GPUs, and CPUs that take what the rules give them while they are predicted to keep up."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.control.outlier_detection import pool_burns, signal
from gateway.policy.routing.choose import choose
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.pools import HYSTERESIS, Need, Option, Outlook, PoolProbe, Waiting, outlook, select
from gateway.policy.routing.rules import SPILL_AT_BURN, Rule, Span, Traits, When, first_match
from gateway.policy.slo.judge import is_met, meets
from gateway.policy.slo.objective import DEFAULT, Objective, Sli, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import TICK, Windows
from gateway.sim.profiles import CPU, GPU
from loadtest.routing.world import Request, Server, Workload, World

PRICES = {"gpu": 2.50, "cpu": 0.20}
SLOTS = {"gpu": 192, "cpu": 8}
CHAT = Objective("chat", {**DEFAULT.targets, Sli.TTFT: Target(0.99, 1.0), Sli.TPOT: Target(0.99, 0.150)})
BATCH_SECONDS = 60.0
RULES = (
    Rule(("cpu", "gpu"), When(classes=frozenset({"batch"}))),
    Rule(("cpu", "gpu"), When(prompt_tokens=Span(most=255), max_tokens=Span(most=64))),
    Rule(("gpu", "cpu")),
)
EVERYTHING_ON_GPU = (Rule(("gpu",)),)


@dataclass(frozen=True)
class Arrivals:
    """One kind of request: its share of all, mean lengths, and its class."""

    share: float
    prompt: int
    output: int
    service_class: str = "interactive"


MIX = (Arrivals(0.50, 120, 40), Arrivals(0.20, 150, 40, "batch"), Arrivals(0.30, 1000, 160))


@dataclass
class Sent:
    """What is remembered of a request: its class, how pools looked to it, where it went, the trial that it was."""

    service_class: str
    pool: str = ""
    cost: float = 0.0
    trial: PoolProbe | None = None
    was_trial: bool = False
    outlooks: list[Outlook] = field(default_factory=list)


@dataclass
class Fleet:
    """How many engines there are, and by which rules they are used."""

    gpu: int
    cpu: int
    rules: Sequence[Rule] = RULES

    @property
    def price(self) -> float:
        """What the fleet costs an hour."""
        return self.gpu * PRICES["gpu"] + self.cpu * PRICES["cpu"]


class Pools(World):
    """Open-loop load of short, batch and long requests on a fleet."""

    def __init__(self, seed: int, rate: float, fleet: Fleet, mix: Sequence[Arrivals] = MIX) -> None:
        self.sent: dict[int, Sent] = {}
        self.fleet = fleet
        self.pools: dict[str, PoolState] = {}
        self.of_pool: dict[str, list[Server]] = {}
        self.series: dict[str, list[Series]] = {}
        self.trials = {(place, pool): PoolProbe() for place in range(len(fleet.rules)) for pool in PRICES}
        self._mix = mix
        self._waiting: deque[Request] = deque()
        super().__init__(seed, CHAT, Workload(rate), servers=max(1, fleet.gpu), profile=GPU)
        self._pool("gpu", self.peers, self.servers)
        cpus = PoolState("cpu", 0.0)
        names = [f"cpu/{number}" for number in range(fleet.cpu)]
        cpus.follow(names)
        self.pools["cpu"] = cpus
        self._pool("cpu", cpus, [self._cpu(cpus, name) for name in names])

    def _pool(self, name: str, peers: PoolState, servers: list[Server]) -> None:
        self.pools[name], self.of_pool[name] = peers, servers
        peers.follow(list(peers.members), cost_per_hour=PRICES[name])
        for server in servers:
            server.health.slots.limit_to(SLOTS[name])
        self.series[name] = [
            Series(SeriesKey(Kind.POOL, name, CHAT.name, sli), target, Windows(0.0, CHAT.window))
            for sli, target in CHAT.targets.items()
        ]

    def _cpu(self, peers: PoolState, name: str) -> Server:
        self.peers, gpus = peers, self.peers
        server = self._server(name, CPU)
        self.peers = gpus
        return server

    def _arrive(self) -> None:
        kind = self.rng.choices(self._mix, [each.share for each in self._mix])[0]
        number = len(self.requests)
        self.sent[number] = Sent(kind.service_class)
        request = Request(number, self._length(kind.prompt), self._length(kind.output), self.now)
        self.requests.append(request)
        self._send(request)
        self.at(self.now + self.rng.expovariate(self.workload.rate), self._arrive)

    def _send(self, request: Request) -> None:
        """Send a request where the gateway's own rules, predictions and choice would; without a slot it waits."""
        sent = self.sent[request.number]
        traits = Traits("/v1/chat/completions", request.prompt, request.output, sent.service_class)
        place = first_match(self.fleet.rules, traits)
        rule = self.fleet.rules[place]
        options = [
            Option(self.pools[name], self.trials[place, name], self.of_pool[name])
            for name in rule.use
            if self.of_pool[name]
        ]
        if sent.service_class == "batch":
            need = Need(request.prompt, output=request.output, e2e=BATCH_SECONDS)
        else:
            need = Need(request.prompt, output=request.output, ttft=1.0, tpot=0.150)
        line = Waiting(len(self._waiting), 4.0)
        sent.outlooks = [outlook(option, need, rule.spill_at_burn, self.now, line) for option in options]
        selection = select(sent.outlooks)
        option = options[selection.place]
        choice = choose(option.backends, request.prompt, self.now, self.rng)
        if choice is None:
            self._waiting.append(request)
            return
        sent.pool = option.peers.pool
        if selection.trial:
            option.trials.begin()
            sent.trial, sent.was_trial = option.trials, True
        self._start(request, choice.winner)

    def _freed(self, request: Request) -> None:  # noqa: ARG002 - overrides the method of routing's world
        for waiting in [self._waiting.popleft() for _ in range(len(self._waiting))]:
            self._send(waiting)

    def _end(self, request: Request, server: Server, answer: tuple[float, float] | None) -> None:
        sent = self.sent[request.number]
        seconds = self.now - request.sent
        sent.cost += server.health.cost(seconds)
        for series in self.series[sent.pool]:
            if answer is not None and series.sli in {Sli.TTFT, Sli.TPOT}:
                good = is_met(series.target, answer[series.sli == Sli.TPOT], request.prompt)
                series.windows.good += good
                series.windows.bad += not good
        super()._end(request, server, answer)
        trial, sent.trial = sent.trial, None
        peers = self.pools[sent.pool]
        if trial is not None:
            met = answer is not None and meets(CHAT, *answer, request.prompt)
            if trial.end(self.now, met=met, calm=peers.burn("") < HYSTERESIS * SPILL_AT_BURN):
                peers.forget()

    def _tick(self) -> None:
        for name, peers in self.pools.items():
            signals = {}
            for server in self.of_pool[name]:
                for series in server.series:
                    series.windows.advance(self.now)
                signals[server.name] = signal(server.series, gone=False)
            for series in self.series[name]:
                series.windows.advance(self.now)
            peers.take_burns({"": max(pool_burns(self.series[name]).values(), default=1.0)})
            peers.tick(self.now, signals, self.rng)
        for watch in self.every_tick:
            watch()
        self.at(self.now + TICK, self._tick)

    def slow(self, pool: str, factor: float) -> None:
        """Make every engine of a pool so much slower."""
        for server in self.of_pool[pool]:
            server.slow = factor

    def met(self, since: float = 0.0, until: float = float("inf"), *, service_class: str = "interactive") -> float:
        """Return the share of requests of a class, by when they arrived, that met their objective."""
        mine = [each for each in self.arrived(since, until) if self.sent[each.number].service_class == service_class]
        return sum(map(self._met, mine)) / max(1, len(mine))

    def arrived(self, since: float, until: float) -> list[Request]:
        """Return the requests that came in a span of time."""
        return [request for request in self.requests if since <= request.arrived < until]

    def share(self, pool: str, since: float, until: float, wanted: Callable[[Request, Sent], bool]) -> float:
        """Return the share of some of the requests that came in a span of time which went to a pool."""
        mine = [each for each in self.arrived(since, until) if wanted(each, self.sent[each.number])]
        return sum(self.sent[each.number].pool == pool for each in mine) / max(1, len(mine))

    def _met(self, request: Request) -> bool:
        if request.ended < 0:
            return False
        if self.sent[request.number].service_class == "batch":
            return request.ended - request.arrived <= BATCH_SECONDS
        tpot = (request.ended - request.first) / (request.output - 1)
        return meets(CHAT, request.first - request.arrived, tpot, request.prompt)


@dataclass
class Bill:
    """What a fleet cost, and how much met its objective."""

    fleet: Fleet
    interactive: float
    batch: float
    attributed: float
    by_pool: dict[str, float] = field(default_factory=dict)


def bill(seed: int, rate: float, fleet: Fleet, seconds: float = 300.0) -> Bill:
    """Run a fleet for so long (after a minute to warm up), and add up."""
    world = Pools(seed, rate, fleet)
    world.run(60.0 + seconds + 60.0)
    span = (60.0, 60.0 + seconds)
    costs = sum(world.sent[each.number].cost for each in world.arrived(*span))
    shares = {pool: world.share(pool, *span, lambda *_: True) for pool in PRICES}
    return Bill(fleet, world.met(*span), world.met(*span, service_class="batch"), costs * 3600 / seconds, shares)
