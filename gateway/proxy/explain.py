"""Where a request would go now, and why: the same filter, score and pick, with every reason kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.backends.backend import Backend
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.routing.choose import Considered, choose, consider
from gateway.policy.routing.pick import Chance
from gateway.proxy.live import LiveModel, LiveVersion


@dataclass(frozen=True, slots=True)
class Explained:
    """The decision for one version with its share of the split; `winner` is "" where nothing is ready."""

    version: str
    share: float
    considered: tuple[Considered, ...]
    winner: str
    why: str


def explain(model: LiveModel, tokens: int, service_class: ServiceClass, *, now: float, rng: Chance) -> list[Explained]:
    """Return what would be decided now for a prompt of so many tokens, for each version that gets requests."""
    return [
        _explained(version, share, tokens, service_class, now=now, rng=rng) for version, share in model.split.shares()
    ]


def _explained(
    version: LiveVersion, share: float, tokens: int, service_class: ServiceClass, *, now: float, rng: Chance
) -> Explained:
    rows = tuple(_considered(backend, version.served_model, tokens, now) for backend in version.backends)
    ready: Sequence[Backend] = [backend for backend in version.backends if backend.serves(version.served_model)]
    if not ready:
        return Explained(version.name, share, rows, "", "no backend is ready")
    choice = choose(ready, tokens, now, rng)
    line, name = version.line, service_class.name
    if name in line.away:
        why = f"requests of the class {name} are turned away while the model misses its objective"
        return Explained(version.name, share, rows, "", why)
    if choice is None or line.queue.size:
        ahead, wait = line.queue.ahead(service_class, ""), line.predicted_wait(service_class, "")
        why = f"no slot is free: a request of the class {name} would wait about {wait:.1f} s behind {ahead} others"
        return Explained(version.name, share, rows, "", why)
    return Explained(version.name, share, rows, choice.winner.id, str(choice))


def _considered(backend: Backend, served_model: str, tokens: int, now: float) -> Considered:
    considered = consider(backend.health, tokens, now)
    if backend.serves(served_model):
        return considered
    if not backend.readiness.eligible:
        return replace(considered, refused=f"not ready: {backend.readiness.reason}")
    listed = ", ".join(sorted(backend.models or ())) or "nothing"
    return replace(considered, refused=f"does not serve {served_model}: it lists {listed}")
