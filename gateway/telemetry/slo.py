"""The book of good and bad events: every SLI of every model, version, pool and backend, over every window.

Requests count for their model and version, attempts for their pool and backend, each under the objective that it is
held to: series are kept apart by objective, so that one class of requests never spends another's budget.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.config.table import ModelSpec, PoolSpec, RouteTable
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import Observer
from gateway.policy.slo.judge import judge_attempt, judge_request
from gateway.policy.slo.objective import DEPLOYMENT, Objective, Sli, Target
from gateway.policy.slo.series import SeriesKey
from gateway.policy.slo.windows import SLO_SLOT, KeptSlot, Slot, Windows
from gateway.telemetry.counting import ObjectiveCounts, Series

_LONGEST_PAUSE = 5.0
_EXACTNESS = 29 / 30


class Kind(StrEnum):
    """What a burn rate can belong to: the closed set of the `subject` label. GATEWAY is the process's own time."""

    MODEL = "model"
    VERSION = "version"
    POOL = "pool"
    BACKEND = "backend"
    GATEWAY = "gateway"


class Tracked:
    """A series: the events of one SLI of one subject under one objective, and the target that they are held against.

    `model` and `version` say whose it is, "" where that is not one model's or version's. `prompt_tokens` is a class of
    prompt lengths, "" for all of them.
    """

    __slots__ = ("kind", "model", "name", "objective", "prompt_tokens", "sli", "target", "version", "windows")

    def __init__(self, key: SeriesKey, target: Target, windows: Windows, *, model: str = "", version: str = "") -> None:
        self.kind = Kind(key.kind)
        self.name = key.name
        self.objective = key.objective
        self.sli = key.sli
        self.prompt_tokens = key.prompt_tokens
        self.model = model
        self.version = version
        self.target = target
        self.windows = windows

    def __repr__(self) -> str:
        return f"<Tracked {self.sli} of {self.kind} {self.name} ({self.objective}) {self.windows!r}>"

    @property
    def key(self) -> SeriesKey:
        """What it is known by over reloads and restarts."""
        return SeriesKey(self.kind, self.name, self.objective, self.sli, self.prompt_tokens)


