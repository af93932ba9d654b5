"""Where a request would go now, and why: the same filter, score and pick, with every reason kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.backends.backend import Backend
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


def explain(model: LiveModel, tokens: int, now: float, rng: Chance) -> list[Explained]:
    """Return what would be decided now for a prompt of so many tokens, for each version that gets requests."""
    return [_explained(version, share, tokens, now, rng) for version, share in model.split.shares()]


def _explained(version: LiveVersion, share: float, tokens: int, now: float, rng: Chance) -> Explained:
    rows = tuple(_considered(backend, version.served_model, tokens, now) for backend in version.backends)
    ready: Sequence[Backend] = [backend for backend in version.backends if backend.serves(version.served_model)]
    if not ready:
        return Explained(version.name, share, rows, "", "no backend is ready")
    choice = choose(ready, tokens, now, rng)
    if choice is None:
        return Explained(version.name, share, rows, "", "nobody has a slot: the request would wait")
    return Explained(version.name, share, rows, choice.winner.id, str(choice))


def _considered(backend: Backend, served_model: str, tokens: int, now: float) -> Considered:
    considered = consider(backend.health, tokens, now)
    if backend.serves(served_model):
        return considered
    if not backend.readiness.eligible:
        return replace(considered, refused=f"not ready: {backend.readiness.reason}")
    listed = ", ".join(sorted(backend.models or ())) or "nothing"
    return replace(considered, refused=f"does not serve {served_model}: it lists {listed}")
