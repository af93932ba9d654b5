"""How many replicas each model gets of a budget that they share, and why."""

from collections.abc import Generator, Sequence
from typing import Final

from gateway.policy.capacity.allocation import Aim, Choice, dividing
from gateway.policy.capacity.latency_estimate import POISSON, mean_utilities

_NOTICEABLE: Final = 0.005
"""Utilities that differ by less are told as the same."""


class ModelDemand:
    """What one model needs, and may have."""

    def __init__(
        self,
        name: str,
        rates: Sequence[float],
        *,
        service_time: float,
        objective: float,
        replicas: int,
        most: int,
        least: int = 1,
        weight: float = 1.0,
        cost: int = 1,
        variability: float = POISSON,
    ) -> None:
        """Take requests a second that are equally likely, a replica's mean time for one, and the p99 to keep.

        Times are in seconds. `replicas` are those of now, `cost` is what each costs of the budget, at least 1.
        """
        self.name: Final = name
        self.rates: Final = rates
        self.service_time: Final = service_time
        self.objective: Final = objective
        self.replicas: Final = replicas
        self.least: Final = least
        self.most: Final = most
        self.weight: Final = weight
        self.cost: Final = cost
        self.variability: Final = variability


class Sharing:
    """How a budget is shared."""

    def __init__(
        self,
        budget: int,
        *,
        aim: Aim = Aim.FAIR_SUM,
        cold_share: float = 1 / 3,
        move_cost: float = 0.01,
        steepness: float = 1.0,
        spend_all: bool = False,
        effort: int = 0,
    ) -> None:
        """Take the budget in replicas, or in whole units of cost.

        New replicas do not serve during `cold_share` of the time that is looked ahead. Each replica that is added has
        to be worth `move_cost` more than where it was. With `spend_all` replicas that no model is expected
        to need go where the load per replica is highest; otherwise the budget is left over. An `effort` above 0 bounds
        the search for a fair division (`dividing`).
        """
        self.budget: Final = budget
        self.aim: Final = aim
        self.cold_share: Final = cold_share
        self.move_cost: Final = move_cost
        self.steepness: Final = steepness
        self.spend_all: Final = spend_all
        self.effort: Final = effort


class Share:
    """The replicas of one model, what they are expected to be worth (0 to 1), and why there are so many."""

    def __init__(self, name: str, replicas: int, utility: float, reason: str) -> None:
        self.name: Final = name
        self.replicas: Final = replicas
        self.utility: Final = utility
        self.reason: Final = reason


def sharing_out(demands: Sequence[ModelDemand], sharing: Sharing) -> Generator[None, None, list[Share]]:
    """Divide the budget among models, in pieces of about a millisecond.

    Each keeps its least number even if these alone cost more than there is.
    """
    if not demands:
        return []
    choices = []
    for demand in demands:
        choices.append(_choice(demand, sharing))
        yield
    division = yield from dividing(choices, sharing.budget, sharing.aim, sharing.effort)
    if division is None:
        needed = sum([demand.least * demand.cost for demand in demands])
        reason = f"the least numbers of all models need {needed} of a budget of {sharing.budget}"
        return [
            Share(demand.name, demand.least, choice.utilities[demand.least], reason)
            for demand, choice in zip(demands, choices, strict=True)
        ]
    spare = _spend(demands, division, sharing.budget) if sharing.spend_all else [0] * len(division)
    return [
        _share(demand, choice, replicas, more)
        for demand, choice, replicas, more in zip(demands, choices, division, spare, strict=True)
    ]


def _choice(demand: ModelDemand, sharing: Sharing) -> Choice:
    """Return what each number of replicas is worth to a model; added ones count only once they have started."""
    affordable = max(demand.least, min(demand.most, sharing.budget // demand.cost))
    warm = mean_utilities(
        demand.rates,
        demand.service_time,
        demand.objective,
        affordable,
        variability=demand.variability,
        steepness=sharing.steepness,
    )
    cold, now = sharing.cold_share, warm[min(demand.replicas, affordable)]
    utilities = [cold * min(each, now) + (1.0 - cold) * each for each in warm]
    values = [
        demand.weight * each - sharing.move_cost * max(0, replicas - demand.replicas)
        for replicas, each in enumerate(utilities)
    ]
    return Choice(utilities, least=demand.least, most=affordable, cost=demand.cost, values=values)


def _spend(demands: Sequence[ModelDemand], division: Sequence[int], budget: int) -> list[int]:
    """Return how many replicas more each model gets, so that the budget is spent; those that run stay first."""
    more = [0] * len(division)
    left = budget - sum([demand.cost * replicas for demand, replicas in zip(demands, division, strict=True)])
    while True:
        fullest, chosen = 0.0, -1
        for index, demand in enumerate(demands):
            replicas = division[index] + more[index]
            if replicas >= demand.most or demand.cost > left:
                continue
            load = demand.service_time * demand.rates[-1] / max(replicas, 0.5)
            if replicas < demand.replicas:
                load *= 2
            if load > fullest:
                fullest, chosen = load, index
        if chosen < 0:
            return more
        more[chosen] += 1
        left -= demands[chosen].cost


def _share(demand: ModelDemand, choice: Choice, needed: int, spare: int) -> Share:
    replicas, now = needed + spare, demand.replicas
    top = len(choice.utilities) - 1
    utility, before = choice.utilities[min(replicas, top)], choice.utilities[min(now, top)]
    worth = f"expected utility {utility:.2f}"
    if replicas > now:
        reason = f"{replicas} instead of {now}: {worth} instead of {before:.2f}"
    elif replicas < now and before - utility < _NOTICEABLE:
        reason = f"{replicas} instead of {now}: {worth}, more would not raise it"
    elif replicas < now:
        reason = f"{replicas} instead of {now}: {worth} instead of {before:.2f}, other models gain more"
    else:
        reason = f"stays at {replicas}: {worth}"
    if spare:
        reason += f"; {spare} of them from what no model needs"
    return Share(demand.name, replicas, utility, reason)
