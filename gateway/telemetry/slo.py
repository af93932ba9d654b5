"""The book of good and bad events: every SLI of every model, version, pool and backend, over every window."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.config.table import ModelSpec, RouteTable
from gateway.exchange import AttemptEnd, Exchange, Outcome, Verdict
from gateway.policy.slo.classify import RULINGS, request_verdict
from gateway.policy.slo.objective import DEFAULT, DEPLOYMENT, Objective, Sli, Target
from gateway.policy.slo.windows import KeptSlot, Windows

_VERDICTS = {outcome: request_verdict(outcome) for outcome in Outcome}
_LONGEST_PAUSE = 5.0
_OBSERVED = "observed over {:g} s"
_EXACTNESS = 29 / 30
_LATENCIES = (Sli.TTFT, Sli.TPOT, Sli.E2E)


class Kind(StrEnum):
    """What a burn rate can belong to: the closed set of the `subject` label. GATEWAY is the process's own time."""

    MODEL = "model"
    VERSION = "version"
    POOL = "pool"
    BACKEND = "backend"
    GATEWAY = "gateway"


class Tracked:
    """The events of one SLI of one subject, and the target that they are held against.

    `model` and `version` say whose it is, "" where that is not one model's or version's.
    """

    __slots__ = ("kind", "model", "name", "sli", "target", "version", "windows")

    def __init__(
        self, kind: Kind, name: str, sli: str, target: Target, windows: Windows, *, model: str = "", version: str = ""
    ) -> None:
        self.kind = kind
        self.name = name
        self.model = model
        self.version = version
        self.sli = sli
        self.target = target
        self.windows = windows

    def __repr__(self) -> str:
        return f"<Tracked {self.sli} of {self.kind} {self.name} {self.windows!r}>"


class Promise:
    """What one model promises, and the `windows` by SLI of the two subjects that its events count for.

    `streamed` and `whole` are the latencies that a stream, and any other answer, is held against; `events` is what the
    book counted by backend, `goodput` its one number, shared with it.
    """

    __slots__ = ("availability", "events", "goodput", "itl", "objective", "streamed", "whole", "windows")

    def __init__(
        self, objective: Objective, windows: Mapping[Sli, tuple[Windows, Windows]], goodput: list[int]
    ) -> None:
        self.objective = objective
        self.windows = windows
        self.availability = windows[Sli.AVAILABILITY]
        self.itl = objective.targets.get(Sli.ITL)
        self.events: dict[str, dict[Sli, list[int]]] = {}
        self.goodput = goodput
        self.streamed = [(sli, objective.targets[sli], *windows[sli]) for sli in _LATENCIES if sli in objective.targets]
        self.whole = [row for row in self.streamed if row[0] is Sli.E2E]


Events = dict[tuple[str, str, str, str], dict[Sli, list[int]]]


