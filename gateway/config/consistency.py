"""What route entries must agree on with each other, across all files.

Looks at plain values and not at validated entries, so that a slip in one place does not hide those in others. What
has the wrong type is skipped here: the schema has its own word about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

from gateway.config.addresses import parse_address
from gateway.config.backend_checks import entry_problems, origin_of
from gateway.config.document import Document
from gateway.config.durations import format_duration, readable_timeout
from gateway.config.explain import shown
from gateway.config.problems import InvalidValueError, KeyPath, Problem, suggest
from gateway.config.schema import ModelEntry
from gateway.config.table import Timeouts
from gateway.policy.routing.ejection import USUAL


@dataclass(frozen=True, slots=True)
class Declared:
    """One named pool or model where it stands, as plain values."""

    document: Document
    path: KeyPath
    values: Any

    @property
    def where(self) -> str:
        """`file:line` of its name."""
        return self.document.where(self.path)

    def items(self, *path: str) -> list[tuple[KeyPath, Any]]:
        """Return the items of the list or mapping at a path below this, with full paths; nothing if it is neither."""
        value = self.values
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [((*self.path, *path, key), item) for key, item in pairs]

    def names(self, *path: str) -> list[str]:
        """Return the keys of the mapping at a path below this."""
        return [key for (*_, key), _ in self.items(*path) if isinstance(key, str)]


@dataclass(frozen=True, slots=True)
class Consistency:
    """Checks the pools and models of all files against each other; gathers what is wrong and what is odd.

    Without `all_pools_known` nothing is said of pools that are missing: they may stand in what could not be read.
    """

    pools: Mapping[str, Declared]
    models: Mapping[str, Declared]
    all_pools_known: bool = True
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def check(self) -> None:
        """Fill `problems` and `warnings`."""
        for pool in self.pools.values():
            self._check_backends(pool)
            self._check_outliers(pool)
        for name, model in self.models.items():
            self._check_backends(model)
            self._check_shape(name, model)
            self._check_pools(model)
            self._check_timeouts(model)
        self._check_aliases()
        self._check_use()

    def _wrong(self, at: Declared, path: KeyPath, message: str, hint: str, *, at_key: bool = False) -> None:
        self.problems.append(at.document.problem(path, message, hint, at_key=at_key))

    def _check_backends(self, owner: Declared) -> None:
        seen: dict[object, str] = {}
        for path, backend in owner.items("backends"):
            if isinstance(backend, dict):
                self.problems.extend(entry_problems(owner.document, path, backend))
            identity = _identity(backend)
            if identity is None:
                continue
            if identity in seen:
                self._wrong(
                    owner, path, f"the backend is already in this pool at {seen[identity]}", "keep one of the two"
                )
            else:
                seen[identity] = owner.document.where(path)

    def _check_outliers(self, pool: Declared) -> None:
        """Refuse a first ejection that is longer than the longest; a share of less than one backend ejects none."""
        given = {path[-1]: (path, value) for path, value in pool.items("outlier_detection")}
        base, longest = USUAL.base_ejection_time, USUAL.max_ejection_time
        at: KeyPath = ()
        if "max_ejection_time" in given:
            at, value = given["max_ejection_time"]
            longest = readable_timeout(value) or inf
        if "base_ejection_time" in given:
            at, value = given["base_ejection_time"]
            base = readable_timeout(value) or 0.0
        if base > longest:
            message = f"the first ejection would last {format_duration(base)}, the longest {format_duration(longest)}"
            self._wrong(pool, at, message, "make `max_ejection_time` at least as long as `base_ejection_time`")
        if "max_ejection_percent" not in given:
            return
        at, value = given["max_ejection_percent"]
        entries = [backend for _, backend in pool.items("backends")]
        if any(isinstance(each, dict) and "url" not in each for each in entries):
            return  # how many there are is found later
        backends = len(entries)
        if isinstance(value, str) and value.isdecimal() and 0 < int(value) * backends < 100:
            message = f"ejects no backend: {value} % of {backends} is less than one"
            hint = f"write at least {ceil(100 / backends)}" if backends > 1 else "a pool of one keeps its only backend"
            self.warnings.append(pool.document.problem(at, message, f"{hint}; 0 says that none is to be ejected"))

    def _check_shape(self, name: str, model: Declared) -> None:
        keys = set(model.names())
        is_understood = isinstance(model.values, dict) and keys <= ModelEntry.model_fields.keys()
        if is_understood and not {"backends", "versions"} & keys:
            message = "neither `backends` nor `versions`: nothing serves this model"
            hint = "write `backends: [http://localhost:8000]`, or `versions: {v1: {pools: [gpu]}}`"
            self._wrong(model, model.path, message, hint)
        if {"backends", "versions"} <= keys:
            hint = "move the backends to a pool that a version names, or delete `versions`"
            self._wrong(model, (*model.path, "backends"), "`backends` and `versions` cannot be used together", hint)
        elif "backends" in keys and name in self.pools:
            message = f"these backends form the pool `{name}`, but that name is taken at {self.pools[name].where}"
            hint = f"rename that pool, or use it: `versions: {{v1: {{pools: [{name}]}}}}`"
            self._wrong(model, (*model.path, "backends"), message, hint)
        if {"served_model", "versions"} <= keys:
            hint = "move it into the version that it belongs to"
            self._wrong(model, (*model.path, "served_model"), "cannot be used together with `versions`", hint)

    def _check_pools(self, model: Declared) -> None:
        # One that is there in capitals has a name that is not valid, which is said there.
        known = {*self.pools, *map(str.lower, self.pools)}
        for version in model.names("versions"):
            listed: set[str] = set()
            for path, pool in model.items("versions", version, "pools"):
                if not isinstance(pool, str):
                    continue
                if pool not in known and self.all_pools_known:
                    message = f"there is no pool {shown(model.document, path)}"
                    self._wrong(model, path, message, suggest(pool, self.pools, "known pools"))
                if pool in listed:
                    self._wrong(model, path, "the pool is listed twice", "keep one of the two")
                listed.add(pool)

    def _check_timeouts(self, model: Declared) -> None:
        seconds = {str(path[-1]): readable_timeout(value) for path, value in model.items("timeouts")}
        total = seconds.pop("total", None) or Timeouts().total
        for name, limit in seconds.items():
            if limit is not None and limit > total:
                message = f"can never expire, because `total` is {format_duration(total)}"
                path = (*model.path, "timeouts", name)
                self.warnings.append(model.document.problem(path, message, "shorten it, or make `total` longer"))

    def _check_aliases(self) -> None:
        taken = {name: f"the model at {model.where}" for name, model in self.models.items()}
        for model in self.models.values():
            for path, alias in model.items("aliases"):
                if not isinstance(alias, str):
                    continue
                if alias in taken:
                    message = f"{shown(model.document, path)} already names {taken[alias]}"
                    self._wrong(model, path, message, "rename one of the two")
                else:
                    taken[alias] = f"the model at {model.document.where(path)}, as an alias"

    def _check_use(self) -> None:
        used = {
            pool
            for model in self.models.values()
            for version in model.names("versions")
            for _, pool in model.items("versions", version, "pools")
            if isinstance(pool, str)
        }
        for name, pool in self.pools.items():
            if name not in used:
                hint = "name it in the `pools` of a version"
                self.warnings.append(pool.document.problem(pool.path, "no model uses this pool", hint))


def _identity(backend: Any) -> object:
    """Return what two entries of a pool must not share, None where that cannot be told."""
    if isinstance(backend, dict) and "url" not in backend:
        return origin_of(backend)
    try:
        address = parse_address(backend.get("url") if isinstance(backend, dict) else backend)
    except InvalidValueError:
        return None
    return address.host, address.port, address.base_path
