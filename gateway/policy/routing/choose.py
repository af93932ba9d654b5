"""From the backends that could take a request to the one that gets it: filter, score, pick, with the reason."""

from dataclasses import dataclass
from math import inf
from typing import Final, Generic, Protocol, TypeVar

from gateway.claim import SMALLEST, Claim
from gateway.policy.routing.health import Health
from gateway.policy.routing.pick import FEW, Chance, another, drawn


class Routed(Protocol):
    """Anything that has a health."""

    @property
    def health(self) -> Health:
        """What routing believes of it."""


ONLY: Final = "the only backend to choose from"
_FAR: Final = 2.0
"""Times the tokens that samples had, from which on a prediction is called extrapolated."""
TIE: Final = 1.1
"""Scores within a tenth of the lowest are equal: predictions are no better than that."""
_LOWEST: Final = "lowest score"
_DRAWS: Final = 8
"""Backends drawn of many until two may be compared: where so many may not, it is cheaper to look at all."""
_MILLISECONDS: Final = [f" {each} ms" for each in range(1000)]
"""The usual times in words, which are ready before they are needed."""
_NONE_COMPARED: Final[list[Health]] = []
_NO_NUMBERS: Final[list[float]] = []
Backend = TypeVar("Backend", bound=Routed)


class Choice(Generic[Backend]):
    """The winner, why it won, and the backends compared: their healths, predicted TTFTs in seconds, and weights.

    Without `weights`, all are 1. `drawn_from` is how many two were drawn from, 0 where all were compared. Words are
    made only where somebody asks.
    """

    __slots__ = ("_compared", "_drawn_from", "_ttfts", "_weights", "_why", "winner")

    def __init__(
        self,
        winner: Backend,
        why: str,
        compared: list[Health] = _NONE_COMPARED,
        ttfts: list[float] = _NO_NUMBERS,
        weights: list[float] = _NO_NUMBERS,
        *,
        drawn_from: int = 0,
    ) -> None:
        self.winner = winner
        self._why = why
        self._compared = compared
        self._ttfts = ttfts
        self._weights = weights
        self._drawn_from = drawn_from

    @property
    def why(self) -> str:
        """Why it won, in words."""
        return f"{self._why} of two drawn from {self._drawn_from}" if self._drawn_from else self._why

    @property
    def compared(self) -> tuple[tuple[str, float, float], ...]:
        """Every backend compared, as (id, predicted TTFT in seconds, weight)."""
        weights = self._weights or [1.0] * len(self._compared)
        rows = zip(self._compared, self._ttfts, weights, strict=True)
        return tuple((health.id, predicted, weight) for health, predicted, weight in rows)

    def __str__(self) -> str:
        """Return the decision in words, for logs and people."""
        # Every request's line in the access log says this: a format specification costs ten times as much.
        parts, mark = [self.why], ": "
        for place in range(len(self._compared)):
            ttft = int(self._ttfts[place] * 1000 + 0.5)
            parts.append(mark)
            parts.append(self._compared[place].id)
            parts.append(_MILLISECONDS[ttft] if ttft < len(_MILLISECONDS) else f" {ttft} ms")
            if self._weights and self._weights[place] < 1:
                parts.append(f" at weight {self._weights[place]:.2f}")
            mark = ", "
        return "".join(parts)


def choose(
    ready: list[Backend], tokens: int, now: float, rng: Chance, claim: Claim = SMALLEST
) -> Choice[Backend] | None:
    """Choose among `ready` backends of one pool (at least one) for a prompt of so many tokens, with this claim.

    None when all that could be chosen have no slot, or are busy. Otherwise a filter that would remove all removes
    none. A half-open backend without requests gets the request: else it would never return.
    """
    if len(ready) == 1:
        return Choice(ready[0], ONLY) if ready[0].health.takes(claim, now) else None
    # Nearly always all are in service and have a slot: that is seen without making lists of those that are.
    choice = _of_few(ready, tokens, now, rng, claim) if len(ready) <= FEW else _of_many(ready, tokens, now, rng, claim)
    return choice if choice is not None else _filtered(ready, tokens, now, rng, claim)


