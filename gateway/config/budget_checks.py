"""Whether budgets, and the pools that share them, agree with each other.

Looks at plain values, as `consistency` does, so that a slip in one place does not hide those in others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.capacity_checks import number
from gateway.config.consistency import Declared
from gateway.config.explain import shown
from gateway.config.problems import KeyPath, Problem, suggest
from gateway.policy.capacity.want import Rules

_USUAL = Rules()
_SIZES = ("replicas", "cost_per_hour")


@dataclass(frozen=True, slots=True)
class _Party:
    """A pool that names a budget; a number is None where the file has none that can be read."""

    pool: Declared
    at: KeyPath
    least: float | None
    most: float | None
    price: float | None
    has_price: bool


@dataclass(frozen=True, slots=True)
class BudgetChecks:
    """Checks every budget; gathers what is wrong and what is odd.

    Without `all_known` nothing is said of budgets that are missing: they may stand in what could not be read.
    """

    budgets: Mapping[str, Declared]
    pools: Mapping[str, Declared]
    all_known: bool = True
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def check(self) -> None:
        """Fill `problems` and `warnings`."""
        parties: dict[str, dict[str, _Party]] = {name: {} for name in self.budgets}
        for name, pool in self.pools.items():
            given = {str(path[-1]): (path, value) for path, value in pool.items("capacity")}
            path, budget = given.get("budget", ((), None))
            if budget is None and "weight" in given:
                message = "counts for nothing without a `budget`"
                self._odd(pool, given["weight"][0], message, "name one, or leave it out")
            if not isinstance(budget, str):
                continue
            if budget not in self.budgets:
                if self.all_known:
                    hint = suggest(budget, self.budgets, "known budgets")
                    self._wrong(pool, path, f"there is no budget {shown(pool.document, path)}", hint)
                continue
            values = {key: value for key, (_, value) in given.items()}
            parties[budget][name] = _party(pool, path, values)
        for name, budget in self.budgets.items():
            self._check_budget(budget, parties[name])

    def _check_budget(self, budget: Declared, parties: Mapping[str, _Party]) -> None:
        given = {str(path[-1]): (path, value) for path, value in budget.items() if value is not None}
        sizes = [each for each in _SIZES if each in given]
        if len(sizes) != 1:
            message = "`replicas` and `cost_per_hour` cannot be used together" if sizes else "says no size"
            self._wrong(budget, budget.path, message, "write one of `replicas: 32` and `cost_per_hour: 80`")
            return
        if not parties:
            hint = f"name it in the `capacity` of pools: `budget: {budget.path[-1]}`"
            self._odd(budget, budget.path, "no pool uses this budget", hint)
            return
        (size,) = sizes
        path, value = given[size]
        if size == "cost_per_hour":
            self._check_prices(parties.values())
        self._check_size(budget, path, number(value), parties, in_cost=size == "cost_per_hour")

    def _check_prices(self, parties: Iterable[_Party]) -> None:
        for each in parties:
            if not each.has_price:
                hint = "write what one backend costs: `cost_per_hour: 2.50` in the pool"
                self._wrong(each.pool, each.at, "nothing says what a replica takes of this budget", hint)
            elif each.price == 0:
                message = "this budget does not bind the pool, whose replicas cost nothing"
                self._odd(each.pool, each.at, message, "write what one backend costs, or leave it out")

    def _check_size(
        self, budget: Declared, path: KeyPath, total: float | None, parties: Mapping[str, _Party], *, in_cost: bool
    ) -> None:
        """Refuse a budget that does not pay for the fewest replicas of its pools; one that always suffices is odd."""
        prices = {name: each.price if in_cost else 1.0 for name, each in parties.items()}
        least = {name: _times(each.least, prices[name]) for name, each in parties.items()}
        most = [_times(each.most, prices[name]) for name, each in parties.items()]
        if total is None or None in least.values():
            return
        needed = sum(each or 0.0 for each in least.values())
        if needed > total * (1 + 1e-9):
            listed = ", ".join(f"{name} {each:g}" for name, each in least.items())
            verb = "cost" if in_cost else "are"
            message = f"the fewest replicas of its pools {verb} {needed:g} ({listed}), more than this"
            self._wrong(budget, path, message, "raise it, or lower `min` of a pool")
        elif None not in most and sum(each or 0.0 for each in most) <= total:
            message = f"always suffices: its pools want at most {sum(each or 0.0 for each in most):g}"
            self._odd(budget, path, message, "make it smaller, or `max` of a pool larger")

    def _wrong(self, at: Declared, path: KeyPath, message: str, hint: str) -> None:
        self.problems.append(at.document.problem(path, message, hint))

    def _odd(self, at: Declared, path: KeyPath, message: str, hint: str) -> None:
        self.warnings.append(at.document.problem(path, message, hint))


def _party(pool: Declared, at: KeyPath, values: Mapping[str, Any]) -> _Party:
    outside = pool.values if isinstance(pool.values, dict) else {}
    backends = number(values.get("backends_per_replica", 1))
    price = _times(number(outside.get("cost_per_hour")), backends)
    least = number(values.get("min", _USUAL.min))
    return _Party(pool, at, least, number(values.get("max")), price, "cost_per_hour" in outside)


def _times(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
