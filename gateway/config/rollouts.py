"""How long a rollout will take at some rate, before any request was seen; and whether its `max_hold` is long enough."""

from collections.abc import Iterator, Mapping

from gateway.config.consistency import Declared
from gateway.config.durations import format_duration
from gateway.config.problems import Problem
from gateway.config.table import ModelSpec, RouteTable
from gateway.policy.canary.forecast import SliEvidence, Traffic
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.words import per_second

RAREST, DENSEST = 0.05, 100.0
"""The traffic that is looked at, in requests per second."""
_FINENESS = 1.05
_THEN = {"pause": "then pauses", "promote": "then continues anyway", "rollback": "is then rolled back"}


def expected(model: ModelSpec, rate: float) -> Traffic:
    """Return the traffic of a model whose versions are equal and hardly ever fail."""
    return Traffic(rate, {str(sli): SliEvidence(target.budget) for sli, target in model.objective.targets.items()})


def stalling(plan: Plan, traffic: Traffic) -> bool:
    """Whether a step of a rollout that begins with this traffic is predicted to last beyond `max_hold`."""
    if plan.max_hold is None:
        return False
    steps = traffic.ahead(plan, traffic.first_step(plan))
    return any(seconds > max(plan.max_hold, plan.held_for(share)) for share, seconds in steps)


def short_holds(models: Mapping[str, Declared], table: RouteTable) -> Iterator[Problem]:
    """Yield a warning for each `max_hold` that is shorter than a step takes at traffic that may be usual."""
    for model in table.models.values():
        plan = model.canary
        if plan is None or plan.max_hold is None or not stalling(plan, expected(model, RAREST)):
            continue
        low, high = RAREST, DENSEST
        while high > low * _FINENESS:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if stalling(plan, expected(model, middle)) else (low, middle)
        at = models[model.name]
        yield at.document.problem(
            (*at.path, "canary", "max_hold"),
            f"below about {per_second(high)} a step is predicted to take longer than `max_hold`, "
            f"{format_duration(plan.max_hold)}: the rollout {_THEN[plan.on_stall]}",
            "leave it out (the default is 8 times the prediction, at least 2h), or raise it if the model has less "
            "traffic",
        )