def _of_few(ready: list[Backend], tokens: int, now: float, rng: Chance, claim: Claim) -> Choice[Backend] | None:
    """Return the choice where each backend may be compared, None where one may not."""
    healths: list[Health] = []
    for backend in ready:
        health = backend.health
        if not health.is_free(claim, now):
            return None
        healths.append(health)
    return _lowest(ready, healths, tokens, rng, _LOWEST)


def _of_many(ready: list[Backend], tokens: int, now: float, rng: Chance, claim: Claim) -> Choice[Backend] | None:
    """Draw two before any is looked at, and others for those that may not be compared; None where too many may not.

    That gives every pair of those that may be compared the same chance, as if all had been looked at, and costs the
    same however many there are. In a panic, and while a backend waits for a request that tries it, all are looked at.
    """
    if ready[0].health.peers.must_look_at_all:
        return None
    count = len(ready)
    first = second = -1
    for _ in range(_DRAWS):
        place = int(rng.random() * count) if first < 0 else another(first, count, rng)
        if ready[place].health.is_free(claim, now):
            if first >= 0:
                second = place
                break
            first = place
    if second < 0:
        return None
    two = [ready[first], ready[second]]
    return _lowest(two, [two[0].health, two[1].health], tokens, rng, _LOWEST, drawn_from=count)


def _filtered(ready: list[Backend], tokens: int, now: float, rng: Chance, claim: Claim) -> Choice[Backend] | None:
    """Look at all of them, and choose among those that are left."""
    open_ = [backend for backend in ready if backend.health.available(now)]
    for backend in open_:
        if backend.health.wants_probe:
            return Choice(backend, "half-open: this request tests whether it can return")
    why = _LOWEST
    if not open_:
        # Those that are busy are not asked even so: the request waits for them.
        open_ = [b for b in ready if not b.health.backoff.is_closed(b.health.slots.in_flight, now)]
        why = "all are ejected or ask to retry later; lowest score"
    slots = [backend for backend in open_ if backend.health.slots.has_slot(claim)]
    if not slots:
        # Those that were busy a while ago are asked before anyone has to wait; those that may be sick are not.
        again = [each for each in ready if each.health.takes_again(claim, now)]
        return _drawn(again, tokens, rng, "asked to retry later, but no other has a slot; lowest score")
    if len(slots) < len(open_):
        open_, why = slots, f"{why} of those with a slot"
    elif len(open_) == 1:
        return Choice(open_[0], "the others are ejected or ask to retry later")
    return _drawn(open_, tokens, rng, why)


def _drawn(backends: list[Backend], tokens: int, rng: Chance, why: str) -> Choice[Backend] | None:
    """Return the one of the lowest score of a few, or of two of many; None of none."""
    if not backends:
        return None
    compared = drawn(backends, rng)
    drawn_from = len(backends) if len(compared) < len(backends) else 0
    return _lowest(compared, [each.health for each in compared], tokens, rng, why, drawn_from=drawn_from)


def _lowest(
    backends: list[Backend], healths: list[Health], tokens: int, rng: Chance, why: str, *, drawn_from: int = 0
) -> Choice[Backend]:
    """Return the backend of about the lowest score, predicted TTFT over weight.

    Of equal ones it is that of the lowest load, its requests in flight: one that has stopped keeps those it has.
    """
    ttfts: list[float] = []
    lowest, weighted = inf, False
    for health in healths:
        ttft = health.latency.predicted(tokens, health.slots.in_flight)
        weight = health.outlier.weight
        ttfts.append(ttft)
        if weight != 1.0:
            weighted = True
        score = ttft / weight
        if score < lowest:  # noqa: PLR1730 - min() is a call of a builtin where this is compiled
            lowest = score
    limit = lowest * TIE
    tied: list[Backend] = []
    least = 0
    for place in range(len(healths)):
        health = healths[place]
        load = health.slots.in_flight
        if ttfts[place] / health.outlier.weight > limit or (tied and load > least):
            continue
        if tied and load < least:
            tied.clear()
        least = load
        tied.append(backends[place])
    winner = tied[0] if len(tied) == 1 else tied[int(rng.random() * len(tied))]
    weights = [health.outlier.weight for health in healths] if weighted else _NO_NUMBERS
    return Choice(winner, why, healths, ttfts, weights, drawn_from=drawn_from)


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
