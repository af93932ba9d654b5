"""Words about routes that `tidegate check` shows, as tables or as JSON."""

from collections.abc import Iterable

from gateway.cli.targets import percent
from gateway.config.table import RouteTable
from gateway.policy.routing.rules import ANY, Span, When
from gateway.policy.slo.objective import Objective
from gateway.policy.slo.words import limits_of


def objectives_of(table: RouteTable) -> Iterable[Objective]:
    """Return the objectives that models use."""
    return {objective.name: objective for model in table.models.values() for objective in model.objectives}.values()


def limits(table: RouteTable) -> list[str]:
    """Return what the alerts of each objective cannot detect, in words."""
    return [
        f"{objective.name}, {sli} {percent(target)}: {'; '.join(limits_of(target, objective.window))}"
        for objective in objectives_of(table)
        for sli, target in objective.targets.items()
    ]


def when_words(when: When) -> str:
    """Return which requests a rule is for, in words."""
    named = (("path", when.endpoints), ("class", when.classes), ("tenant", when.tenants))
    counted = (("prompt tokens", when.prompt_tokens), ("max_tokens", when.max_tokens))
    held = (("tools", when.tools), ("images", when.images))
    asked = [f"{what} {' or '.join(sorted(names))}" for what, names in named if names]
    asked += [f"{what} {_span(span)}" for what, span in counted if span != ANY]
    asked += [f"{'with' if wanted else 'without'} {what}" for what, wanted in held if wanted is not None]
    return ", ".join(asked) or "all requests"


def _span(span: Span) -> str:
    return f"up to {span.most:g}" if span.least <= 0 else f"from {span.least:g}"
