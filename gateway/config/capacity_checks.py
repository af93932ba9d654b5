"""Whether the numbers of a pool's `capacity` agree with each other.

Looks at plain values, as `consistency` does, so that a slip in one place does not hide those in others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.consistency import Declared
from gateway.config.problems import KeyPath, Problem
from gateway.policy.capacity.want import Rules
from gateway.policy.routing.waking import Way

_USUAL = Rules()


@dataclass(frozen=True, slots=True)
class CapacityChecks:
    """Checks the capacity of every pool; gathers what is wrong and what is odd."""

    pools: Mapping[str, Declared]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def check(self) -> None:
        """Fill `problems` and `warnings`."""
        for pool in self.pools.values():
            given = {str(path[-1]): (path, value) for path, value in pool.items("capacity")}
            numbers = {name: number(value) for name, (_, value) in given.items()}
            paths = {name: path for name, (path, _) in given.items()}
            numbers.setdefault("min", float(_USUAL.min))
            numbers.setdefault("backends_per_replica", 1.0)
            if given:
                self._check_bounds(pool, paths, numbers)
                self._check_cost(pool, paths, numbers)
            else:
                self._check_wake(pool)

    def _check_bounds(self, pool: Declared, paths: Mapping[str, KeyPath], numbers: Mapping[str, float | None]) -> None:
        least, most = numbers["min"], numbers.get("max")
        step, above = numbers.get("step"), numbers.get("approve_above")
        if most is None or least is None or most < 1 or least < 0:
            return  # of a number that cannot be, the schema has its own word
        if least > most:
            message = f"is {least:g}, more than `max`, {most:g}"
            self._wrong(pool, paths["min"], message, "make `max` at least as large as `min`")
        if step is not None and step > most:
            message = f"no step can be this large: `max` is {most:g}"
            self._odd(pool, paths["step"], message, "make it smaller, or leave it out")
        if above is not None and above >= most:
            message = f"asks no person: `max` is {most:g}"
            self._odd(pool, paths["approve_above"], message, "make it smaller than `max`, or leave it out")
        if above is not None and above < least:
            message = f"a person would have to approve the fewest replicas, which are {least:g}"
            self._wrong(pool, paths["approve_above"], message, "make it at least as large as `min`")

    def _check_wake(self, pool: Declared) -> None:
        """Warn of a pool without a `capacity` that scales from zero by it: requests are held, and nothing is wanted."""
        settings = pool.values.get("scale_from_zero") if isinstance(pool.values, dict) else None
        if isinstance(settings, dict) and settings.get("wake", Way.CAPACITY) == Way.CAPACITY:
            message = "no engine is asked for: `wake: capacity` needs a `capacity` of this pool"
            hint = (
                "add `capacity: {min: 0, max: 8}`, or write `wake: engines` or the URL of a webhook; without it, "
                "something has to act on the metric `tidegate_wake_wanted`"
            )
            self._odd(pool, (*pool.path, "scale_from_zero"), message, hint)

    def _check_cost(self, pool: Declared, paths: Mapping[str, KeyPath], numbers: Mapping[str, float | None]) -> None:
        path = paths.get("max_cost_per_hour")
        if path is None:
            return
        values = pool.values if isinstance(pool.values, dict) else {}
        if "cost_per_hour" not in values:
            hint = "write what one backend costs: `cost_per_hour: 2.50` in the pool"
            self._wrong(pool, path, "nothing says what a replica costs", hint)
            return
        each, cap = number(values["cost_per_hour"]), numbers["max_cost_per_hour"]
        least, backends = numbers["min"], numbers["backends_per_replica"]
        if cap is None or each is None or backends is None or least is None:
            return
        cost = each * backends * least
        if cost > cap:
            message = f"the fewest replicas cost {cost:g} per hour, more than this"
            self._wrong(pool, path, message, "raise it, or lower `min`")

    def _wrong(self, at: Declared, path: KeyPath, message: str, hint: str) -> None:
        self.problems.append(at.document.problem(path, message, hint))

    def _odd(self, at: Declared, path: KeyPath, message: str, hint: str) -> None:
        self.warnings.append(at.document.problem(path, message, hint))


def number(value: Any) -> float | None:
    """Return a number as a file writes it, None for what the schema has its own word about."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
