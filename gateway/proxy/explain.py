"""Where a request would go now, and why: the same filter, score and pick, with every reason kept."""

from dataclasses import dataclass, replace
from math import inf

from gateway.backends.backend import Backend
from gateway.claim import Claim
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.routing.choose import ONLY, Choice, Considered, choose, consider
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.rules import Traits
from gateway.policy.slo.words import duration
from gateway.proxy.admission_queue import AdmissionQueue
from gateway.proxy.finding import asked_next, first_asked
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.pool_selection import need_for, pool_for


@dataclass(frozen=True, slots=True)
class Explained:
    """The decision for one version with its share of the split; `winner` is "" where nothing is ready."""

    version: str
    share: float
    considered: tuple[Considered, ...]
    winner: str
    why: str


def explain(model: LiveModel, tokens: int, service_class: ServiceClass, *, now: float, rng: Chance) -> list[Explained]:
    """Return what would be decided now for a chat with a prompt of so many tokens, for each version in the split."""
    found = []
    for version, share in model.traffic.split.shares():
        claim = Claim(tokens, service_class.priority, sheddable=service_class.sheddable)
        rows = tuple(_considered(backend, version, claim, now) for backend in version.backends)
        winner, why = _decided(model, version, claim, service_class, now=now, rng=rng)
        found.append(Explained(version.name, share, rows, winner, why))
    return found


def _decided(
    model: LiveModel, version: LiveVersion, claim: Claim, service_class: ServiceClass, *, now: float, rng: Chance
) -> tuple[str, str]:
    """Return the id of the winner, "" for none, and why."""
    name, tokens = service_class.name, claim.kv
    place = model.rules.first_match(Traits("/v1/chat/completions", tokens, service_class=name))
    route = version.routes[place]
    other = model.traffic.stand_in(version)
    if other is not None:
        winner, why = _decided(model, other, claim, service_class, now=now, rng=rng)
        return winner, f"{version.name} has no ready backend: its requests go to {other.name}: {why}"
    first = first_asked(route.backends, version.served_model)
    if not first:
        pools = ", ".join(pool.peers.pool for pool in route.pools)
        waking = route.waking
        told = "get 503" if waking is None else f"are held until one is woken, {waking.held} at the moment"
        return "", f"no backend is ready in {pools}: requests {told}{route.discovery}"
    silent = not first[0].serves(version.served_model)
    objective = model.objectives.of(name)
    need = need_for(model, objective, tokens, claim=claim)
    option, routing = pool_for(route, need, first, now)
    choice = choose(option.backends, tokens, now, rng, claim)
    if choice is None and (more := asked_next(route.backends, version.served_model, first)):
        other_option, routing = pool_for(route, need, more, now)
        choice = choose(other_option.backends, tokens, now, rng, claim)
        silent = choice is not None
    line = route.line
    if choice is None or line.must_wait(service_class):
        kind = model.memory.kinds.of("/v1/chat/completions", name, None)
        threshold = objective.ttft.threshold(tokens) if objective.ttft is not None else inf
        patient = line.patience(service_class, kind, threshold, tokens, now)
        seen = line.outlook(service_class, "", patient, now)
        behind = f"behind {seen.ahead} other{'s' * (seen.ahead != 1)}"
        free = any(backend.health.slots.in_flight < backend.health.slots.limit for backend in option.backends)
        bound = "" if free else f"; that bounds the chance of a slot to {seen.chance:.0%} ({seen.why})"
        return "", (
            f"{_held_up(line, service_class, choice, free=free)}: a request of the class {name} would wait up to "
            f"{duration(patient)}, {behind}{bound}"
        )
    by = f"rule {place + 1}: " if place < len(model.rules) else ""
    pool = f"{routing}; " if routing is not None else ""
    only = f"the only backend of pool {choice.winner.spec.pool} that takes requests"
    probes = "its probes time out; requests are still sent; " if silent else ""
    return choice.winner.id, f"{probes}{by}{pool}{only if choice.why is ONLY else choice}"


def _held_up(line: AdmissionQueue, service_class: ServiceClass, choice: Choice[Backend] | None, *, free: bool) -> str:
    """Say why a request would wait; `free` says that a backend has fewer requests in flight than it may have."""
    if line.holds(service_class):
        return "its class is held back while a higher one misses its objective"
    if not free:
        return "no slot is free"
    if choice is None:
        return "no free slot is for it: see `refused`"
    return "others wait for the slot that is free, and are served first"


def _considered(backend: Backend, version: LiveVersion, claim: Claim, now: float) -> Considered:
    served_model = version.served_model
    considered = consider(backend.health, claim.kv, now, claim)
    if backend.serves(served_model) or (not version.has_ready and backend.may_serve(served_model)):
        return considered
    if backend.drained or backend.leaving:
        return replace(considered, refused="drained" if backend.drained else "leaving", scored=False)
    if backend.still_serves(served_model):
        why = f"not ready: {backend.readiness.reason}; it is at work, and asked while no other has a slot"
        return replace(considered, refused=why, scored=False)
    if backend.availability.asleep or backend.availability.warming:
        why = "asleep" if backend.availability.asleep else "it is being warmed, and others go first"
        return replace(considered, refused=why, scored=False)
    if not backend.readiness.eligible:
        return replace(considered, refused=f"not ready: {backend.readiness.reason}", scored=False)
    listed = ", ".join(sorted(backend.models or ())) or "nothing"
    return replace(considered, refused=f"does not serve {served_model}: it lists {listed}", scored=False)
