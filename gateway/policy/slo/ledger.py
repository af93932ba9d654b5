"""The ledger of good and bad events: every SLI of every model, version, pool and backend, over every window.

Requests count for their model and version, attempts for their pool and backend, each under the objective that it is
held to: series are kept apart by objective, so that one class of requests never spends another's budget.

The ledger knows plain names and numbers, and the time as it is told: seconds since the epoch that never jump.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from gateway.policy.slo.contributions import Contributions
from gateway.policy.slo.counting import ObjectiveCounts
from gateway.policy.slo.folding import Folding
from gateway.policy.slo.following import KnownCounts, LedgerFollowing, ModelSubjects, SeriesOf
from gateway.policy.slo.judge import is_met
from gateway.policy.slo.moment import Moment
from gateway.policy.slo.objective import DEPLOYMENT
from gateway.policy.slo.series import Kind, Series, SeriesKey, SlotCounts
from gateway.policy.slo.slots import Slot
from gateway.policy.slo.windows import LASTING, SLO_SLOT, Windows

_LONGEST_PAUSE: Final = 5.0
_EXACTNESS: Final = 29 / 30


class SloLedger:
    """Counts, and the series that they are folded into.

    `requests` are the counts since the start by (model, version, objective), `attempts` by (backend, objective).
    `contributions` tell whose the failures of the last hour were.
    `pools` says which pool a backend is of, `serving` which backends serve a (model, version), "" being all.
    """

    def __init__(self, now: float) -> None:
        self.requests: dict[tuple[str, str, str], ObjectiveCounts] = {}
        self.attempts: dict[tuple[str, str], ObjectiveCounts] = {}
        self.contributions = Contributions()
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
        following = self.following(models, pools, now)
        for _ in following.prepare():
            pass
        self.adopt(following)
        for _ in self.forgetting(now):
            pass

    def following(
        self, models: Sequence[ModelSubjects], pools: Mapping[str, Sequence[str]], now: float
    ) -> LedgerFollowing:
        """Return what counts for others: to be prepared, in small pieces, and then adopted."""
        known = KnownCounts(self._series, self.requests, self.attempts)
        series = SeriesOf(self._series, self._moment, now)
        return LedgerFollowing(known, series, self._folding.counted, models, pools)

    def adopt(self, following: LedgerFollowing) -> None:
        """Count from now on what was prepared."""
        now = following.now
        self._folding.fold()
        lengths = sorted(following.lengths)
        self._observed = {each: self._observed.get(each) or Windows(now, each, self._moment) for each in lengths}
        following.go_on()
        self._series, self.requests, self.attempts = following.series, following.requests, following.attempts
        self.pools, self.serving = following.pool_of, following.serving
        self._defaults, self._subjects = following.defaults, following.subjects
        self._folding.follow(following.by_windows)

    def forgetting(self, now: float) -> Iterator[None]:
        """Forget what was stored of slots that are over, in small pieces."""
        for key, each in list(self._slots.items()):
            if (each.slot + 1) * each.width <= now and self._slots.get(key) is each:
                del self._slots[key]
            yield

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

    def count_deployment(self, model: str, seconds: float | None, sli: str = DEPLOYMENT) -> None:
        """Count a deployment that took so long to its first live answer, None for one that never came to it.

        With another SLI, count one of its stages, None for one that failed.
        """
        for series in self.get(Kind.MODEL, model):
            if series.sli == sli:
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
        yield from self.contributions.folding(now)

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

    def unsaved(self) -> Iterator[SlotCounts]:
        """Yield the slots that something was counted in since the last call, with all that this process counted there.

        These are absolute counts: to store one twice changes nothing, and processes that share a store add up.
        """
        for length, observed in list(self._observed.items()):
            yield from self._export(_observed_key(length), observed)
        for series in self._folding.changing():
            yield from self._export(series.key, series.windows)

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

    def merging(self, changes: Iterable[SlotCounts]) -> Iterator[None]:
        """Count what other processes have counted meanwhile, in small pieces: by how much their counts have changed.

        The slots are the finest, so that each lies within one of every other width.
        """
        for each in changes:
            series = self._series.get(each.series)
            if series is not None:
                at = min(each.last, self._moment.now)
                series.windows.merge(max(each.slot * each.width, at), each.good, each.bad)
                if each.bad:
                    self._folding.failed(series)
                yield

    def _export(self, key: SeriesKey, windows: Windows) -> list[SlotCounts]:
        found: list[SlotCounts] = []
        good, bad, first, last = windows.unsaved()
        if not (good or bad):
            return found
        for width in LASTING:
            slot = int(last // width)
            known = self._slots.get((key, width))
            if known is not None and known.slot == slot:
                counts = SlotCounts(key, width, slot, known.good + good, known.bad + bad, known.first, last)
            else:
                counts = SlotCounts(key, width, slot, good, bad, max(first, slot * width), last)
            self._slots[key, width] = counts
            found.append(counts)
        return found


def _observed_key(length: float) -> SeriesKey:
    return SeriesKey(Kind.GATEWAY, f"observed over {length:g} s", "", "")
