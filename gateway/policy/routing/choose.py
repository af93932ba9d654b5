"""From the backends that could take a request to the one that gets it: filter, score, pick, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from gateway.claim import SMALLEST, Claim
from gateway.policy.routing.health import Health
from gateway.policy.routing.pick import Chance, best, drawn


class Routed(Protocol):
    """Anything that has a health."""

    @property
    def health(self) -> Health:
        """What routing believes of it."""


ONLY: Final = "the only ready backend"
_FAR: Final = 2.0
"""Times the tokens that samples had, from which on a prediction is called extrapolated."""
Backend = TypeVar("Backend", bound=Routed)


class Choice(Generic[Backend]):
    """The winner, why it won, and every backend compared: `rows` of (backend, predicted TTFT in seconds, weight)."""

    __slots__ = ("_rows", "why", "winner")

    def __init__(self, winner: Backend, why: str, rows: Sequence[tuple[Backend, float, float]] = ()) -> None:
        self.winner = winner
        self.why = why
        self._rows = rows

    @property
    def compared(self) -> tuple[tuple[str, float, float], ...]:
        """Every backend compared, as (id, predicted TTFT in seconds, weight); made only where somebody asks."""
        return tuple((backend.health.id, predicted, weight) for backend, predicted, weight in self._rows)

    def __str__(self) -> str:
        """Return the decision in words, for logs and people."""
        parts, mark = [self.why], ": "
        for backend, predicted, weight in self._rows:
            # Every request's line in the access log says this: a format specification costs ten times as much.
            parts += (mark, backend.health.id, " ", str(int(predicted * 1000 + 0.5)), " ms")
            if weight < 1:
                parts.append(f" at weight {weight:.2f}")
            mark = ", "
        return "".join(parts)


def choose(
    ready: Sequence[Backend], tokens: int, now: float, rng: Chance, claim: Claim = SMALLEST
) -> Choice[Backend] | None:
    """Choose among `ready` backends (at least one) for a prompt of so many tokens, with this claim.

    None when all that could be chosen have no slot, or are busy. Otherwise a filter that would remove all removes
    none. A half-open backend without requests gets the request: else it would never return.
    """
    if len(ready) == 1:
        return Choice(ready[0], ONLY) if ready[0].health.takes(claim, now) else None
    # Nearly always all are in service: that is seen without asking each of them in turn.
    open_, slots = _in_service(ready, now, claim)
    if len(open_) < len(ready):
        open_ = [backend for backend in ready if backend.health.available(now)]
        for backend in open_:
            if backend.health.wants_probe:
                return Choice(backend, "half-open: this request tests whether it can return")
        slots = _with_slot(open_, claim)
    why = "lowest score"
    if not open_:
        # Those that are busy are not asked even so: the request waits for them.
        open_ = [b for b in ready if not b.health.backoff.is_closed(b.health.slots.in_flight, now)]
        why = "all are ejected or ask to retry later; lowest score"
        slots = _with_slot(open_, claim)
    if not slots:
        # Those that were busy a while ago are asked before anyone has to wait; those that may be sick are not.
        again = [each for each in ready if each.health.takes_again(claim, now)]
        return _of(again, tokens, rng, "asked to retry later, but no other has a slot; lowest score")
    if len(slots) < len(open_):
        open_, why = slots, f"{why} of those with a slot"
    elif len(open_) == 1:
        return Choice(open_[0], "the others are ejected or ask to retry later")
    return _of(open_, tokens, rng, why)


def _in_service(ready: Sequence[Backend], now: float, claim: Claim) -> tuple[list[Backend], list[Backend]]:
    """Return the backends in service, and those of them that have a slot."""
    open_: list[Backend] = []
    slots: list[Backend] = []
    for backend in ready:
        health = backend.health
        if health.backoff.hold_until <= now and not health.outlier.ejection.out:
            open_.append(backend)
            if health.slots.has_slot(claim):
                slots.append(backend)
    return open_, slots


def _with_slot(backends: Sequence[Backend], claim: Claim) -> list[Backend]:
    return [backend for backend in backends if backend.health.slots.has_slot(claim)]


def _of(open_: Sequence[Backend], tokens: int, rng: Chance, why: str) -> Choice[Backend] | None:
    """Return the one of the lowest score of those that are open; None of none."""
    if not open_:
        return None
    compared = drawn(open_, rng)
    rows: list[tuple[Backend, float, float]] = []
    loads: list[int] = []
    for backend in compared:
        health = backend.health
        slots = health.slots
        rows.append((backend, health.latency.predicted(tokens, slots.in_flight), health.outlier.weight))
        loads.append(slots.in_flight)
    winner = best(rows, loads, rng)
    if len(open_) > len(compared):
        why = f"{why} of two drawn from {len(open_)}"
    return Choice(winner, why, rows)


@dataclass(frozen=True, slots=True)
class Considered:
    """How one backend looks to a prompt of some length; `refused` says why it would get no request, "" when it may.

    `extrapolated` says that the prediction is for many more tokens than any sample had; one that is not `scored` gets
    no request whatever its prediction says, which is of no use then.
    """

    id: str
    refused: str
    predicted_ttft: float
    extrapolated: bool
    weight: float
    burn: float
    in_flight: int
    prefilling: int
    scored: bool = True

    @property
    def score(self) -> float:
        """Predicted TTFT over weight: the lowest is best."""
        return self.predicted_ttft / self.weight


def consider(health: Health, tokens: int, now: float, claim: Claim = SMALLEST) -> Considered:
    """Return how a backend would be judged now."""
    refused, scored = "", True
    if health.slots.in_flight >= health.slots.limit or not health.slots.fits(claim.kv):
        refused = f"full: {health.slots.in_flight} in flight of {health.slots.limit}"
    elif not health.slots.has_slot(claim):
        refused = f"its free slots are kept for others: {health.slots.in_flight} in flight of {health.slots.limit}"
    if not health.available(now):
        standing = health.outlier.ejection
        if now < health.backoff.hold_until:
            refused = f"refused work, and gets no requests for {health.backoff.hold_until - now:.1f} s more"
        else:
            refused, scored = f"{standing.state}: {standing.reason}", False
    return Considered(
        health.id,
        refused,
        health.predicted(tokens),
        tokens > _FAR * health.latency.reach,
        health.outlier.weight,
        health.symptoms.signal.burn,
        health.slots.in_flight,
        health.latency.prefilling,
        scored,
    )
