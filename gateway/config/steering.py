"""Whether rules, split and canary of a model agree with its versions, and with each other.

Looks at plain values, as `consistency` does, so that a slip in one place does not hide those in others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gateway.config.consistency import Declared
from gateway.config.durations import format_duration, readable_timeout
from gateway.config.explain import shown
from gateway.config.problems import KeyPath, Problem, suggest
from gateway.config.table import IMPLICIT_VERSION
from gateway.policy.admission.classes import CLASSES
from gateway.policy.canary.plan import LAST, Plan

_PLAN = Plan("", "")


@dataclass(frozen=True, slots=True)
class Steering:
    """Checks how requests of each model are steered; gathers what is wrong and what is odd."""

    models: Mapping[str, Declared]
    pools: Mapping[str, Declared]
    classes: Mapping[str, Declared]
    tenants: Mapping[str, Declared]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def check(self) -> None:
        """Fill `problems` and `warnings`."""
        for model in self.models.values():
            self._check_split(model)
            self._check_rules(model)
            self._check_canary(model)

    def _wrong(self, at: Declared, path: KeyPath, message: str, hint: str, *, at_key: bool = False) -> None:
        self.problems.append(at.document.problem(path, message, hint, at_key=at_key))

    def _odd(self, at: Declared, path: KeyPath, message: str, hint: str) -> None:
        self.warnings.append(at.document.problem(path, message, hint))

    def _check_split(self, model: Declared) -> None:
        keys = model.names()
        versions = _versions(model)
        if "canary" in keys:
            if "split" in keys:
                hint = "keep `split` for fixed weights, or `canary` to let the gateway decide"
                self._wrong(model, (*model.path, "split"), "`split` and `canary` cannot be used together", hint)
            return
        if "split" not in keys:
            if len(versions) > 1:
                weights = ", ".join(f"{name}: {0 if position else 100}" for position, name in enumerate(versions))
                message = f"{len(versions)} versions, but nothing says how requests are divided among them"
                hint = f"write `split: {{{weights}}}` with the weights you want, or a `canary`"
                self._wrong(model, model.path, message, hint)
            return
        weights_above_zero = False
        for path, weight in model.items("split"):
            self._check_version(model, path, path[-1], at_key=True)
            weights_above_zero |= not _is_zero(weight)
        if not weights_above_zero and isinstance(model.values["split"], dict):
            hint = "set a weight above 0"
            self._wrong(model, (*model.path, "split"), "no version would get a request", hint)

    def _check_version(self, model: Declared, path: KeyPath, name: Any, *, at_key: bool = False) -> None:
        versions = _versions(model)
        if versions and isinstance(name, str) and name not in versions:
            hint = suggest(name, versions, "known versions")
            self._wrong(model, path, "this model has no such version", hint, at_key=at_key)

    def _check_rules(self, model: Declared) -> None:
        listed = {
            pool
            for version in model.names("versions")
            for _, pool in model.items("versions", version, "pools")
            if isinstance(pool, str)
        }
        misspelt = listed - self.pools.keys()
        caught = False
        for path, rule in model.items("rules"):
            if not isinstance(rule, dict):
                continue
            if caught:
                self._odd(model, path, "never matches: the rule before it matches every request", "delete it")
            when = rule.get("when")
            caught = caught or not when
            for at, pool in enumerate(rule["use"] if isinstance(rule.get("use"), list) else []):
                where = (*path, "use", at)
                if not isinstance(pool, str) or pool in listed or (misspelt and pool in self.pools):
                    continue  # it may be what a version means by a pool that does not exist, which is said there
                if pool in self.pools or "versions" in model.names():
                    hint = suggest(pool, listed - misspelt or listed, "pools of its versions")
                    self._wrong(model, where, f"no version of this model runs in {shown(model.document, where)}", hint)
            self._check_effect(model, path, rule)
            if isinstance(when, dict):
                self._check_names(model, (*path, "when", "class"), when.get("class"), [*CLASSES, *self.classes])
                self._check_names(model, (*path, "when", "tenant"), when.get("tenant"), list(self.tenants))

    def _check_effect(self, model: Declared, path: KeyPath, rule: Mapping[str, Any]) -> None:
        """Warn of a rule that does nothing for a version, since it names none of its pools."""
        named = rule.get("use")
        use = [pool for pool in named if isinstance(pool, str)] if isinstance(named, list) else []
        for version in model.names("versions"):
            pools = [pool for _, pool in model.items("versions", version, "pools") if isinstance(pool, str)]
            is_moot = not rule.get("when") and len(pools) < 2
            if use and pools and not is_moot and set(use).isdisjoint(pools):
                message = f"does nothing for version `{version}`, which runs in {', '.join(pools)}"
                self._odd(model, (*path, "use"), message, "add one of its pools, or let the version run in these")

    def _check_names(self, model: Declared, path: KeyPath, value: Any, known: list[str]) -> None:
        names = value if isinstance(value, list) else [value]
        for at, name in enumerate(names):
            if isinstance(name, str) and name not in known:
                where = (*path, at) if isinstance(value, list) else path
                what, several = ("class", "classes") if path[-1] == "class" else ("tenant", "tenants")
                self._wrong(
                    model,
                    where,
                    f"there is no {what} {shown(model.document, where)}",
                    suggest(name, known, f"known {several}"),
                )

    def _check_canary(self, model: Declared) -> None:
        canary = model.values.get("canary") if isinstance(model.values, dict) else None
        if not isinstance(canary, dict):
            return
        path = (*model.path, "canary")
        stable, candidate = canary.get("stable"), canary.get("candidate")
        for key in ("stable", "candidate"):
            self._check_version(model, (*path, key), canary.get(key))
        if stable is not None and stable == candidate:
            hint = "name another version"
            self._wrong(model, (*path, "candidate"), "stable and candidate are the same version", hint)
        for version in _versions(model):
            if {stable, candidate} <= set(_versions(model)) and version not in {stable, candidate}:
                where = (*model.path, "versions", version)
                hint = "it can still be forced with `x-gateway-model-version` where `version_header` is true"
                self._odd(model, where, "gets no requests: the canary is between two other versions", hint)
        self._check_steps(model, (*path, "steps"), canary.get("steps"))
        self._check_times(model, path, canary)
        if not _is_zero(canary.get("mirror", 0)):
            self._check_mirror(model, (*path, "mirror"), stable, candidate)

    def _check_steps(self, model: Declared, path: KeyPath, steps: Any) -> None:
        numbers = [_step(each) for each in steps] if isinstance(steps, list) else []
        for at, (before, after) in enumerate(pairwise(numbers)):
            if before is not None and after is not None and after <= before:
                self._wrong(model, (*path, at + 1), "is not above the step before it", "write rising steps, up to 95")
        last = numbers[-1] if numbers else None
        if last is not None and last != LAST:
            message = (
                f"the last step is {LAST:g} %: 5 % stay on stable for `last_hold` as a comparison, then the candidate "
                "is promoted"
            )
            self._odd(model, (*path, len(numbers) - 1), message, f"end the list with {LAST:g}")

    def _check_times(self, model: Declared, path: KeyPath, canary: Mapping[str, Any]) -> None:
        hold = readable_timeout(canary["hold"]) if "hold" in canary else _PLAN.hold
        longest = readable_timeout(canary.get("max_hold"))
        if longest is not None and hold is not None and longest < hold:
            message = f"`max_hold` is {format_duration(longest)}, shorter than `hold`, {format_duration(hold)}"
            self._wrong(model, (*path, "max_hold"), message, "make `max_hold` longer")
        freeze = _number(canary.get("freeze_below", _PLAN.freeze_below * 100))
        pause = _number(canary.get("pause_below", _PLAN.pause_below * 100))
        if freeze is not None and pause is not None and 0 <= freeze < pause <= 100:
            key = "pause_below" if "pause_below" in canary else "freeze_below"
            message = "a rollout would start with a budget at which it pauses"
            self._wrong(model, (*path, key), message, "set `pause_below` to at most `freeze_below`")

    def _check_mirror(self, model: Declared, path: KeyPath, stable: Any, candidate: Any) -> None:
        pools = [
            {pool for _, pool in model.items("versions", version, "pools") if isinstance(pool, str)}
            for version in (stable, candidate)
            if isinstance(version, str)
        ]
        shared = set.intersection(*pools) if len(pools) == 2 else set()
        if shared:
            message = f"copies would take slots from real requests: both versions run in {', '.join(sorted(shared))}"
            self._wrong(model, path, message, "give the candidate pools of its own, or set `mirror: 0`")


def _versions(model: Declared) -> list[str]:
    return model.names("versions") if "versions" in model.names() else [IMPLICIT_VERSION]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _step(value: Any) -> float | None:
    """Return a percentage of requests, None for what cannot be one."""
    number = _number(value)
    return number if number is not None and 0 < number <= 100 else None


def _is_zero(weight: Any) -> bool:
    return _number(weight) == 0
