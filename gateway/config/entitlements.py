"""Whether classes and tenants agree: that tenants name classes and models there are, and that no key opens two doors.

Looks at plain values, as `consistency` does, so that a slip in one place does not hide those in others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.consistency import Declared
from gateway.config.explain import shown
from gateway.config.problems import KeyPath, Problem, suggest
from gateway.policy.admission.classes import CLASSES


@dataclass(frozen=True, slots=True)
class Entitlements:
    """Checks classes and tenants; gathers what is wrong."""

    classes: Mapping[str, Declared]
    tenants: Mapping[str, Declared]
    models: Mapping[str, Declared]
    problems: list[Problem] = field(default_factory=list)

    def check(self) -> None:
        """Fill `problems`."""
        self._check_shares()
        taken: dict[str, str] = {}
        for name, tenant in self.tenants.items():
            self._check_class(tenant)
            self._check_models(tenant)
            self._check_keys(name, tenant, taken)

    def _check_shares(self) -> None:
        shares = {name: each.min_share for name, each in CLASSES.items()}
        shares |= {name: _number(_get(each.values, "min_share")) for name, each in self.classes.items()}
        total = sum(shares.values())
        if total < 1:
            return
        for name, declared in self.classes.items():
            if shares[name]:
                message = f"all classes together are guaranteed {total:g} of the tokens served"
                self._wrong(
                    declared, (*declared.path, "min_share"), message, "choose shares that add up to less than 1"
                )
                return

    def _check_class(self, tenant: Declared) -> None:
        known = [*CLASSES, *self.classes]
        name = _get(tenant.values, "class")
        if isinstance(name, str) and name not in known:
            path = (*tenant.path, "class")
            hint = suggest(name, known, "known classes")
            self._wrong(tenant, path, f"there is no class {shown(tenant.document, path)}", hint)

    def _check_models(self, tenant: Declared) -> None:
        known = [*self.models, *(alias for each in self.models.values() for _, alias in each.items("aliases"))]
        for path, name in tenant.items("models"):
            if isinstance(name, str) and name not in known:
                hint = suggest(name, known, "known models")
                self._wrong(tenant, path, f"there is no model {shown(tenant.document, path)}", hint)

    def _check_keys(self, name: str, tenant: Declared, taken: dict[str, str]) -> None:
        value = _get(tenant.values, "key_sha256")
        for digest in value if isinstance(value, list) else [value]:
            if not isinstance(digest, str):
                continue
            if digest in taken:
                hint = "give each tenant a key of its own"
                message = f"this is also the key of tenant `{taken[digest]}`"
                self._wrong(tenant, (*tenant.path, "key_sha256"), message, hint)
            taken[digest] = name

    def _wrong(self, at: Declared, path: KeyPath, message: str, hint: str) -> None:
        self.problems.append(at.document.problem(path, message, hint))


def _get(values: Any, key: str) -> Any:
    return values.get(key) if isinstance(values, dict) else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
