"""The last guard rail, over several pools: what each may want while all of them together want more than there is."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from math import gcd
from typing import Final

from gateway.policy.capacity.allocation import Aim
from gateway.policy.capacity.shared_budget import ModelDemand, Sharing, sharing_out

MOVE_COST: Final = 0.05
"""What a replica has to gain to be wanted at another pool: a pool that loses one drains an engine, and the other waits
for one to start."""
_UNITS: Final = 2000
"""Parts of a budget that divisions reckon with; costs are rounded up to them."""
_CELLS: Final = 500_000
"""Cells of a table from which on budgets are divided in proportion to what is wanted."""
_EFFORT: Final = 300_000
"""Cells that are filled in search of a fair division."""
_SERVED: Final = 0.99
"""The utility from which on a pool needs no more."""
_UNKNOWN: Final = 0.5
"""The utility of a pool whose load is not known."""
_TOGETHER: Final = 64
"""Replicas that are given in one piece."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one pool asks of a budget.

    By itself it `wants` so many replicas, `has` was its last want, and each costs `cost`. It always gets `floor`, and
    `least` as long as the floors of others leave that. `rates` are requests a second, each as likely as the others; a
    request takes a whole replica `service_time` seconds, and may take `objective` seconds. Without rates it is not
    known how many the pool needs. What was `moved` a moment ago, up (1) or down (-1), does not move back.
    """

    pool: str
    wants: int
    has: int
    floor: int
    least: int
    cost: int
    weight: float = 1.0
    rates: tuple[float, ...] = ()
    service_time: float = 0.0
    objective: float = 0.0
    moved: int = 0

    @property
    def keeps(self) -> int:
        """What it is left while others are divided for: of a pool whose load is not known nothing is taken."""
        return min(self.wants, self.least if self.rates and self.moved <= 0 else max(self.least, self.has))

    @property
    def may_have(self) -> int:
        """The most that it can get from others."""
        return max(self.keeps, min(self.wants, self.has)) if self.moved < 0 else self.wants


@dataclass(frozen=True, slots=True)
class Ration:
    """How many replicas a pool may want, why, and what they are expected to be worth (0 to 1)."""

    replicas: int
    reason: str
    utility: float = _UNKNOWN


def spent(claims: Sequence[Claim], replicas: Sequence[int]) -> int:
    """Return what so many replicas of each pool cost."""
    return sum([claim.cost * each for claim, each in zip(claims, replicas, strict=True)])


def rationing(claims: Sequence[Claim], budget: int, aim: Aim) -> Generator[None, None, list[Ration]]:
    """Divide a budget among pools that want more, in pieces.

    No pool gets more than it wants, and all of them cost at most the budget, unless their floors alone cost more. What
    the division leaves goes to pools that want it, first to those that are not served well.
    """
    counts = [claim.keeps for claim in claims]
    if spent(claims, counts) > budget:  # what moved a moment ago may have to move again
        claims = [replace(claim, moved=0) for claim in claims]
        counts = [claim.keeps for claim in claims]
    if spent(claims, counts) > budget:
        limits, counts = counts, [min(claim.wants, claim.floor) for claim in claims]
        reason = "the fewest replicas of all pools leave no choice"
        if spent(claims, counts) <= budget:
            yield from _fill(claims, counts, limits, [_UNKNOWN] * len(claims), budget, keep=True)
            reason = "there is hardly more than the fewest replicas of all pools"
        return [Ration(each, reason) for each in counts]
    utilities = [_UNKNOWN] * len(claims)
    reasons = ["its load is not known well enough to take any from it"] * len(claims)
    valued = [index for index, claim in enumerate(claims) if claim.rates]
    left = budget - spent(claims, counts) + spent([claims[each] for each in valued], [counts[each] for each in valued])
    wants = [claim.wants for claim in claims]
    demands, units = _demands([claims[each] for each in valued], left)
    if sum([min(each.most, units // each.cost) + 1 for each in demands]) * units > _CELLS:
        yield from _fill(claims, counts, wants, utilities, budget, keep=False)
        return [Ration(each, "divided in proportion to what the pools want") for each in counts]
    sharing = Sharing(units, aim=aim, move_cost=MOVE_COST, effort=_EFFORT)
    shares = yield from sharing_out(demands, sharing)
    for index, share in zip(valued, shares, strict=True):
        counts[index], utilities[index] = share.replicas, share.utility
        reasons[index] = f"expected utility {share.utility:.2f}"
    yield from _fill(claims, counts, wants, utilities, budget, keep=True)
    return [Ration(*each) for each in zip(counts, reasons, utilities, strict=True)]


def topping_up(claims: Sequence[Claim], rations: Sequence[Ration], budget: int) -> Generator[None, None, list[Ration]]:
    """Return a division of before, with what is left of the budget for pools that want more, as `rationing` does."""
    counts = [min(claim.wants, ration.replicas) for claim, ration in zip(claims, rations, strict=True)]
    utilities = [ration.utility for ration in rations]
    yield from _fill(claims, counts, [claim.wants for claim in claims], utilities, budget, keep=True)
    return [Ration(each, ration.reason, ration.utility) for each, ration in zip(counts, rations, strict=True)]


def _demands(claims: Sequence[Claim], budget: int) -> tuple[list[ModelDemand], int]:
    """Return claims, and a budget, in as many units as a division can reckon with."""
    unit = gcd(*(claim.cost for claim in claims)) or 1
    if budget // unit > _UNITS:
        unit = -(-budget // _UNITS)
    demands = [
        ModelDemand(
            claim.pool,
            claim.rates,
            service_time=claim.service_time,
            objective=claim.objective,
            replicas=claim.has,
            most=claim.may_have,
            least=claim.keeps,
            weight=claim.weight,
            cost=-(-claim.cost // unit),
        )
        for claim in claims
    ]
    return demands, budget // unit


def _fill(
    claims: Sequence[Claim],
    counts: list[int],
    limits: Sequence[int],
    utilities: Sequence[float],
    budget: int,
    *,
    keep: bool,
) -> Generator[None, None, None]:
    """Give one replica after the other to the pool that has the smallest share of what it wants, by its weight.

    Those that are not served well come before. With `keep` those come first of each kind that had one more until now.
    """
    left = budget - spent(claims, counts)
    served = [utility >= _SERVED for utility in utilities]
    heap = [_turn(claim, index, counts[index], served[index], keep=keep) for index, claim in enumerate(claims)]
    heapify(heap)
    given = 0
    while heap and left > 0:
        index = heappop(heap)[-1]
        claim = claims[index]
        if counts[index] >= limits[index] or claim.cost > left:
            continue  # for good: what is left only becomes less
        counts[index] += 1
        left -= claim.cost
        heappush(heap, _turn(claim, index, counts[index], served[index], keep=keep))
        given += 1
        if given % _TOGETHER == 0:
            yield


def _turn(claim: Claim, index: int, count: int, served: bool, *, keep: bool) -> tuple[bool, bool, float, int]:
    return (served, keep and count >= claim.has, count / max(1, claim.wants) / claim.weight, index)
