"""One word for an objective, and who burns its budget."""

import pytest

from gateway.admin.objective_state import Burner, ObjectiveState, burners, objective_state, whole
from gateway.policy.slo.budget import Budget
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.following import ModelSubjects
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY, Objective, Sli, Target
from gateway.policy.slo.series import Kind
from gateway.policy.slo.time_in_use import HOUR
from gateway.wire.slices import finish

ALLOWED = 0.01


def budget(spent: float | None = 0.1, total: int = 100_000, bad: int = 100) -> Budget:
    return Budget(bad, total, 28 * DAY, 10 * DAY, spent)


@pytest.mark.parametrize(
    ("alert", "waiting", "left", "recent", "state"),
    [
        ("", "", budget(), Counts(1000, 1), ObjectiveState.HEALTHY),
        ("", "", budget(None, total=100, bad=0), Counts(100, 0), ObjectiveState.HEALTHY),
        ("", "", budget(None, total=99, bad=0), Counts(99, 0), ObjectiveState.TOO_FEW_DATA),
        ("", "", budget(0.0, total=0, bad=0), Counts(), ObjectiveState.TOO_FEW_DATA),
        ("", "", budget(None, total=144, bad=4), Counts(140, 4), ObjectiveState.TOO_FEW_DATA),
        ("", "", budget(None, total=144, bad=5), Counts(139, 5), ObjectiveState.AT_RISK),
        ("", "burns at 20 times its budget", budget(), Counts(10, 2), ObjectiveState.AT_RISK),
        ("", "", budget(0.76), Counts(1000, 1), ObjectiveState.AT_RISK),
        ("ticket", "", budget(0.76), Counts(1000, 100), ObjectiveState.SLOW_BURN),
        ("page", "", budget(0.76), Counts(1000, 100), ObjectiveState.FAST_BURN),
        ("page", "", budget(1.0), Counts(1000, 100), ObjectiveState.EXHAUSTED),
        ("", "", budget(3.0), Counts(1000, 0), ObjectiveState.EXHAUSTED),
    ],
)
def test_the_state_is_the_worst_that_is_true(
    alert: str, waiting: str, left: Budget, recent: Counts, state: ObjectiveState
) -> None:
    assert objective_state(alert, waiting, left, ALLOWED, recent) is state


def test_those_with_the_most_failures_are_told_in_pieces_and_none_without_a_failure_of_the_model() -> None:
    backends = [f"gpu/{number}:1" for number in range(100)]
    ledger = SloLedger(0.0)
    objective = Objective("o", {Sli.AVAILABILITY: Target(1 - ALLOWED)})
    ledger.follow([ModelSubjects("m", [objective], {"v1": ["gpu"], "v2": ["gpu"]})], {"gpu": backends}, 0.0)
    (series,) = ledger.get(Kind.MODEL, "m")
    for number, backend in enumerate(backends):
        ledger.count(ledger.get(Kind.BACKEND, backend)[0], good=7, bad=number)
    ledger.advance(1.0)
    assert finish(burners(series, ledger, ["v1", "v2"])) == [], "retries have hidden all of it"
    ledger.count(series, bad=3)
    ledger.count(ledger.get(Kind.VERSION, "m/v2")[0], good=9, bad=3)
    ledger.advance(2.0)
    assert len(list(burners(series, ledger, ["v1", "v2"]))) >= 10
    found = finish(burners(series, ledger, ["v1", "v2"]))
    assert [(each.kind, each.name, each.bad, each.total) for each in found[:2]] == [
        ("backend", "gpu/99:1", 99, 106),
        ("backend", "gpu/98:1", 98, 105),
    ]
    assert [(each.kind, each.name, each.bad, each.total) for each in found[8:]] == [
        ("backend", "(others)", sum(range(92)), sum(range(92)) + 91 * 7),
        ("version", "m/v2", 3, 12),
    ]


def test_tenants_prompts_and_versions_add_up_to_all_failures_whoever_counted_them() -> None:
    ledger = SloLedger(0.0)
    objective = Objective("o", {Sli.AVAILABILITY: Target(1 - ALLOWED)})
    ledger.follow([ModelSubjects("m", [objective], {"v1": ["gpu"]})], {"gpu": ["gpu/1:1"]}, 0.0)
    (series,), counts = ledger.get(Kind.MODEL, "m"), ledger.requests["m", "v1", "o"]
    for number in range(20):
        for _ in range(number + 1):
            counts.count({Sli.AVAILABILITY: False}, (0, 0), 100)
            prompt, judged = 5000 * (number % 2), {str(Sli.AVAILABILITY): False}
            ledger.contributions.count("m", objective, judged, (0, 0), prompt_tokens=prompt, tenant=f"t{number}")
    ledger.count(series, bad=30)  # by another gateway
    ledger.advance(1.0)
    found = finish(burners(series, ledger, ["v1"]))
    sums = {kind: sum(each.bad for each in found if each.kind == kind) for kind in ("version", "tenant", "prompt")}
    assert sums == dict.fromkeys(sums, series.windows.count(HOUR).bad) == dict.fromkeys(sums, 240)
    tenants = [(each.name, each.bad, each.total) for each in found if each.kind == "tenant"]
    assert tenants[:2] == [("t19", 20, 20), ("t18", 19, 19)]
    assert tenants[8:] == [("(others)", 78, 78), ("(unknown)", 30, 0)]


def test_what_is_left_over_is_told_last_and_nothing_of_a_kind_that_nothing_is_known_of() -> None:
    found = whole([Burner(kind="tenant", name="(others)", bad=5, total=9), burner("a", 1), burner("(unknown)", 7)], 6)
    assert [(each.name, each.bad) for each in found] == [("a", 1), ("(others)", 5)]
    assert whole([], 6) == []


def burner(name: str, bad: int) -> Burner:
    return Burner(kind="tenant", name=name, bad=bad, total=10)
