"""The targets of an objective in words, as `tidegate check` shows them."""

from collections.abc import Iterator

from gateway.config.durations import format_duration
from gateway.policy.slo.objective import DEPLOYMENT, THROUGHPUT, Objective, Target, Throughput
from gateway.policy.slo.words import target_words


def target_rows(objective: Objective, *, of_deployments: bool) -> Iterator[tuple[str, str, str]]:
    """Yield (SLI, target, what is good) for each target; those of deployments apply to a model's own objective."""
    for sli, target in objective.targets.items():
        yield sli, percent(target), _good(target)
    if objective.throughput is not None:
        yield THROUGHPUT, percent(objective.throughput.target), _floors(objective.throughput)
    if of_deployments:
        if objective.deployment is not None:
            yield DEPLOYMENT, percent(objective.deployment), _good(objective.deployment)
        for stage, target in objective.stages:
            yield stage, percent(target), _good(target)


def _floors(throughput: Throughput) -> str:
    floors = ((throughput.tokens, "tokens/s"), (throughput.requests, "requests/s"))
    least = " and ".join(f"{floor:g} {unit}" for floor, unit in floors if floor)
    return f"at least {least} while requests wait"


def _good(target: Target) -> str:
    """Return what makes a request good, in words."""
    if not target.under:
        return "answered completely"
    steps = (f"{format_duration(seconds)} from {tokens} prompt tokens" for tokens, seconds in target.by_prompt_tokens)
    return ", ".join((f"up to {format_duration(target.under)}", *steps))


def percent(target: Target) -> str:
    """Return the share of events that must be good."""
    return target_words(target.ratio)
