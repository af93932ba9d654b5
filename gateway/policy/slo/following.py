"""What a ledger counts for under other routes, prepared in small pieces beside what counts meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.policy.slo.counting import ObjectiveCounts, SubjectWindows
from gateway.policy.slo.moment import Moment
from gateway.policy.slo.objective import DEPLOYMENT, THROUGHPUT, Objective, Sli, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import Windows


@dataclass(frozen=True, slots=True)
class ModelSubjects:
    """A model whose requests are counted: its objectives, its own first, and by version the pools that serve it."""

    name: str
    objectives: Sequence[Objective]
    versions: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class KnownCounts:
    """What counts when a ledger is told to follow others."""

    series: Mapping[SeriesKey, Series]
    requests: Mapping[tuple[str, str, str], ObjectiveCounts]
    attempts: Mapping[tuple[str, str], ObjectiveCounts]


class SeriesOf:
    """The series of other routes, by key and by their windows; those that are known keep their windows."""

    __slots__ = ("_known", "_moment", "by_windows", "now", "series")

    def __init__(self, known: Mapping[SeriesKey, Series], moment: Moment, now: float) -> None:
        self._known = known
        self._moment = moment
        self.now = now
        self.series: dict[SeriesKey, Series] = {}
        self.by_windows: dict[Windows, Series] = {}

    def __repr__(self) -> str:
        return f"<SeriesOf {len(self.series)}>"

    def subject(
        self, kind: Kind, name: str, objective: Objective, *, model: str = "", version: str = ""
    ) -> SubjectWindows:
        """Return a subject's windows under an objective. Only what users experience tells prompts apart by length."""
        found: dict[Sli, list[Windows]] = {}
        for sli, target in objective.targets.items():
            key = SeriesKey(kind, name, objective.name, sli)
            classes = target.prompt_classes if kind in {Kind.MODEL, Kind.VERSION} else ()
            found[sli] = [
                self.windows(key._replace(prompt_tokens=each), held, objective.window, model=model, version=version)
                for each, held in (("", target), *classes)
            ]
        return found

    def windows(self, key: SeriesKey, target: Target, window: float, *, model: str = "", version: str = "") -> Windows:
        """Return the windows of one series."""
        series = self.series.get(key)
        if series is None:
            before = self._known.get(key)
            windows = before.windows if before is not None and before.windows.slo == window else None
            windows = windows or Windows(self.now, window, self._moment)
            series = self.series[key] = Series(key, target, windows, model=model, version=version)
            self.by_windows[windows] = series
        return series.windows