class SloBook:
    """An observer. Requests count for their model and version, attempts for their backend and pool.

    `events` are all events since the start, [good, bad] by (model, version, pool, backend) and SLI; `goodput` is
    output tokens of requests that met every target, one number by (model, version).
    """

    def __init__(self, clock: Clock) -> None:
        """Take a clock of seconds since the epoch that never jumps."""
        self.events: Events = {}
        self.goodput: dict[tuple[str, str], list[int]] = {}
        self._clock = clock
        self._advanced = clock()
        self._observed: dict[float, Windows] = {}
        self._tracked: dict[tuple[Kind, str, str], Tracked] = {}
        self._requests: dict[tuple[str, str], Promise] = {}
        self._attempts: dict[tuple[str, str], Promise] = {}

    def __repr__(self) -> str:
        return f"<SloBook of {len(self._tracked)} series>"

    def __iter__(self) -> Iterator[Tracked]:
        return iter(self._tracked.values())

    def follow(self, table: RouteTable) -> None:
        """Track what the routes name. What stays keeps its counts; a pool is held to its strictest model."""
        before, self._tracked = self._tracked, {}
        lengths = {model.objective.window for model in table.models.values()}
        self._observed = {each: self._observed.get(each) or Windows(self._clock(), each) for each in sorted(lengths)}
        self._requests, self._attempts = {}, {}
        strictest = _strictest(table)
        for model in table.models.values():
            of_model = self._subject(before, Kind.MODEL, model.name, model.objective, model=model.name)
            self._deployments(before, model)
            for version in model.versions.values():
                name = f"{model.name}/{version.name}"
                of_version = self._subject(
                    before, Kind.VERSION, name, model.objective, model=model.name, version=version.name
                )
                goodput = self.goodput.setdefault((model.name, version.name), [0])
                self._requests[model.name, version.name] = _promise(model.objective, of_model, of_version, goodput)
                for pool in version.pools:
                    of_pool = self._subject(before, Kind.POOL, pool, strictest[pool])
                    for spec in table.pools[pool].backends:
                        of_backend = self._subject(before, Kind.BACKEND, spec.id, strictest[pool])
                        self._attempts[spec.id, model.name] = _promise(model.objective, of_pool, of_backend, [0])

    def get(self, kind: Kind, name: str) -> list[Tracked]:
        """Return what is tracked of one subject, by SLI."""
        found = (self._tracked.get((kind, name, sli)) for sli in (*Sli, DEPLOYMENT))
        return [each for each in found if each is not None]

    def deployed(self, model: str, seconds: float | None) -> None:
        """Count a deployment that took so long to its first live answer, None for one that never came to it."""
        tracked = self._tracked.get((Kind.MODEL, model, DEPLOYMENT))
        if tracked is not None:
            good = seconds is not None and seconds <= tracked.target.under
            tracked.windows.good += good
            tracked.windows.bad += not good

    def settled(self, exchange: Exchange) -> None:
        """Count what the user lived through."""
        promise = self._requests.get((exchange.model, exchange.version))
        if promise is None:
            return
        verdict = _VERDICTS[exchange.outcome]
        if verdict is Verdict.UNCOUNTED and exchange.outcome is not Outcome.CLIENT_GONE:
            return
        events = promise.events.get(exchange.backend)
        if events is None:
            events = promise.events[exchange.backend] = self._events_of(exchange, promise)
        kept = _count(promise, exchange, verdict, exchange.received, exchange.ended, events)
        if kept and verdict is Verdict.GOOD:
            promise.goodput[0] += (
                exchange.output_tokens if exchange.output_tokens is not None else exchange.content_events
            )

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Count what the backend did."""
        promise = self._attempts.get((backend.id, exchange.model))
        if promise is None:
            return
        verdict = RULINGS[end].verdict
        if verdict is not Verdict.UNCOUNTED or end is AttemptEnd.CLIENT_GONE:
            _count(promise, exchange, verdict, exchange.sent, exchange.attempt_ended, None)

    def advance(self) -> None:
        """Fold in what was counted since the last call; called every `windows.TICK` seconds."""
        now = self._clock()
        elapsed = now - self._advanced
        self._advanced = now
        for windows in self._observed.values():
            windows.good += int(min(elapsed, _LONGEST_PAUSE) * 1000)
            windows.advance(now)
        for tracked in self._tracked.values():
            tracked.windows.advance(now)

    def coverage(self, window: float) -> float:
        """Return the share of a window, 0 to 1, in which anybody was there to count; KeyError for no such window."""
        observed = self._observed.get(window) or next(iter(self._observed.values()))
        return min(1.0, observed.count(window).good / 1000 / (window * _EXACTNESS))

    def _events_of(self, exchange: Exchange, promise: Promise) -> dict[Sli, list[int]]:
        key = (exchange.model, exchange.version, exchange.pool, exchange.backend)
        events = self.events.setdefault(key, {})
        for sli in promise.objective.targets:
            events.setdefault(sli, [0, 0])
        return events

    def unsaved(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Return kind, name, SLI, good and bad of whatever was folded in since the last call."""
        for length, observed in self._observed.items():
            milliseconds, _ = observed.unsaved()
            yield Kind.GATEWAY, _OBSERVED.format(length), "", milliseconds, 0
        for tracked in self._tracked.values():
            good, bad = tracked.windows.unsaved()
            if good or bad:
                yield tracked.kind, tracked.name, tracked.sli, good, bad

    def restore(self, slots: Iterable[KeptSlot]) -> None:
        """Take back what was kept over a restart; what is about a subject that is no more is left out."""
        own = {_OBSERVED.format(length): observed for length, observed in self._observed.items()}
        series: dict[tuple[str, str, str, float], dict[int, tuple[int, int]]] = {}
        for slot in slots:
            series.setdefault((slot.kind, slot.name, slot.sli, slot.width), {})[slot.slot] = slot.good, slot.bad
        for (kind, name, sli, width), counted in series.items():
            tracked = self._tracked.get((Kind(kind), name, sli))
            windows = tracked.windows if tracked is not None else own.get(name)
            if windows is not None:
                windows.restore(width, counted)

    def _deployments(self, before: Mapping[tuple[Kind, str, str], Tracked], model: ModelSpec) -> None:
        target, key = model.objective.deployment, (Kind.MODEL, model.name, DEPLOYMENT)
        if target is not None:
            known = before.get(key)
            is_same = known is not None and known.windows.slo == model.objective.window
            windows = known.windows if known is not None and is_same else Windows(self._clock(), model.objective.window)
            self._tracked[key] = Tracked(Kind.MODEL, model.name, DEPLOYMENT, target, windows, model=model.name)

    def _subject(
        self,
        before: Mapping[tuple[Kind, str, str], Tracked],
        kind: Kind,
        name: str,
        objective: Objective,
        *,
        model: str = "",
        version: str = "",
    ) -> dict[Sli, Windows]:
        found = {}
        for sli, target in objective.targets.items():
            key = (kind, name, sli)
            tracked = self._tracked.get(key)
            if tracked is None:
                known = before.get(key)
                if known is not None and known.windows.slo == objective.window:
                    windows = known.windows
                else:
                    windows = Windows(self._clock(), objective.window)
                tracked = Tracked(kind, name, sli, target, windows, model=model, version=version)
                self._tracked[key] = tracked
            found[sli] = tracked.windows
        return found


