"""Where a request would go now, and why: the same filter, score and pick, with every reason kept."""

from dataclasses import dataclass, replace

from gateway.backends.backend import Backend
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.routing.choose import Considered, choose, consider
from gateway.policy.routing.pick import Chance
from gateway.policy.routing.rules import Traits, first_match
from gateway.proxy.live import LiveModel, LiveVersion
from gateway.proxy.pooling import need_for, pool_for


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
    for version, share in model.split.shares():
        rows = tuple(_considered(backend, version.served_model, tokens, now) for backend in version.backends)
        winner, why = _decided(model, version, tokens, service_class, now=now, rng=rng)
        found.append(Explained(version.name, share, rows, winner, why))
    return found


def _decided(
    model: LiveModel, version: LiveVersion, tokens: int, service_class: ServiceClass, *, now: float, rng: Chance
) -> tuple[str, str]:
    """Return the id of the winner, "" for nobody, and why."""
    name = service_class.name
    place = first_match(model.rules, Traits("/v1/chat/completions", tokens, service_class=name))
    route = version.routes[place]
    ready = [backend for backend in route.backends if backend.serves(version.served_model)]
    if not ready:
        return "", f"no backend is ready in {', '.join(pool.peers.pool for pool in route.pools)}"
    option, routing = pool_for(
        route, need_for(model, model.objective_by_class.get(name, model.objective), tokens), ready, now
    )
    choice = choose(option.backends, tokens, now, rng)
    line = route.line
    if name in line.away:
        return "", f"requests of the class {name} are turned away while the model misses its objective"
    if choice is None or line.queue.size:
        ahead, wait = line.queue.ahead(service_class, ""), line.predicted_wait(service_class, "")
        return "", f"no slot is free: a request of the class {name} would wait about {wait:.1f} s behind {ahead} others"
    by = f"rule {place + 1}: " if place < len(model.rules) else ""
    pool = f"{routing}; " if routing is not None else ""
    return choice.winner.id, f"{by}{pool}{choice}"


def _considered(backend: Backend, served_model: str, tokens: int, now: float) -> Considered:
    considered = consider(backend.health, tokens, now)
    if backend.serves(served_model):
        return considered
    if not backend.readiness.eligible:
        return replace(considered, refused=f"not ready: {backend.readiness.reason}")
    listed = ", ".join(sorted(backend.models or ())) or "nothing"
    return replace(considered, refused=f"does not serve {served_model}: it lists {listed}")
