"""Overload in virtual time: simulated engines that thrash past saturation, behind the gateway's admission or none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.claim import Claim
from gateway.policy.admission.chance import LOOKS
from gateway.policy.admission.classes import CLASSES, STANDARD, ServiceClass
from gateway.policy.admission.decide import Shed, TurnedAway
from gateway.policy.admission.kinds import Kind, Kinds
from gateway.policy.admission.limit import FIRST, AdaptiveLimit, is_late
from gateway.policy.admission.queue import Entry
from gateway.policy.admission.quota import Quota, QuotaLimits
from gateway.policy.routing.choose import choose
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.tokens import TokenEstimate
from gateway.policy.slo.objective import DEFAULT, Objective, Sli
from gateway.policy.slo.windows import TICK
from gateway.proxy.admission_queue import AdmissionQueue, Queued, join, seen
from gateway.proxy.awaited_slots import holders_of
from gateway.sim.engine import Step
from gateway.sim.profiles import GPU, Profile
from loadtest.routing.world import Request, Server, Workload, World

SMALL_KV: Profile = replace(GPU, num_blocks=2048, max_model_len=8192, prefix_caching=False)
"""An engine that takes in more sequences than its KV cache can hold to their end, and preempts them then."""
PATIENT = replace(CLASSES["interactive"], max_queue_wait=1.0)
IMPATIENT: Mapping[str, ServiceClass] = {**CLASSES, "interactive": PATIENT}
MIX: Mapping[str, float] = {"interactive": 0.6, "batch": 0.4}


@dataclass(frozen=True)
class Admission:
    """How slots are limited: `limit` fixed, or adaptive from `first`; `on` False lets everything through.

    Without `refusals` no request is refused early; one that waits leaves when its patience ends, as a client would.
    """

    on: bool = True
    limit: int | None = None
    first: float = FIRST
    kv: bool = True
    refusals: bool = True


class Guest:
    """What is remembered of a request beside its timing: class, tenant, and how and why it was refused, if it was."""

    __slots__ = ("claim", "entry", "kind", "refused", "service_class", "tenant", "why")

    def __init__(self, service_class: ServiceClass, tenant: str, kind: Kind, kv: int) -> None:
        self.service_class = service_class
        self.tenant = tenant
        self.kind = kind
        self.claim = Claim(kv, service_class.priority, sheddable=service_class.sheddable, kind=kind)
        self.entry: Entry[Queued] | None = None
        self.refused: float | None = None
        self.why: Shed | None = None


class Overloaded(World):
    """Open-loop load of several classes and tenants; `shares` and `tenants` are what arrives, by weight.

    `per_minute` is the quota of each tenant, in requests.
    """

    def __init__(
        self,
        seed: int,
        workload: Workload,
        admission: Admission,
        *,
        objective: Objective = DEFAULT,
        servers: int = 2,
        profile: Profile = SMALL_KV,
        shares: Mapping[str, float] = MIX,
        tenants: Mapping[str, float] | None = None,
        per_minute: int | None = None,
        classes: Mapping[str, ServiceClass] = IMPATIENT,
    ) -> None:
        self.classes = classes
        self.kinds = Kinds()
        self.outputs = TokenEstimate()
        self.line = AdmissionQueue(self.classes)
        self.guests: dict[int, Guest] = {}
        self.limits: dict[str, AdaptiveLimit] = {}
        self._admission = admission
        self._shares = shares
        self._tenants = tenants or {"anyone": 1.0}
        self._quotas = {name: Quota(QuotaLimits(per_minute), 0.0) for name in self._tenants}
        self._queued: dict[str, int] = {}
        super().__init__(seed, objective, workload, servers=servers, profile=profile)
        self.line.refuses = admission.refusals
        join([(self.line, [server.health for server in self.servers])])
        for server in self.servers:
            if admission.on:
                self.limits[server.name] = AdaptiveLimit(admission.first)
                server.health.slots.limit_to(admission.limit or int(admission.first))
                if admission.kv:
                    server.health.slots.limit_kv_to(profile.num_blocks * profile.block_size)
        self.every_tick.append(self._look)
        self._looks = 0

    def guest(self, request: Request) -> Guest:
        """Return who a request is."""
        return self.guests[request.number]

    def _send(self, request: Request) -> None:
        draw = self.rng.choices
        name = draw(list(self._shares), list(self._shares.values()))[0]
        tenant = draw(list(self._tenants), list(self._tenants.values()))[0]
        service_class = self.classes.get(name, CLASSES[STANDARD])
        kind, most = self.kinds.of("chat", name, None), self.most(request)
        kv = request.prompt + kind.room(most, int(self.outputs.output)) if self._admission.kv else 0
        guest = self.guests[request.number] = Guest(service_class, tenant, kind, kv)
        if self._quotas[tenant].reserve(request.prompt + request.output, self.now) is not None:
            guest.refused = 0.0
            return
        if not (self._admission.on and self.line.must_wait(service_class)) and self._begin(request):
            return
        self._enter(request)

    def _enter(self, request: Request) -> None:
        """Let a request wait for a slot, unless that is hopeless."""
        guest = self.guest(request)
        service_class, kind, tenant = guest.service_class, guest.kind, guest.tenant
        entry = self.line.enter(
            _Ticket(self, request),
            service_class,
            tenant,
            now=self.now,
            patience=self.line.patience(
                service_class,
                kind,
                self.objective.targets[Sli.TTFT].threshold(request.prompt),
                request.prompt,
                self.now,
            ),
            chance=self.rng.random(),
        )
        if isinstance(entry, TurnedAway):
            guest.refused, guest.why = 0.0, entry.why
        elif request.lease is None:
            guest.entry = entry
            self.at(entry.until + LOOKS / 2, lambda: self._expire(request))

    def _expire(self, request: Request) -> None:
        guest = self.guest(request)
        if guest.entry is not None and request.lease is None and guest.refused is None and request.sent < 0:
            _Ticket(self, request).turned_away(self.line.waited(guest.entry, self.rng.random()))
            self.line.leave(guest.entry, self.now)

    def most(self, request: Request) -> int:
        """Return the `max_tokens` of a request: a world's own clients know how long their answers are."""
        return request.output

    def _begin(self, request: Request) -> bool:
        claim = self.guest(request).claim
        choice = choose(self.servers, request.prompt, self.now, self.rng, claim)
        if choice is None:
            return False
        self._start(request, choice.winner)
        return True

    def _lease(self, request: Request, server: Server) -> Lease:
        return server.health.lease(request.prompt, self.guest(request).claim, self.now)

    def _freed(self, request: Request) -> None:
        seconds, guest = self.now - request.sent, self.guest(request)
        guest.kind.ended(seconds)
        guest.kind.answered(request.output)
        self.outputs.answered(request.output)
        self.line.give_back(self.now, seconds)

    def _look(self) -> None:
        self._looks += 1
        if self._looks % 4 == 0:
            for server in self.servers:
                self._queued[server.name] = self._queued.get(server.name, 0) + 1 if server.engine.queued else 0
        for server in self.servers:
            self._limit(server)
            holders_of(server.health).tick(self.now, TICK)
        if self.line.queue.size:
            self.line.freed(self.now)

    def _limit(self, server: Server) -> None:
        if not self._admission.on:
            return
        if self._admission.limit is None:
            health, limit = server.health, self.limits[server.name]
            queued = self._queued.get(server.name, 0)
            running = len(server.engine.running) if self._looks % 4 == 0 and not server.engine.queued else 0
            limit.tick(seen(health, queued, running=running), self.now)
            health.slots.limit_to(int(limit.value))
        server.health.slots.looked_at()

    def _stepped(self, server: Server, step: Step) -> None:
        waiting = self._unbegun(server)
        super()._stepped(server, step)
        ttft = self.objective.targets[Sli.TTFT]
        for request in waiting:
            if request.first >= 0 and request.lease is not None:
                server.health.activity.began(self.now, request.first - request.sent)
                idle = max(
                    server.health.activity.quickest.seconds, server.health.latency.ttft.predict(request.prompt, 0.0)
                )
                late = is_late(request.first - request.sent, ttft.threshold(request.prompt), idle)
                server.health.slots.evidence.judged(request.lease.era, late=late)

    def _unbegun(self, server: Server) -> list[Request]:
        sequences = (*server.engine.running, *server.engine.waiting)
        return [self.requests[int(sequence.adapter)] for sequence in sequences if not sequence.produced]


class _Ticket:
    """One request's place in the line."""

    def __init__(self, world: Overloaded, request: Request) -> None:
        self._world = world
        self._request = request
        self.claim = world.guest(request).claim

    def begin(self, now: float) -> bool:
        return self._world._begin(self._request)  # noqa: SLF001 - a part of that world

    def broke(self) -> None:
        raise AssertionError("nothing breaks here")

    def renew(self, now: float) -> None:
        raise AssertionError("no routes change here")

    def turned_away(self, why: TurnedAway) -> None:
        guest = self._world.guest(self._request)
        guest.refused, guest.why = self._world.now - self._request.arrived, why.why
