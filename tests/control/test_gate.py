"""A deployment waits while users suffer or its budget is spent, and never for lack of data."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.control.gate import Gate, GateAnswer, Verdict
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import Decision, Phase, Rollout
from gateway.policy.slo.series import Kind
from tests.control.test_alerts import Town, table

SPEC = table("m").models["m"]
PLAN = Plan("v1", "v2")
DAY = 24 * 60 + 1
"""Minutes, and one more."""


def gate(town: Town, rollout: Rollout | None = None, **asked: Any) -> GateAnswer:
    """Ask the gate, with a rollout in this state or none."""
    running = SimpleNamespace(plan=PLAN, rollout=rollout, decision=Decision(None, "no backend of v2 is ready"))
    rollouts = cast(Any, SimpleNamespace(get=lambda _: running if rollout else None))
    return Gate(town.ledger, town.alerter, rollouts).ask(SPEC, **asked)


def live(town: Town, minutes: int, good: int = 0, bad: int = 0) -> None:
    """Let so many requests come each minute."""
    for _ in range(minutes):
        town.now += 60.0
        town.ledger.count(town.availability(Kind.MODEL, "m"), good=good, bad=bad)
        town.ledger.advance(town.now)
        town.alerter.evaluate()


def stopped(town: Town, **asked: Any) -> str:
    """Return why it stops, all reasons in one."""
    answer = gate(town, **asked)
    assert answer.verdict is Verdict.STOP
    return "; ".join(answer.stops)


def test_without_any_request_it_goes_and_says_so() -> None:
    answer = gate(Town(None))
    assert (answer.verdict, answer.budget_left) == (Verdict.GO, None)
    assert answer.notes == ["no requests have been counted yet"]


def test_a_good_day_is_a_go_with_its_budget() -> None:
    town = Town(None)
    live(town, DAY, good=60)
    answer = gate(town)
    assert (answer.verdict, answer.notes, answer.budget_left) == (Verdict.GO, [], 1.0)


@pytest.mark.parametrize("failures", [1, 4])
def test_a_quiet_service_is_not_stopped_by_few_failures_though_its_budget_is_gone(failures: int) -> None:
    town = Town(None)
    for _ in range(failures):
        live(town, 1, bad=1)
        live(town, 180)
    live(town, 1, good=1)
    live(town, DAY)
    answer = gate(town)
    assert answer.budget_left is not None
    assert answer.budget_left < 0
    assert (answer.verdict, answer.stops) == (Verdict.GO, [])
    assert "too few to stop a deployment" in answer.notes[0]


def test_a_spent_budget_stops_and_a_fix_goes_through() -> None:
    town = Town(None)
    live(town, 10, good=40, bad=60)
    live(town, DAY, good=10)
    words = stopped(town)
    assert words.startswith("availability (default): the 28-day budget is overspent by ")
    assert "deployments wait below 10 % left, until old failures leave the window, but for a fix" in words
    fix = gate(town, despite_budget=True)
    assert (fix.verdict, fix.notes) == (Verdict.GO, [words])


def test_the_limit_can_be_named_and_is_that_of_the_canary_by_default() -> None:
    town = Town(None)
    live(town, 10, good=90, bad=10)
    live(town, DAY, good=100)
    answer = gate(town)
    assert answer.verdict is Verdict.GO
    assert 0.5 < (answer.budget_left or 0.0) < 1.0
    assert "deployments wait below 99 % left" in stopped(town, freeze_below=0.99)
    strict = replace(SPEC, canary=replace(PLAN, freeze_below=0.99))
    answer = Gate(town.ledger, town.alerter, cast(Any, SimpleNamespace(get=lambda _: None))).ask(strict)
    assert (answer.verdict, answer.freeze_below) == (Verdict.STOP, 0.99)


def test_an_outage_stops_before_its_page_fires_and_while_it_fires() -> None:
    town = Town(None)
    live(town, 60, good=1200)
    assert gate(town).verdict is Verdict.GO
    town.live(30, bad=1.0)
    assert town.alerter.incidents == []
    assert "availability (default) burns its budget" in stopped(town)
    town.live(60, bad=1.0)
    assert "a page fires: availability of m" in stopped(town)
    live(town, 90, good=1200)
    assert town.alerter.incidents == []
    assert gate(town).verdict is Verdict.GO


def test_a_young_process_whose_every_request_fails_stops_from_five_failures_on_until_its_page_clears() -> None:
    town = Town(None)
    live(town, 4, bad=1)
    assert gate(town).verdict is Verdict.GO
    live(town, 1, bad=1)
    assert "5 of 5 events were bad in the last hour" in stopped(town)
    assert gate(town, despite_budget=True).verdict is Verdict.GO
    live(town, 90, good=1)
    assert town.alerter.incidents == []
    assert gate(town).verdict is Verdict.GO


@pytest.mark.parametrize(
    ("phase", "verdict", "said"),
    [
        (Phase.IDLE, Verdict.GO, ""),
        (Phase.WAITING, Verdict.GO, "the rollout of v2 has not begun: no backend of v2 is ready"),
        (Phase.STEP, Verdict.STOP, "the rollout of v2 is in progress at 5 % of requests: wait until it is promoted or"),
        (Phase.PAUSED, Verdict.STOP, "the rollout of v2 is paused at 5 % of requests: wait until it is promoted or"),
        (Phase.PROMOTED, Verdict.GO, ""),
        (Phase.ROLLED_BACK, Verdict.GO, "v2 was rolled back: worse"),
    ],
)
def test_a_rollout_in_progress_stops_whatever_the_budget(phase: Phase, verdict: Verdict, said: str) -> None:
    town = Town(None)
    town.live(1)
    rollout = Rollout(phase, 1, town.now, town.now, "tidegate", "worse", 5.0)
    answer = gate(town, rollout, despite_budget=True)
    assert answer.verdict is verdict
    told = "; ".join(answer.stops + answer.notes)
    assert told.startswith(said)
    assert bool(told) is bool(said)