class SloBook(Observer):
    """Counts requests and attempts.

    `requests` are the counts since the start by (model, version, objective), `attempts` by (backend, objective).
    `pools` says which pool a backend is of, `serving` which backends serve a (model, version), "" being all.
    """

    def __init__(self, clock: Clock) -> None:
        """Take a clock of seconds since the epoch that never jumps."""
        self.requests: dict[tuple[str, str, str], ObjectiveCounts] = {}
        self.attempts: dict[tuple[str, str], ObjectiveCounts] = {}
        self.pools: dict[str, str] = {}
        self.serving: dict[tuple[str, str], list[str]] = {}
        self._clock = clock
        self._advanced = clock()
        self._observed: dict[float, Windows] = {}
        self._tracked: dict[SeriesKey, Tracked] = {}
        self._subjects: dict[tuple[str, str], list[Tracked]] = {}
        self._defaults: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<SloBook of {len(self._tracked)} series>"

    def __iter__(self) -> Iterator[Tracked]:
        return iter(self._tracked.values())

    def follow(self, table: RouteTable) -> None:
        """Track what the routes name. What stays keeps its counts; an objective of another name starts from nothing."""
        self._fold()
        lengths = {objective.window for model in table.models.values() for objective in model.objectives}
        self._observed = {each: self._observed.get(each) or Windows(self._clock(), each) for each in sorted(lengths)}
        before, self._tracked = self._tracked, {}
        requests, self.requests = self.requests, {}
        attempts, self.attempts = self.attempts, {}
        self.pools = {spec.id: pool.name for pool in table.pools.values() for spec in pool.backends}
        self.serving = serving(table)
        self._defaults = {model.name: model.objective.name for model in table.models.values()}
        for model in table.models.values():
            for objective in model.objectives:
                of_model = self._series(before, Kind.MODEL, model.name, objective, model=model.name)
                for version in model.versions.values():
                    of_version = self._series(
                        before,
                        Kind.VERSION,
                        f"{model.name}/{version.name}",
                        objective,
                        model=model.name,
                        version=version.name,
                    )
                    key = (model.name, version.name, objective.name)
                    self.requests[key] = ObjectiveCounts(objective, (of_model, of_version), requests.get(key))
                    for pool in version.pools:
                        self._follow_pool(before, table.pools[pool], objective, attempts)
            self._follow_deployments(before, model)
        self._subjects = {}
        for tracked in self._tracked.values():
            self._subjects.setdefault((tracked.kind, tracked.name), []).append(tracked)

    def get(self, kind: Kind, name: str) -> list[Tracked]:
        """Return the series of one subject over prompts of all lengths: objective by objective, SLI by SLI."""
        return [each for each in self._subjects.get((kind, name), ()) if not each.prompt_tokens]

    def by_prompt_tokens(self, kind: Kind, name: str) -> list[Tracked]:
        """Return the series of one subject that are of one class of prompt lengths each."""
        return [each for each in self._subjects.get((kind, name), ()) if each.prompt_tokens]

    def deployed(self, model: str, seconds: float | None) -> None:
        """Count a deployment that took so long to its first live answer, None for one that never came to it."""
        for tracked in self.get(Kind.MODEL, model):
            if tracked.sli == DEPLOYMENT:
                good = seconds is not None and seconds <= tracked.target.under
                tracked.windows.good += good
                tracked.windows.bad += not good

    def on_settled(self, exchange: Exchange) -> None:
        """Count what the user experienced."""
        objective = exchange.objective or self._defaults.get(exchange.model, "")
        counts = self.requests.get((exchange.model, exchange.version, objective))
        if counts is not None:
            judged = judge_request(counts.objective, exchange)
            if judged:
                counts.count_request(judged, exchange)

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Count what the backend did."""
        counts = self.attempts.get((backend.id, exchange.objective or self._defaults.get(exchange.model, "")))
        if counts is not None:
            judged = judge_attempt(counts.objective, exchange, end)
            if judged:
                counts.count(judged, exchange, gaps=not exchange.excused)

    def advance(self) -> None:
        """Fold in what was counted since the last call; called every `windows.TICK` seconds."""
        now = self._clock()
        elapsed = now - self._advanced
        self._advanced = now
        self._fold()
        for windows in self._observed.values():
            windows.good += int(min(elapsed, _LONGEST_PAUSE) * 1000)
            windows.advance(now)
        for tracked in self._tracked.values():
            tracked.windows.advance(now)

    def coverage(self, window: float) -> float:
        """Return the share of a window, 0 to 1, in which anybody was there to count; KeyError for no such window."""
        observed = self._observed.get(window) or next(iter(self._observed.values()))
        return min(1.0, observed.count(window).good / 1000 / (window * _EXACTNESS))

    def uncounted(self, windows: Windows) -> float:
        """Return the seconds of a series' SLO window, since its first event, in which no gateway was there to count."""
        observed = self._observed.get(windows.slo)
        if observed is None:
            return 0.0
        return max(0.0, min(windows.age, windows.slo - SLO_SLOT) - observed.count(windows.slo).good / 1000)

    def unsaved(self) -> Iterator[tuple[SeriesKey, Slot]]:
        """Return what every series that something was folded into has counted since the last call."""
        for length, observed in self._observed.items():
            slot = observed.unsaved()
            if slot[0]:
                yield _observed_key(length), slot
        for key, tracked in self._tracked.items():
            slot = tracked.windows.unsaved()
            if slot[0] or slot[1]:
                yield key, slot

    def restore(self, slots: Iterable[KeptSlot]) -> None:
        """Take back what was kept over a restart; what is about a subject that is no more is left out.

        What was kept before series had an objective belongs to the first objective of its subject.
        """
        known = {_observed_key(length): observed for length, observed in self._observed.items()}
        known |= {key: tracked.windows for key, tracked in self._tracked.items()}
        for key, tracked in self._tracked.items():
            if not key.prompt_tokens:
                known.setdefault(key._replace(objective=""), tracked.windows)
        series: dict[tuple[SeriesKey, float], dict[int, Slot]] = {}
        for kept in slots:
            slot = kept.good, kept.bad, kept.first, kept.last
            series.setdefault((kept.series, kept.width), {})[kept.slot] = slot
        for (key, width), counted in series.items():
            if key in known:
                known[key].restore(width, counted)

    def _fold(self) -> None:
        for counts in (*self.requests.values(), *self.attempts.values()):
            counts.fold()

    def _follow_pool(
        self,
        before: Mapping[SeriesKey, Tracked],
        pool: PoolSpec,
        objective: Objective,
        known: Mapping[tuple[str, str], ObjectiveCounts],
    ) -> None:
        """A pool serves several models and versions, but an objective has its own targets whatever names it."""
        of_pool = self._series(before, Kind.POOL, pool.name, objective)
        for spec in pool.backends:
            key = (spec.id, objective.name)
            if key not in self.attempts:
                of_backend = self._series(before, Kind.BACKEND, spec.id, objective)
                self.attempts[key] = ObjectiveCounts(objective, (of_pool, of_backend), known.get(key))

    def _follow_deployments(self, before: Mapping[SeriesKey, Tracked], model: ModelSpec) -> None:
        objective = model.objective
        if objective.deployment is not None:
            key = SeriesKey(Kind.MODEL, model.name, objective.name, DEPLOYMENT)
            self._track(before, key, objective.deployment, objective.window, model=model.name)

    def _series(
        self,
        before: Mapping[SeriesKey, Tracked],
        kind: Kind,
        name: str,
        objective: Objective,
        *,
        model: str = "",
        version: str = "",
    ) -> Series:
        """Track a subject under an objective. Only for what users experience prompts are told apart by length."""
        found: dict[Sli, list[Windows]] = {}
        for sli, target in objective.targets.items():
            key = SeriesKey(kind, name, objective.name, sli)
            classes = target.prompt_classes if kind in {Kind.MODEL, Kind.VERSION} else ()
            found[sli] = [
                self._track(
                    before, key._replace(prompt_tokens=each), held, objective.window, model=model, version=version
                )
                for each, held in (("", target), *classes)
            ]
        return found

    def _track(
        self,
        before: Mapping[SeriesKey, Tracked],
        key: SeriesKey,
        target: Target,
        window: float,
        *,
        model: str = "",
        version: str = "",
    ) -> Windows:
        tracked = self._tracked.get(key)
        if tracked is None:
            known = before.get(key)
            windows = known.windows if known is not None and known.windows.slo == window else None
            windows = windows or Windows(self._clock(), window)
            tracked = self._tracked[key] = Tracked(key, target, windows, model=model, version=version)
        return tracked.windows


def _observed_key(length: float) -> SeriesKey:
    return SeriesKey(Kind.GATEWAY, f"observed over {length:g} s", "", "")


def serving(table: RouteTable) -> dict[tuple[str, str], list[str]]:
    """Return the backends of each (model, version), and of each model under the version ""."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for model in table.models.values():
        for version in model.versions.values():
            ids = [spec.id for pool in version.pools for spec in table.pools[pool].backends]
            found[model.name, version.name] = dict.fromkeys(ids)
            found.setdefault((model.name, ""), {}).update(dict.fromkeys(ids))
    return {key: list(ids) for key, ids in found.items()}
