"""Whether objectives can be held: that models name ones there are, and that every alert of theirs could ever fire.

Looks at plain values, as `consistency` does, so that a slip in one place does not hide those in others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.consistency import Declared
from gateway.config.durations import format_duration, parse_slo_window, parse_threshold
from gateway.config.explain import shown
from gateway.config.problems import InvalidValueError, KeyPath, Problem, suggest
from gateway.config.table import DEFAULT_OBJECTIVE, FIRST_TOKEN
from gateway.policy.admission.classes import CLASSES, STANDARD
from gateway.policy.slo.alerts import PAIRS
from gateway.policy.slo.objective import DEFAULT, SUPPORTING_STAGES, THROUGHPUT, Sli, Target
from gateway.policy.slo.words import too_strict

_DEFINE = "define it under `objectives`"
_OF_DEPLOYMENTS = (("deployment",), *(("deployment_stages", stage) for stage in SUPPORTING_STAGES))
"""Where deployments have their targets, below an objective."""


@dataclass(frozen=True, slots=True)
class ObjectiveChecks:
    """Checks objectives, and what models make of them; gathers what is wrong and what is odd."""

    objectives: Mapping[str, Declared]
    models: Mapping[str, Declared]
    classes: Mapping[str, Declared] = field(default_factory=dict)
    tenants: Mapping[str, Declared] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def check(self) -> None:
        """Fill `problems` and `warnings`."""
        for objective in self.objectives.values():
            self._check_targets(objective)
            self._check_steps(objective)
        used = {name for model in self.models.values() for name in self._check_use(model)}
        for name, objective in self.objectives.items():
            if name not in used:
                hint = f"name it in a model: `objective: {name}`"
                self.warnings.append(objective.document.problem(objective.path, "no model uses this objective", hint))

    def _check_targets(self, objective: Declared) -> None:
        """Refuse targets that a total outage cannot alert on, since such an alert would silently never fire."""
        window = _value(objective, "window", parse=parse_slo_window) or DEFAULT.window
        for place in _OF_DEPLOYMENTS:
            self._told_fraction(objective, place, _value(objective, *place, "target", parse=float))
        self._check_floors(objective)
        for sli in (*Sli, THROUGHPUT):
            percent = _value(objective, sli, "target", parse=float)
            if self._told_fraction(objective, (sli,), percent) or percent is None or not 0 < percent < 100:
                continue
            strict = too_strict(Target(percent / 100), window)
            if strict:
                path = (*objective.path, sli, "target")
                self.warnings.append(
                    objective.document.problem(path, strict, "set a lower target, unless this is what you want")
                )
            for pair in PAIRS:
                factor = pair.factor(window)
                limit = round(100 * (1 - 1 / factor), 2) if factor > 1 else 0.0
                if percent > limit:
                    continue
                self.problems.append(
                    objective.document.problem(
                        (*objective.path, sli, "target"),
                        f"the {pair.severity} on {format_duration(pair.long)} and {format_duration(pair.short)} could "
                        f"never fire: it needs a burn rate above {factor:.4g}, and with a target of {percent:g} "
                        f"the burn rate never exceeds {100 / (100 - percent):.4g}",
                        f"set a target of {limit + 0.01:.2f} or more, or a shorter `window`",
                    )
                )
                break

    def _check_floors(self, objective: Declared) -> None:
        """Refuse a throughput without a floor: it would always be met."""
        entry = objective.values.get(THROUGHPUT) if isinstance(objective.values, dict) else None
        if isinstance(entry, dict) and not {"tokens_per_second", "requests_per_second"} & entry.keys():
            hint = "add `tokens_per_second` or `requests_per_second`"
            path = (*objective.path, THROUGHPUT)
            self.problems.append(objective.document.problem(path, "it does not say how much is good", hint))

    def _told_fraction(self, objective: Declared, place: tuple[str, ...], percent: float | None) -> bool:
        """Report a target that is written as a share, where per cent are meant; return whether it is."""
        if percent is None or not 0 < percent < 1:
            return False
        message = f"a target of {percent:g} is {percent:g} %: hardly any request would have to be good"
        hint = f"did you mean {round(100 * percent, 9):g}? Targets are percentages"
        self.problems.append(objective.document.problem((*objective.path, *place, "target"), message, hint))
        return True

    def _check_steps(self, objective: Declared) -> None:
        """Report thresholds that are lower for longer prompts: that is a slip."""
        for sli in (Sli.TTFT, Sli.E2E):
            longest = _value(objective, sli, "under", parse=parse_threshold) or 0.0
            steps = [
                (path, _parsed(value, parse_threshold)) for path, value in objective.items(sli, "by_prompt_tokens")
            ]
            for path, seconds in sorted(steps, key=lambda step: _tokens(step[0])):
                if seconds is not None and seconds < longest:
                    allowed = format_duration(longest)
                    message = f"longer prompts would have to be faster: {allowed} is allowed for shorter ones"
                    self.warnings.append(objective.document.problem(path, message, "raise it"))
                longest = max(longest, seconds or 0.0)

    def _check_use(self, model: Declared) -> list[str]:
        """Return the names of the objectives that a model names."""
        path = (*model.path, "objective")
        named = model.values.get("objective") if isinstance(model.values, dict) else None
        if named is None:
            return [DEFAULT_OBJECTIVE]
        names = [(path, named)]
        if isinstance(named, dict):
            self._check_classes(model, path, named)
            names = model.items("objective")
        return [name for where, name in names if isinstance(name, str) and self._check_name(model, where, name)]

    def _check_name(self, model: Declared, path: KeyPath, name: str) -> bool:
        if name in self.objectives:
            self._check_first_token(model, self.objectives[name])
            return True
        message = f"there is no objective {shown(model.document, path)}"
        hint = suggest(name, self.objectives, "known objectives") if self.objectives else _DEFINE
        self.problems.append(model.document.problem(path, message, hint))
        return False

    def _check_classes(self, model: Declared, path: KeyPath, by_class: Mapping[Any, Any]) -> None:
        """Every class has an objective, and every class that is named exists and is asked for by some tenant."""
        if by_class and DEFAULT_OBJECTIVE not in by_class:
            message = "no objective for the classes that are not named here"
            self.problems.append(model.document.problem(path, message, "add `default`, with an objective"))
        known = [*CLASSES, *self.classes]
        best = self._best_priority()
        for name in by_class:
            if not isinstance(name, str) or name == DEFAULT_OBJECTIVE:
                continue
            if name not in known:
                message, hint = "there is no such class", suggest(name, [DEFAULT_OBJECTIVE, *known], "known classes")
                self.problems.append(model.document.problem((*path, name), message, hint, at_key=True))
            elif best is not None and self._priority(name) < best:
                message = "no tenant may send requests of this class"
                hint = "give a tenant the class, or delete this"
                self.warnings.append(model.document.problem((*path, name), message, hint, at_key=True))

    def _best_priority(self) -> float | None:
        """Return the priority of the best class that some tenant has, None where anyone may ask for any class."""
        names = [_value(tenant, "class", parse=str) or STANDARD for tenant in self.tenants.values()]
        return min((self._priority(name) for name in names), default=None)

    def _priority(self, name: str) -> float:
        declared = self.classes.get(name)
        if declared is not None:
            return float(_value(declared, "priority", parse=int) or 0)
        return CLASSES[name].priority if name in CLASSES else 0.0

    def _check_first_token(self, model: Declared, objective: Declared) -> None:
        threshold = _value(objective, Sli.TTFT, "under", parse=parse_threshold)
        limit = _value(model, "timeouts", "first_token", parse=parse_threshold) or FIRST_TOKEN
        if threshold is not None and threshold > limit:
            message = f"`first_token` gives up after {format_duration(limit)}, before this threshold is reached"
            path = (*objective.path, Sli.TTFT, "under")
            self.warnings.append(
                objective.document.problem(path, message, "lower the threshold, or raise `first_token`")
            )


def _value(declared: Declared, *path: str, parse: Any) -> Any:
    value = declared.values
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else _parsed(value, parse)


def _parsed(value: Any, parse: Any) -> Any:
    try:
        return parse(value)
    except (InvalidValueError, TypeError, ValueError):
        return None


def _tokens(path: KeyPath) -> int:
    text = str(path[-1])
    return int(text) if text.isdigit() else 0