class LedgerFollowing:
    """All that a ledger holds of the routes that it is to follow; what is held of those before stays as it is.

    `lengths` are the SLO windows of all objectives. `go_on` takes over what was counted while this was prepared.
    """

    def __init__(
        self,
        known: KnownCounts,
        series: SeriesOf,
        counted: list[ObjectiveCounts],
        models: Sequence[ModelSubjects],
        pools: Mapping[str, Sequence[str]],
    ) -> None:
        self.requests: dict[tuple[str, str, str], ObjectiveCounts] = {}
        self.attempts: dict[tuple[str, str], ObjectiveCounts] = {}
        self.serving: dict[tuple[str, str], list[str]] = {}
        self.subjects: dict[tuple[str, str], list[Series]] = {}
        self._of = series
        self._known = known
        self._counted = counted
        self._models = models
        self._pools = pools
        self._backends: dict[tuple[str, ...], list[str]] = {}

    def __repr__(self) -> str:
        return f"<LedgerFollowing {len(self._models)} models, {len(self.series)} series so far>"

    @property
    def now(self) -> float:
        """When it was begun."""
        return self._of.now

    @property
    def series(self) -> dict[SeriesKey, Series]:
        """Every series by its key."""
        return self._of.series

    @property
    def by_windows(self) -> dict[Windows, Series]:
        """Every series by its windows."""
        return self._of.by_windows

    @property
    def lengths(self) -> set[float]:
        """Return the SLO windows of all objectives."""
        return {objective.window for model in self._models for objective in model.objectives}

    @property
    def defaults(self) -> dict[str, str]:
        """Return the name of each model's own objective."""
        return {model.name: model.objectives[0].name for model in self._models}

    @property
    def pool_of(self) -> dict[str, str]:
        """Return which pool a backend is of."""
        return {backend: pool for pool, backends in self._pools.items() for backend in backends}

    def prepare(self) -> Iterator[None]:
        """Make everything, in pieces of one model or backend."""
        pools: set[tuple[str, str]] = set()
        for model in self._models:
            for objective in model.objectives:
                of_model = self._of.subject(Kind.MODEL, model.name, objective, model=model.name)
                for version, uses in model.versions.items():
                    self._count_requests(model.name, version, objective, of_model)
                    yield
                    for pool in uses:
                        if (pool, objective.name) not in pools:
                            pools.add((pool, objective.name))
                            yield from self._count_attempts(pool, objective)
                if objective.throughput is not None:
                    key = SeriesKey(Kind.MODEL, model.name, objective.name, THROUGHPUT)
                    self._of.windows(key, objective.throughput.target, objective.window, model=model.name)
            self._count_deployments(model)
            self._serve(model)
        for series in self.series.values():
            self.subjects.setdefault((series.kind, series.name), []).append(series)
            yield

    def go_on(self) -> None:
        """Take over what was counted since other counts were made for the same."""
        for request, counts in self.requests.items():
            counts.go_on_from(self._known.requests.get(request))
        for attempt, counts in self.attempts.items():
            counts.go_on_from(self._known.attempts.get(attempt))

    def _count_requests(self, model: str, version: str, objective: Objective, of_model: SubjectWindows) -> None:
        """Count for a model and one of its versions under one objective."""
        of_version = self._of.subject(Kind.VERSION, f"{model}/{version}", objective, model=model, version=version)
        key = (model, version, objective.name)
        self.requests[key] = self._counts(objective, (of_model, of_version), self._known.requests.get(key))

    def _count_attempts(self, pool: str, objective: Objective) -> Iterator[None]:
        """Count for a pool and its backends: it serves several models, but an objective has its own targets."""
        of_pool = self._of.subject(Kind.POOL, pool, objective)
        for backend in self._pools[pool]:
            key = (backend, objective.name)
            of_backend = self._of.subject(Kind.BACKEND, backend, objective)
            self.attempts[key] = self._counts(objective, (of_pool, of_backend), self._known.attempts.get(key))
            yield

    def _counts(
        self, objective: Objective, subjects: Sequence[SubjectWindows], known: ObjectiveCounts | None
    ) -> ObjectiveCounts:
        """Return what counts for these subjects: what did so before, where nothing about it has changed."""
        if known is not None and known.counts_for(objective, subjects):
            return known
        return ObjectiveCounts(objective, subjects, known, self._counted)

    def _count_deployments(self, model: ModelSubjects) -> None:
        objective = model.objectives[0]
        own = () if objective.deployment is None else ((DEPLOYMENT, objective.deployment),)
        for sli, target in (*own, *objective.stages):
            key = SeriesKey(Kind.MODEL, model.name, objective.name, sli)
            self._of.windows(key, target, objective.window, model=model.name)

    def _serve(self, model: ModelSubjects) -> None:
        """Note which backends serve a model, under the version "", and each of its versions."""
        for version, uses in model.versions.items():
            self.serving[model.name, version] = self._serving(tuple(uses))
        every = dict.fromkeys(pool for uses in model.versions.values() for pool in uses)
        if model.versions:
            self.serving[model.name, ""] = self._serving(tuple(every))

    def _serving(self, pools: tuple[str, ...]) -> list[str]:
        """Return the backends of some pools; models that use the same pools share one list."""
        found = self._backends.get(pools)
        if found is None:
            names = dict.fromkeys(backend for pool in pools for backend in self._pools[pool])
            found = self._backends[pools] = list(names)
        return found
