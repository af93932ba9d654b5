"""The ledger of good and bad events: every SLI of every model, version, pool and backend, over every window.

Requests count for their model and version, attempts for their pool and backend, each under the objective that it is
held to: series are kept apart by objective, so that one class of requests never spends another's budget.

The ledger knows plain names and numbers, and the time as it is told: seconds since the epoch that never jump.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.policy.slo.counting import ObjectiveCounts, SubjectWindows
from gateway.policy.slo.folding import Folding
from gateway.policy.slo.judge import is_met
from gateway.policy.slo.moment import Moment
from gateway.policy.slo.objective import DEPLOYMENT, Objective, Sli, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey, SlotCounts
from gateway.policy.slo.slots import Slot
from gateway.policy.slo.windows import LASTING, SLO_SLOT, Windows

_LONGEST_PAUSE = 5.0
_EXACTNESS = 29 / 30


@dataclass(frozen=True, slots=True)
class ModelSubjects:
    """A model whose requests are counted: its objectives, its own first, and by version the pools that serve it."""

    name: str
    objectives: Sequence[Objective]
    versions: Mapping[str, Sequence[str]]


class SloLedger:
    """Counts, and the series that they are folded into.

    `requests` are the counts since the start by (model, version, objective), `attempts` by (backend, objective).
    `pools` says which pool a backend is of, `serving` which backends serve a (model, version), "" being all.
    """

    def __init__(self, now: float) -> None:
        self.requests: dict[tuple[str, str, str], ObjectiveCounts] = {}
        self.attempts: dict[tuple[str, str], ObjectiveCounts] = {}
        self.pools: dict[str, str] = {}
        self.serving: dict[tuple[str, str], list[str]] = {}
        self._moment = Moment(now)
        self._folding = Folding()
        self._observed: dict[float, Windows] = {}
        self._series: dict[SeriesKey, Series] = {}
        self._subjects: dict[tuple[str, str], list[Series]] = {}
        self._defaults: dict[str, str] = {}
        self._slots: dict[tuple[SeriesKey, float], SlotCounts] = {}

    def __repr__(self) -> str:
        return f"<SloLedger of {len(self._series)} series>"

    def __iter__(self) -> Iterator[Series]:
        return iter(self._series.values())

    def follow(self, models: Sequence[ModelSubjects], pools: Mapping[str, Sequence[str]], now: float) -> None:
        """Count for these models, and for these pools by their backends.

        What stays keeps its counts; an objective of another name starts from nothing.
        """
        self._folding.fold()
        lengths = {objective.window for model in models for objective in model.objectives}
        self._observed = {
            each: self._observed.get(each) or Windows(now, each, self._moment) for each in sorted(lengths)
        }
        known = _Known(self._series, self.requests, self.attempts, now)
        self._series, self.requests, self.attempts = {}, {}, {}
        self.pools = {backend: pool for pool, backends in pools.items() for backend in backends}
        self.serving = _serving(models, pools)
        self._slots = {key: each for key, each in self._slots.items() if (each.slot + 1) * each.width > now}
        self._defaults = {model.name: model.objectives[0].name for model in models}
        for model in models:
            for objective in model.objectives:
                self._follow_objective(known, model, objective, pools)
            self._follow_deployments(known, model)
        self._subjects = {}
        for series in self._series.values():
            self._subjects.setdefault((series.kind, series.name), []).append(series)
        self._folding.follow(self._series.values())

    def get(self, kind: Kind, name: str) -> list[Series]:
        """Return the series of one subject over prompts of all lengths: objective by objective, SLI by SLI."""
        return [each for each in self._subjects.get((kind, name), ()) if not each.prompt_tokens]

    def by_prompt_tokens(self, kind: Kind, name: str) -> list[Series]:
        """Return the series of one subject that are of one class of prompt lengths each."""
        return [each for each in self._subjects.get((kind, name), ()) if each.prompt_tokens]

    def of_request(self, model: str, version: str, objective: str) -> ObjectiveCounts | None:
        """Return what counts a request held to an objective, "" being its model's own; None where nothing does."""
        return self.requests.get((model, version, objective or self._defaults.get(model, "")))

    def of_attempt(self, backend: str, model: str, objective: str) -> ObjectiveCounts | None:
        """Return what counts an attempt of such a request at a backend; None where nothing does."""
        return self.attempts.get((backend, objective or self._defaults.get(model, "")))

    def count_deployment(self, model: str, seconds: float | None) -> None:
        """Count a deployment that took so long to its first live answer, None for one that never came to it."""
        for series in self.get(Kind.MODEL, model):
            if series.sli == DEPLOYMENT:
                good = seconds is not None and is_met(series.target, seconds)
                self.count(series, good=int(good), bad=int(not good))

    def count(self, series: Series, *, good: int = 0, bad: int = 0) -> None:
        """Count events of one series, besides those of requests and attempts."""
        self._folding.count(series, good=good, bad=bad)

    def advance(self, now: float) -> None:
        """Fold in what was counted since the last call; called every `windows.TICK` seconds."""
        for _ in self.advancing(now):
            pass

    def advancing(self, now: float) -> Iterator[None]:
        """Do so in small pieces. Windows that nothing was counted for follow when they are read."""
        elapsed, self._moment.now = now - self._moment.now, now
        for windows in self._observed.values():
            windows.good += int(min(elapsed, _LONGEST_PAUSE) * 1000)
            windows.advance(now)
        yield from self._folding.advancing(now)

    def take_failed(self) -> Sequence[Series] | None:
        """Return the series with bad events since the last call; None after others were followed, or restored."""
        return self._folding.take_failed()

    def coverage(self, window: float) -> float:
        """Return the share of a window, 0 to 1, in which a gateway was there to count; KeyError for no such window."""
        observed = self._observed.get(window) or next(iter(self._observed.values()))
        return min(1.0, observed.count(window).good / 1000 / (window * _EXACTNESS))

    def uncounted(self, windows: Windows) -> float:
        """Return the seconds of a series' SLO window, since its first event, in which no gateway was there to count."""
        observed = self._observed.get(windows.slo)
        if observed is None:
            return 0.0
        return max(0.0, min(windows.age, windows.slo - SLO_SLOT) - observed.count(windows.slo).good / 1000)

    def unsaved(self) -> list[SlotCounts]:
        """Return the slots that something was counted in since the last call, with all that this process counted there.

        These are absolute counts: to store one twice changes nothing, and processes that share a store add up.
        """
        found: list[SlotCounts] = []
        for length, observed in self._observed.items():
            self._export(found, _observed_key(length), observed)
        for key, series in self._series.items():
            self._export(found, key, series.windows)
        return found

    def restore(self, counts: Iterable[SlotCounts]) -> None:
        """Take back what outlived a restart; what is about a subject that is no more is left out.

        What was counted before series had an objective belongs to the first objective of its subject.
        """
        known = {_observed_key(length): observed for length, observed in self._observed.items()}
        known |= {key: series.windows for key, series in self._series.items()}
        for key, series in self._series.items():
            if not key.prompt_tokens:
                known.setdefault(key._replace(objective=""), series.windows)
        self._folding.restored()
        found: dict[tuple[SeriesKey, float], dict[int, Slot]] = {}
        for each in counts:
            found.setdefault((each.series, each.width), {})[each.slot] = each.good, each.bad, each.first, each.last
        for (key, width), slots in found.items():
            if key in known:
                known[key].restore(width, slots)

    def _export(self, found: list[SlotCounts], key: SeriesKey, windows: Windows) -> None:
        good, bad, first, last = windows.unsaved()
        if not (good or bad):
            return
        for width in LASTING:
            slot = int(last // width)
            known = self._slots.get((key, width))
            if known is not None and known.slot == slot:
                counts = SlotCounts(key, width, slot, known.good + good, known.bad + bad, known.first, last)
            else:
                counts = SlotCounts(key, width, slot, good, bad, max(first, slot * width), last)
            self._slots[key, width] = counts
            found.append(counts)

    def _follow_objective(
        self, known: "_Known", model: ModelSubjects, objective: Objective, pools: Mapping[str, Sequence[str]]
    ) -> None:
        """Count for a model and its versions under one objective, and for the pools and backends that serve them.

        A pool serves several models and versions, but an objective has its own targets whatever names it.
        """
        name = model.name
        of_model = self._windows_of(known, Kind.MODEL, name, objective, model=name)
        for version, uses in model.versions.items():
            of_version = self._windows_of(
                known, Kind.VERSION, f"{name}/{version}", objective, model=name, version=version
            )
            of_request = (name, version, objective.name)
            self.requests[of_request] = ObjectiveCounts(
                objective, (of_model, of_version), known.requests.get(of_request), self._folding.counted
            )
            for pool in uses:
                of_pool = self._windows_of(known, Kind.POOL, pool, objective)
                for backend in pools[pool]:
                    key = (backend, objective.name)
                    if key not in self.attempts:
                        of_backend = self._windows_of(known, Kind.BACKEND, backend, objective)
                        self.attempts[key] = ObjectiveCounts(
                            objective, (of_pool, of_backend), known.attempts.get(key), self._folding.counted
                        )

    def _follow_deployments(self, known: "_Known", model: ModelSubjects) -> None:
        objective = model.objectives[0]
        if objective.deployment is not None:
            key = SeriesKey(Kind.MODEL, model.name, objective.name, DEPLOYMENT)
            self._windows(known, key, objective.deployment, objective.window, model=model.name)

    def _windows_of(
        self, known: "_Known", kind: Kind, name: str, objective: Objective, *, model: str = "", version: str = ""
    ) -> SubjectWindows:
        """Return a subject's windows under an objective. Only what users experience tells prompts apart by length."""
        found: dict[Sli, list[Windows]] = {}
        for sli, target in objective.targets.items():
            key = SeriesKey(kind, name, objective.name, sli)
            classes = target.prompt_classes if kind in {Kind.MODEL, Kind.VERSION} else ()
            found[sli] = [
                self._windows(
                    known, key._replace(prompt_tokens=each), held, objective.window, model=model, version=version
                )
                for each, held in (("", target), *classes)
            ]
        return found

    def _windows(
        self,
        known: "_Known",
        key: SeriesKey,
        target: Target,
        window: float,
        *,
        model: str = "",
        version: str = "",
    ) -> Windows:
        series = self._series.get(key)
        if series is None:
            before = known.series.get(key)
            windows = before.windows if before is not None and before.windows.slo == window else None
            windows = windows or Windows(known.now, window, self._moment)
            series = self._series[key] = Series(key, target, windows, model=model, version=version)
        return series.windows


@dataclass(frozen=True, slots=True)
class _Known:
    """What had been counted when a ledger was told to follow others."""

    series: Mapping[SeriesKey, Series]
    requests: Mapping[tuple[str, str, str], ObjectiveCounts]
    attempts: Mapping[tuple[str, str], ObjectiveCounts]
    now: float


def _observed_key(length: float) -> SeriesKey:
    return SeriesKey(Kind.GATEWAY, f"observed over {length:g} s", "", "")


def _serving(models: Sequence[ModelSubjects], pools: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
    """Return the backends of each (model, version), and of each model under the version ""."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for model in models:
        for version, uses in model.versions.items():
            backends = dict.fromkeys(backend for pool in uses for backend in pools[pool])
            found[model.name, version] = backends
            found.setdefault((model.name, ""), {}).update(backends)
    return {key: list(backends) for key, backends in found.items()}