def _count(  # noqa: PLR0917 - on the path of every request, where names cost
    promise: Promise,
    exchange: Exchange,
    verdict: Verdict,
    start: float,
    end: float,
    events: Mapping[Sli, list[int]] | None,
) -> bool:
    """Count one ending, UNCOUNTED being a client that hung up; return whether every latency target was kept.

    What failed is absent from latency. A client that left before the first token counts once it had waited longer
    than the threshold: else the slowest backend would look healthy, since its victims leave.
    """
    if verdict is not Verdict.GOOD:
        _count_failure(promise, exchange, verdict, end - start, events)
        return False
    one, other = promise.availability
    one.good += 1
    other.good += 1
    if events is not None:
        events[Sli.AVAILABILITY][0] += 1
    kept = True
    for sli, target, one, other in promise.streamed if exchange.stream else promise.whole:
        if sli is Sli.TTFT:
            seconds = exchange.first_content - start if exchange.first_content else None
        else:
            seconds = exchange.tpot if sli is Sli.TPOT else end - start
        if seconds is None:
            continue
        good = seconds <= (target.threshold(_prompt(exchange)) if target.by_prompt_tokens else target.under)
        if good:
            one.good += 1
            other.good += 1
        else:
            kept = False
            one.bad += 1
            other.bad += 1
        if events is not None:
            events[sli][not good] += 1
    return (promise.itl is None or _count_gaps(promise.itl, promise, exchange, events)) and kept


def _count_failure(
    promise: Promise, exchange: Exchange, verdict: Verdict, waited: float, events: Mapping[Sli, list[int]] | None
) -> None:
    if verdict is Verdict.BAD:
        _add(promise, Sli.AVAILABILITY, 0, 1, events)
    elif exchange.stream and not exchange.first_content:
        ttft = promise.objective.targets.get(Sli.TTFT)
        if ttft is not None and waited > ttft.threshold(_prompt(exchange)):
            _add(promise, Sli.TTFT, 0, 1, events)


def _count_gaps(itl: Target, promise: Promise, exchange: Exchange, events: Mapping[Sli, list[int]] | None) -> bool:
    if not exchange.itl:
        return True
    good = sum(exchange.itl[: bisect_right(exchange.itl_bounds, itl.under)])
    bad = sum(exchange.itl) - good
    _add(promise, Sli.ITL, good, bad, events)
    return not bad


def _add(promise: Promise, sli: Sli, good: int, bad: int, events: Mapping[Sli, list[int]] | None) -> None:
    for windows in promise.windows[sli]:
        windows.good += good
        windows.bad += bad
    if events is not None:
        counted = events[sli]
        counted[0] += good
        counted[1] += bad


def _prompt(exchange: Exchange) -> int:
    return exchange.prompt_tokens if exchange.prompt_tokens is not None else exchange.prompt_estimate


def _promise(
    objective: Objective, one: Mapping[Sli, Windows], other: Mapping[Sli, Windows], goodput: list[int]
) -> Promise:
    return Promise(objective, {sli: (one[sli], other[sli]) for sli in objective.targets}, goodput)


def _strictest(table: RouteTable) -> dict[str, Objective]:
    """Return for each pool the highest target of the models that it serves, SLI by SLI."""
    serving: dict[str, list[ModelSpec]] = {}
    for model in table.models.values():
        for version in model.versions.values():
            for pool in version.pools:
                serving.setdefault(pool, []).append(model)
    return {pool: _held_by(pool, models) for pool, models in serving.items()}


def _held_by(pool: str, models: Iterable[ModelSpec]) -> Objective:
    targets: dict[Sli, Target] = {}
    window = DEFAULT.window
    for model in models:
        window = model.objective.window
        for sli, target in model.objective.targets.items():
            if sli not in targets or target.ratio > targets[sli].ratio:
                targets[sli] = target
    return Objective(pool, targets, window)
