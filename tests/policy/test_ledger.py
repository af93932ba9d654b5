"""The ledger counts as a list of events would, whatever comes in which order and whatever is followed meanwhile."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.slo.following import ModelSubjects
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY, DEPLOYMENT, Objective, Sli, Target
from gateway.policy.slo.series import Kind, SeriesKey, SlotCounts
from gateway.policy.slo.windows import LASTING, LAYOUT, SLO_SLOT

START = 1_700_000_000.0
SLOTS = {length: width for width, lengths in (*LAYOUT, (SLO_SLOT, (28 * DAY,))) for length in lengths}
FAST = Objective(
    "fast",
    {
        Sli.AVAILABILITY: Target(0.999),
        Sli.TTFT: Target(0.99, 0.5, ((100, 5.0), (1000, 9.0))),
        Sli.ITL: Target(0.9, 0.1),
    },
    deployment=Target(0.9, 60.0),
)
SLOW = Objective("slow", {Sli.AVAILABILITY: Target(0.99), Sli.E2E: Target(0.95, 60.0)})
POOLS = {"p": ["p/1", "p/2"], "q": ["q/1"], "idle": ["idle/1"]}
BOTH, ALONE = ModelSubjects("a", (FAST, SLOW), {"v1": "p", "v2": "pq"}), ModelSubjects("b", (SLOW,), {"v1": "q"})
LAYOUTS = ((BOTH, ALONE), (ModelSubjects("a", (SLOW, FAST), {"v2": "q"}),), (BOTH,), ())


@dataclass(frozen=True)
class Answer:
    """What was judged of a request or of an attempt. `backend` is "" where it is about the request."""

    model: str
    version: str
    backend: str
    objective: str
    judged: dict[str, bool]
    gaps: tuple[int, int]
    prompt: int


def classes(target: Target) -> list[str]:
    return ["", *(name for name, _ in target.prompt_classes)]


@dataclass
class Listed:
    """What the ledger says, from lists that are searched for each question."""

    models: tuple[ModelSubjects, ...] = ()
    events: list[tuple[float, SeriesKey, bool]] = field(default_factory=list)
    fresh: list[tuple[SeriesKey, bool]] = field(default_factory=list)
    requests: Counter[tuple[str, str, str, str, str, bool]] = field(default_factory=Counter)
    goodput: Counter[tuple[str, str, str, bool]] = field(default_factory=Counter)

    def follow(self, models: tuple[ModelSubjects, ...]) -> None:
        self.models = models
        known, served = (
            set(self.keys()),
            {
                (model.name, version, objective.name)
                for model in models
                for version in model.versions
                for objective in model.objectives
            },
        )
        self.events = [each for each in self.events if each[1] in known]
        self.fresh = [each for each in self.fresh if each[0] in known]
        self.requests = Counter({key: count for key, count in self.requests.items() if key[:3] in served})
        self.goodput = Counter({key: count for key, count in self.goodput.items() if key[:3] in served})

    def keys(self) -> Iterable[SeriesKey]:
        for model in self.models:
            for objective in model.objectives:
                for sli, target in objective.targets.items():
                    for name in classes(target):
                        yield SeriesKey("model", model.name, objective.name, sli, name)
                        for version in model.versions:
                            yield SeriesKey("version", f"{model.name}/{version}", objective.name, sli, name)
                    for pool in {pool for uses in model.versions.values() for pool in uses}:
                        yield SeriesKey("pool", pool, objective.name, sli)
                        yield from (SeriesKey("backend", each, objective.name, sli) for each in POOLS[pool])
            if model.objectives[0].deployment:
                yield SeriesKey("model", model.name, model.objectives[0].name, DEPLOYMENT)

    def count(self, answer: Answer) -> None:
        own = {model.name: model.objectives[0].name for model in self.models}
        name = answer.objective or own.get(answer.model, "")
        # A backend is held to an objective whichever model brings it there.
        objectives = [
            objective
            for model in self.models
            for objective in model.objectives
            if objective.name == name
            and (answer.backend or (model.name == answer.model and answer.version in model.versions))
        ]
        if not objectives:
            return
        objective, known = objectives[0], set(self.keys())
        outcomes = [(Sli(sli), good) for sli, good in answer.judged.items() if sli in objective.targets]
        gaps = [(Sli.ITL, True)] * answer.gaps[0] + [(Sli.ITL, False)] * answer.gaps[1]
        outcomes += gaps if Sli.ITL in objective.targets else []
        if answer.backend:
            pool = answer.backend.split("/")[0]
            subjects = [("pool", pool), ("backend", answer.backend)]
        else:
            subjects = [("model", answer.model), ("version", f"{answer.model}/{answer.version}")]
            met = all(good for _, good in outcomes)
            self.goodput[answer.model, answer.version, name, met] += 1
        for sli, good in outcomes:
            target = objective.targets[sli]
            length = classes(target)[1 + target.step(answer.prompt)] if target.steps else ""
            if not answer.backend:
                self.requests[answer.model, answer.version, name, sli, length, good] += 1
            for kind, subject in subjects:
                for prompt in {"", length} if not answer.backend else {""}:
                    key = SeriesKey(kind, subject, name, sli, prompt)
                    self.fresh += [(key, good)] if key in known else []

    def advance(self, now: float) -> None:
        self.events += [(now, key, good) for key, good in self.fresh]
        self.fresh.clear()

    def within(self, key: SeriesKey, since: float) -> tuple[int, int]:
        found = Counter(good for at, of, good in self.events if of == key and at > since)
        return found[True], found[False]


def enter(ledger: SloLedger, answer: Answer) -> None:
    """Count an answer as the recorder does, with what its objective has targets for."""
    if answer.backend:
        counts = ledger.of_attempt(answer.backend, answer.model, answer.objective)
    else:
        counts = ledger.of_request(answer.model, answer.version, answer.objective)
    if counts is None:
        return
    targets = counts.objective.targets
    judged = {sli: good for sli, good in answer.judged.items() if sli in targets}
    gaps = answer.gaps if Sli.ITL in targets else (0, 0)
    if answer.backend:
        counts.count(judged, gaps, answer.prompt)
    else:
        counts.count_request(judged, gaps, answer.prompt, 3)


answers = st.builds(
    Answer,
    st.sampled_from(["a", "a", "b", "gone"]),
    st.sampled_from(["v1", "v2"]),
    st.sampled_from(["", "p/1", "p/2", "q/1", "idle/1"]),
    st.sampled_from(["", "fast", "slow", "gone"]),
    st.dictionaries(st.sampled_from([Sli.AVAILABILITY, Sli.TTFT, Sli.E2E]), st.booleans()),
    st.tuples(st.integers(0, 3), st.integers(0, 1)),
    st.sampled_from([1, 99, 100, 999, 1000, 5000]),
)
pauses = st.sampled_from([0.25, 0.25, 1.0, 3.7, 59.9, 600.0, 90_000.0]) | st.floats(0, DAY)
steps = st.lists(answers | answers | answers | pauses | st.sampled_from(LAYOUTS), max_size=30)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_it_counts_as_a_list_of_events_does(rows: list[Answer | float | tuple[ModelSubjects, ...]]) -> None:
    now, listed, ledger = START, Listed(), SloLedger(START)
    for row in (LAYOUTS[0], *rows, 1.0):
        if isinstance(row, Answer):
            enter(ledger, row)
            listed.count(row)
        elif isinstance(row, float):
            now += row
            ledger.advance(now)
            listed.advance(now)
        else:
            ledger.follow(row, POOLS, now)
            listed.follow(row)
            assert {each.key for each in ledger} == set(listed.keys())
    for series in ledger:
        for length, counts in series.windows.items():
            least, most = (listed.within(series.key, now - length + slack * SLOTS[length]) for slack in (1, -1))
            assert least[0] <= counts.good <= most[0]
            assert least[1] <= counts.bad <= most[1]
    counted = {
        (*names, cell.sli, cell.prompt_tokens, good): count
        for names, counts in ledger.requests.items()
        for cell in counts
        for good, count in ((True, cell.good), (False, cell.bad))
        if count
    }
    assert counted == listed.requests
    met = {(*names, True): each.met for names, each in ledger.requests.items() if each.met}
    missed = {(*names, False): each.missed for names, each in ledger.requests.items() if each.missed}
    assert met | missed == listed.goodput
    assert all(each.tokens == 3 * each.met for each in ledger.requests.values())


Row = tuple[int, SeriesKey, float, int]
"""A process, a series, the width of a slot, and its number."""


def summed(rows: Mapping[Row, SlotCounts]) -> list[SlotCounts]:
    """What a store gives back: the rows of all processes together."""
    found: dict[tuple[SeriesKey, float, int], SlotCounts] = {}
    for row in rows.values():
        known = found.get((row.series, row.width, row.slot), row._replace(good=0, bad=0))
        first, last = min(known.first, row.first), max(known.last, row.last)
        found[row.series, row.width, row.slot] = SlotCounts(
            row.series, row.width, row.slot, known.good + row.good, known.bad + row.bad, first, last
        )
    return list(found.values())


class Processes:
    """Processes that follow each other and export what they count, beside one that counts all of it."""

    def __init__(self) -> None:
        self.now = START
        self.process = 0
        self.stored: dict[Row, SlotCounts] = {}
        self.listed, self.steady, self.ledger = Listed(), SloLedger(START), SloLedger(START)
        self.reload()

    def reload(self) -> None:
        self.listed.follow(LAYOUTS[0])
        for each in (self.steady, self.ledger):
            each.follow(LAYOUTS[0], POOLS, self.now)

    def count(self, answer: Answer) -> None:
        for each in (self.steady, self.ledger):
            enter(each, answer)
        self.listed.count(answer)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for each in (self.steady, self.ledger, self.listed):
            each.advance(self.now)
        for row in self.ledger.unsaved():
            self.stored[self.process, row.series, row.width, row.slot] = row
        assert list(self.ledger.unsaved()) == []

    def restart(self) -> None:
        self.advance(0.25)  # what was not folded in and exported is lost with a process
        self.process += 1
        self.ledger = SloLedger(self.now)
        self.ledger.follow(LAYOUTS[0], POOLS, self.now)
        self.ledger.restore(summed(self.stored))


@given(st.lists(answers | pauses | st.just("restart") | st.just("reload"), max_size=30))
@settings(max_examples=100, deadline=None)
def test_what_processes_exported_adds_up_to_what_one_would_have_counted(rows: list[Answer | float | str]) -> None:
    processes = Processes()
    for row in (*rows, 1.0):
        if isinstance(row, Answer):
            processes.count(row)
        elif isinstance(row, float):
            processes.advance(row)
        elif row == "restart":
            processes.restart()
        else:
            processes.reload()
    events = processes.listed.events
    expected = Counter((key, width, int(at // width), good) for at, key, good in events for width in LASTING)
    found = [each for each in summed(processes.stored) if each.series.kind != Kind.GATEWAY]
    exported = {(each.series, each.width, each.slot, True): each.good for each in found if each.good}
    exported |= {(each.series, each.width, each.slot, False): each.bad for each in found if each.bad}
    assert exported == expected
    for series, steady in zip(processes.ledger, processes.steady, strict=True):
        for length, width in SLOTS.items():
            if width in LASTING:
                assert series.windows.count(length) == steady.windows.count(length)


def counted(ledger: SloLedger, kind: Kind, name: str, window: float = 300.0) -> Mapping[str, tuple[int, int]]:
    """Good and bad of one subject by SLI, as far as there are any."""
    found = {each.sli: each.windows.count(window) for each in ledger.get(kind, name)}
    return {sli: (each.good, each.bad) for sli, each in found.items() if each.total}


@pytest.mark.parametrize(("seconds", "expected"), [(60.0, (1, 0)), (60.1, (0, 1)), (None, (0, 1))])
def test_a_deployment_is_good_when_it_answered_in_time(seconds: float | None, expected: tuple[int, int]) -> None:
    ledger = SloLedger(START)
    ledger.follow((BOTH, ALONE), POOLS, START)
    ledger.count_deployment("a", seconds)
    ledger.count_deployment("b", seconds)
    ledger.advance(START + 1)
    assert counted(ledger, Kind.MODEL, "a") == {DEPLOYMENT: expected}
    assert counted(ledger, Kind.MODEL, "b") == {}


def test_it_says_who_serves_what() -> None:
    ledger = SloLedger(START)
    ledger.follow((BOTH, ALONE), POOLS, START)
    assert ledger.pools == {"p/1": "p", "p/2": "p", "q/1": "q", "idle/1": "idle"}
    assert ledger.serving == {
        ("a", ""): ["p/1", "p/2", "q/1"],
        ("a", "v1"): ["p/1", "p/2"],
        ("a", "v2"): ["p/1", "p/2", "q/1"],
        ("b", ""): ["q/1"],
        ("b", "v1"): ["q/1"],
    }


def test_a_target_that_a_reload_adds_counts_from_then_on_and_the_others_go_on() -> None:
    ledger = SloLedger(START)
    without = Objective("slow", {Sli.AVAILABILITY: Target(0.99)})
    for objective, judged in ((without, {Sli.AVAILABILITY: True}), (SLOW, {Sli.AVAILABILITY: True, Sli.E2E: False})):
        ledger.follow((ModelSubjects("b", (objective,), {"v1": "q"}),), POOLS, START)
        counts = ledger.of_request("b", "v1", "")
        assert counts is not None
        counts.count_request({str(sli): good for sli, good in judged.items()}, (0, 0), 10, 5)
    ledger.advance(START + 1)
    assert counted(ledger, Kind.MODEL, "b") == {Sli.AVAILABILITY: (2, 0), Sli.E2E: (0, 1)}


def test_time_in_which_no_gateway_was_there_is_known() -> None:
    ledger = SloLedger(START)
    ledger.follow((ALONE,), POOLS, START)
    for tick in range(1, 241):
        ledger.advance(START + 0.25 * tick)
    assert ledger.coverage(60.0) == 1.0
    assert ledger.coverage(3600.0) == pytest.approx(60 / 3600 * 30 / 29, rel=0.01)
    (series,) = [each for each in ledger.get(Kind.MODEL, "b") if each.sli == Sli.AVAILABILITY]
    ledger.count(series, bad=1)
    ledger.advance(START + 61)
    ledger.advance(START + 7200)
    assert ledger.uncounted(series.windows) == pytest.approx(7139 - 66, abs=1)
    ledger.follow((), POOLS, START + 7200)
    assert ledger.uncounted(series.windows) == 0.0
