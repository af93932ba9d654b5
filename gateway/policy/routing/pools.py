"""Which pool a request goes to: the first in order that is predicted to meet its objective, and never a worse one.

A pool that burns is left, and one that is predicted to miss gets nothing, so that in time nothing is known of it. Both
come back by trials: one request at a time, ever more seldom while they are late, and for good after three that were
not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from gateway.claim import SMALLEST, Claim
from gateway.policy.routing.choose import Routed
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between trials; also how long a pool without a sample is still known."""
GOOD_TRIALS: Final = 3
HYSTERESIS: Final = 0.5
"""The part of the burn rate that a pool was left at, under which it may come back."""
TIE: Final = 1.1

Backend = TypeVar("Backend", bound=Routed)


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of a pool: tokens of its prompt and of its answer (`output`), and its `claim` on slots.

    `ttft`, `tpot` and `e2e` are the longest good times in seconds, infinite where there is no target; `objective` is
    the name of their objective.
    """

    prompt: int
    claim: Claim = SMALLEST
    output: float = 0.0
    ttft: float = inf
    tpot: float = inf
    e2e: float = inf
    objective: str = ""

    def ratio(self, health: Health, wait: float = 0.0, *, cautious: bool = False) -> float:
        """Return predicted over longest good time, the worst of the three: up to 1 the objective is met.

        When `cautious`, by as much as predictions have been off: they are about the usual, targets about the slowest.
        """
        ttft, tpot = health.predicted(self.prompt), health.predicted_tpot()
        if cautious:
            ttft, tpot = ttft * health.latency.ttft.caution, tpot * health.latency.tpot.caution
        ttft += wait
        return max(ttft / self.ttft, tpot / self.tpot, (ttft + tpot * self.output) / self.e2e)

    def cost(self, health: Health) -> float:
        """Return what the request is likely to cost there, in the currency of the pool's price."""
        seconds = health.predicted(self.prompt) + health.predicted_tpot() * self.output
        return health.cost(seconds)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many wait for a slot already, and for how many seconds a slot is held."""

    ahead: int = 0
    seconds: float = 0.0


class PoolProbe:
    """Whether a pool has been left (`out`), and the trials by which it comes back."""

    __slots__ = ("_due", "_good", "_pause", "out", "running")

    def __init__(self) -> None:
        self.out = False
        self.running = False
        self._good = 0
        self._pause = FIRST_PAUSE
        self._due = 0.0

    def __repr__(self) -> str:
        return f"<PoolProbe {'out' if self.out else 'in'} {self._good} good{' running' if self.running else ''}>"

    def leave(self, due: float) -> None:
        """Send it nothing but trials, the first one at `due` (seconds)."""
        if not self.out:
            self.out, self._good, self._due = True, 0, due

    def is_due(self, now: float) -> bool:
        """Whether the next request may be a trial."""
        return not self.running and now >= self._due

    def begin(self) -> None:
        """One request is on trial."""
        self.running = True

    def end(self, now: float, *, met: bool | None, calm: bool) -> bool:
        """Learn how it went, None when it says nothing; return whether the pool is back. `calm`: it burns no more."""
        self.running = False
        if met is None:
            return False
        if not met:
            self._good = 0
            self._due, self._pause = now + self._pause, min(LONGEST_PAUSE, 2 * self._pause)
            return False
        self._good += 1
        self._due = now
        if self._good < GOOD_TRIALS or not calm:
            return False
        self.out, self._pause = False, FIRST_PAUSE
        return True


class Option(Generic[Backend]):
    """One pool with those of its backends that could take the request."""

    __slots__ = ("backends", "peers", "trials")

    def __init__(self, peers: PoolState, trials: PoolProbe, backends: list[Backend]) -> None:
        self.peers = peers
        self.trials = trials
        self.backends = backends


@dataclass(frozen=True, slots=True)
class Outlook:
    """How one pool looks to one request: predicted over longest good time, and more.

    Whether it `meets` the objective when the prediction is taken with caution, has been left, has a slot, is due for a
    trial; whether anything is `known` of it.
    """

    pool: str
    ratio: float
    meets: bool = True
    out: bool = False
    slot: bool = True
    due: bool = False
    known: bool = True

    def is_good(self, *, panic: bool = False) -> bool:
        """Whether the request may go there without a second thought; in a panic a pool that was left counts."""
        return self.slot and self.meets and (panic or not self.out)

    def __str__(self) -> str:
        ratio = f"{self.ratio:.2f}" if self.ratio >= 0.1 else f"{self.ratio:.1g}"
        notes = [f"predicted at {ratio} of its target" if self.known else "not measured yet"]
        notes += ["avoided until trials succeed"] * self.out + ["full"] * (not self.slot)
        return f"{self.pool} {', '.join(notes)}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The pool that was selected, by its place, and why; `trial` says that this request tries it out."""

    place: int
    why: str
    trial: bool = False


def select(outlooks: Sequence[Outlook]) -> Selection:
    """Select among pools in order of preference.

    The first that is good; one that is due for a trial takes its turn on the way. Where none is good the least bad: no
    pool that is predicted to miss is preferred to an earlier one that is not worse. Where all have been left, the load
    is to blame, and none is.
    """
    panic = all(outlook.out for outlook in outlooks)
    for place, outlook in enumerate(outlooks):
        if outlook.is_good(panic=panic):
            return Selection(place, "first choice" if not place else "the first that meets the objective")
        if outlook.due and outlook.slot:
            return Selection(place, "on trial: this request tests whether the pool can be used again", trial=True)
    ratios = [max(1.0, outlook.ratio) if outlook.out and not panic else outlook.ratio for outlook in outlooks]
    limit = min(ratios) * TIE
    return Selection(
        next(i for i, ratio in enumerate(ratios) if ratio <= limit), "the least bad, since none meets the objective"
    )


def outlook(option: Option[Backend], need: Need, spill_at: float, now: float, line: Waiting) -> Outlook:
    """Return how a pool looks now."""
    peers, trials = option.peers, option.trials
    open_ = [b.health for b in option.backends if b.health.available(now)] or [b.health for b in option.backends]
    slots = [health for health in open_ if health.takes(need.claim, now)]
    wait = 0.0 if slots else (line.ahead + 1) * line.seconds / max(1, sum(health.slots.in_flight for health in open_))
    # Of a pool without samples nothing bad is known: it is asked, and tells.
    known = peers.latency.is_known
    ratio = min(need.ratio(health, wait) for health in slots or open_) if known else 0.0
    meets = not known or min(need.ratio(health, wait, cautious=True) for health in slots or open_) <= 1.0
    if peers.burn(need.objective) >= spill_at:
        trials.leave(now + FIRST_PAUSE)
    asked_for = trials.out or (not meets and now - peers.latency.learnt_at > FIRST_PAUSE)
    return Outlook(peers.pool, ratio, meets, trials.out, bool(slots), asked_for and trials.is_due(now), known)


def by_cost(options: Sequence[Option[Backend]], need: Need) -> Sequence[Option[Backend]]:
    """Return pools with the cheapest for this request first; as they stand where one has no price."""
    if any(option.peers.cost_per_hour is None for option in options):
        return options
    return sorted(options, key=lambda option: min(need.cost(backend.health) for backend in option.backends))
