"""Whose the failures of the last hour were: good and bad events by tenant and by length of the prompt.

They keep to the ledger's minutes, and so add up to what it has counted meanwhile. Unlike its series they are neither
stored nor shared: there may be thousands of tenants.
"""

from bisect import bisect_right
from collections.abc import Generator, Iterator
from typing import Final, NamedTuple

from gateway.policy.slo.objective import Objective, Sli, prompt_class_names

TENANT: Final = "tenant"
PROMPT: Final = "prompt"
OTHERS: Final = "(others)"
"""Those that are too many to be counted, or told, one by one. No tenant is called so."""
MOST: Final = 4000
"""How many pairs of an objective and a tenant are counted one by one."""
_STEPS: Final = (1024, 4096, 16_384)
"""Prompts are told apart at these lengths where the objective names none."""
_MINUTES: Final = 60
_SECONDS: Final = 60.0
_TOGETHER: Final = 64
_ITL: Final = Sli.ITL


class Contribution(NamedTuple):
    """One tenant, or one class of prompt lengths, and its events of one SLI in the last hour."""

    kind: str
    name: str
    bad: int
    total: int


class _Hour:
    """All events and the bad ones by minute; what is older than an hour is overwritten."""

    __slots__ = ("_bad", "_minute", "_total")

    def __init__(self, minute: int) -> None:
        self._total = [0] * _MINUTES
        self._bad = [0] * _MINUTES
        self._minute = minute

    def add(self, minute: int, total: int, bad: int) -> None:
        """Count events of this minute."""
        self._pass(minute)
        self._total[minute % _MINUTES] += total
        if bad:
            self._bad[minute % _MINUTES] += bad

    def counts(self, minute: int) -> tuple[int, int]:
        """Return all events and the bad ones of the hour that ends with this minute."""
        self._pass(minute)
        return sum(self._total), sum(self._bad)

    def _pass(self, minute: int) -> None:
        if minute > self._minute:
            for passing in range(max(self._minute, minute - _MINUTES) + 1, minute + 1):
                self._total[passing % _MINUTES] = self._bad[passing % _MINUTES] = 0
            self._minute = minute


_Fresh = tuple[str, str, str, str, tuple[tuple[str, bool], ...]]
"""Model, objective, tenant, class of the prompt, and what was judged: alike for nearly all requests of a moment."""
_Name = tuple[str, str]


class Contributions:
    """Counts by (model, objective), then by kind and name, then by SLI; at most so many tenants of all of these."""

    __slots__ = ("_found", "_fresh", "_gaps", "_minute", "_most", "_swept", "_tenants")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._fresh: dict[_Fresh, int] = {}
        self._gaps: dict[_Fresh, tuple[int, int]] = {}
        self._found: dict[tuple[str, str], dict[_Name, dict[str, _Hour]]] = {}
        self._minute = self._swept = 0
        self._tenants = 0

    def __repr__(self) -> str:
        return f"<Contributions of {self._tenants} tenants>"

    def count(
        self,
        model: str,
        objective: Objective,
        judged: dict[str, bool],
        gaps: tuple[int, int],
        *,
        prompt_tokens: int,
        tenant: str,
    ) -> None:
        """Remember a settled request as the ledger counts it; `tenant` is "" where there are none."""
        target = objective.ttft
        steps = target.steps if target is not None and target.steps else _STEPS
        prompt = prompt_class_names(steps)[bisect_right(steps, prompt_tokens)]
        key = model, objective.name, tenant, prompt, tuple(judged.items())
        self._fresh[key] = self._fresh.get(key, 0) + 1
        good, bad = gaps
        if good or bad:
            known_good, known_bad = self._gaps.get(key, (0, 0))
            self._gaps[key] = known_good + good, known_bad + bad

    def folding(self, now: float) -> Iterator[None]:
        """Count what was remembered since the last call, in small pieces: it happened now."""
        minute = self._minute = int(now // _SECONDS)
        fresh, self._fresh = self._fresh, {}
        gaps, self._gaps = self._gaps, {}
        for number, (key, count) in enumerate(fresh.items()):
            model, objective, tenant, prompt, judged = key
            parts = self._found.setdefault((model, objective), {})
            names = [(PROMPT, prompt)]
            if tenant:
                names.append(self._tenant(tenant, parts))
            for name in names:
                self._add(parts.setdefault(name, {}), count, judged, gaps.get(key, (0, 0)))
            if number % _TOGETHER == 0:
                yield
        if minute >= self._swept + _MINUTES:
            self._swept = minute
            yield from self._sweeping()

    def of(self, model: str, objective: str, sli: str) -> Generator[None, None, list[Contribution]]:
        """Return those with failures, in no order; found in small pieces."""
        found = []
        for number, ((kind, name), hours) in enumerate(list(self._found.get((model, objective), {}).items())):
            if sli in hours:
                total, bad = hours[sli].counts(self._minute)
                if bad:
                    found.append(Contribution(kind, name, bad, total))
            if number % _TOGETHER == 0:
                yield
        return found

    def _add(
        self, hours: dict[str, _Hour], count: int, judged: tuple[tuple[str, bool], ...], gaps: tuple[int, int]
    ) -> None:
        for sli, is_good in judged:
            self._hour(hours, sli).add(self._minute, count, 0 if is_good else count)
        good, bad = gaps
        if good or bad:
            self._hour(hours, _ITL).add(self._minute, good + bad, bad)

    def _hour(self, hours: dict[str, _Hour], sli: str) -> _Hour:
        hour = hours.get(sli)
        if hour is None:
            hour = hours[sli] = _Hour(self._minute)
        return hour

    def _tenant(self, tenant: str, parts: dict[_Name, dict[str, _Hour]]) -> _Name:
        name = TENANT, tenant
        if name in parts:
            return name
        if self._tenants >= self._most:
            return TENANT, OTHERS
        self._tenants += 1
        return name

    def _sweeping(self) -> Iterator[None]:
        """Forget what nothing was counted of for an hour."""
        for whole, parts in list(self._found.items()):
            for name, hours in list(parts.items()):
                if not any(hour.counts(self._minute)[0] for hour in hours.values()):
                    del parts[name]
                    self._tenants -= name[0] == TENANT and name[1] != OTHERS
            if not parts:
                del self._found[whole]
            yield
