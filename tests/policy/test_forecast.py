"""How many requests a rollout needs, and how long that takes, is said before it begins, and turns out to be so."""

from math import inf, nan

import pytest

from gateway.policy.canary.evidence import AVAILABILITY, Evidence
from gateway.policy.canary.forecast import Pace, SliEvidence, Traffic, believed
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.track import Sample

AUTO = Plan("v1", "v2")
BUDGETS = {AVAILABILITY: 0.001, "ttft": 0.01}


def test_the_pace_is_right_from_the_first_seconds_and_follows_the_traffic() -> None:
    pace = Pace()
    assert pace.rate(5.0) == 0.0
    pace.add(0.0)
    assert pace.rate(5.0) == 0.0, "one request is no rate"
    for tick in range(1, 61):
        pace.add(float(tick), 12)
    assert pace.rate(60.0) == pytest.approx(12.0, rel=0.05)
    for tick in range(61, 4 * 3600):
        pace.add(float(tick), 3)
    assert pace.rate(4 * 3600.0) == pytest.approx(3.0, rel=0.1)
    assert repr(pace).startswith("<Pace of ")


def test_the_pace_outlives_a_restart_as_if_no_time_had_passed() -> None:
    pace, again = Pace(), Pace()
    for tick in range(601):
        pace.add(float(tick), 12)
    again.restore(pace.state(), 5000.0)
    assert again.rate(5000.0) == pytest.approx(pace.rate(600.0))
    assert again.requests == pace.requests


@pytest.mark.parametrize("state", [[0, 0.0, 0.0], [5, 9.0, 1.0], [5, inf, 1.0], [5, 4.0, nan], [5, 4.0, -1.0]])
def test_a_pace_that_cannot_be_is_not_taken_over(state: list[float]) -> None:
    pace = Pace()
    pace.restore(state, 5000.0)
    assert (pace.requests, pace.rate(5001.0)) == (0, 0.0)


def test_a_target_of_999_takes_about_three_thousand_requests_of_the_candidate() -> None:
    traffic = Traffic(1.0, {"availability": SliEvidence(0.001)})
    assert traffic.missing(AUTO, 50.0) == pytest.approx(2600, rel=0.05)
    two_days = Traffic(0.05, {"availability": SliEvidence(0.001)})
    assert 1.0 < two_days.rest(AUTO, two_days.first_step(AUTO)) / 86_400 < 2.5
    wider = Plan("v1", "v2", margin=2.0)
    assert two_days.rest(wider, 50.0) == pytest.approx(two_days.rest(AUTO, 50.0) / 2, rel=0.2)


def test_without_traffic_there_is_no_end() -> None:
    assert Traffic(0.0, {"a": SliEvidence(0.01)}).rest(AUTO, 50.0) == inf
    assert Traffic(0.0).seconds(AUTO, 95.0) == inf


def test_what_stable_misses_is_taken_from_the_model_until_stable_has_answered() -> None:
    unknown = SliEvidence(0.001, usual=(990, 10))
    assert unknown.expected == 0.01
    assert SliEvidence(0.001, stable=(1980, 20), usual=(990, 0)).expected == 0.01
    assert SliEvidence(0.001).expected == 0.0


def test_an_incident_that_is_over_shortens_no_forecast() -> None:
    """A day with an incident in it is 4 % bad: a step that took 600 more requests was said to take 50."""
    after = Traffic(1.0, {"a": SliEvidence(0.001, (1000, 0), (52, 0), 0.05, usual=(70_000, 3000))})
    calm = Traffic(1.0, {"a": SliEvidence(0.001, (1000, 0), (52, 0), 0.05)})
    for share in (5.0, 50.0):
        assert after.missing(AUTO, share) == calm.missing(AUTO, share)
        assert after.slis["a"].limit(1.0) == 0.001, "the bound that holds"


def test_what_is_usual_stands_until_something_else_is_sure() -> None:
    assert believed((990, 10), (20, 0)) == (990, 10), "twenty good ones may be chance"
    assert believed((960, 40), (500, 0)) == (500, 0)
    assert believed((999, 1), (190, 10)) == (190, 10), "worse than usual counts as well"
    assert believed((0, 0), (0, 0)) == (0, 0)


def test_the_steps_ahead_are_told_one_by_one_until_one_has_no_end() -> None:
    steps = dict(Traffic(12.0, {"a": SliEvidence(0.001)}).ahead(AUTO, 25.0))
    assert list(steps) == [25.0, 50.0, 95.0]
    assert steps[95.0] == 3600.0
    assert list(Traffic(0.0, {"a": SliEvidence(0.001)}).ahead(AUTO, 25.0)) == [(25.0, inf)]


def test_a_step_needs_both_sides_and_what_neither_has_is_no_obstacle() -> None:
    assert SliEvidence(0.01).may_go_on(100.0, 1.0)
    assert not SliEvidence(0.01, stable=(5, 0)).may_go_on(5.0, 1.0)
    assert not SliEvidence(0.01, candidate=(5, 0)).may_go_on(5.0, 1.0)
    assert SliEvidence(0.01, (9, 0), (9, 0), 0.015).may_go_on(50.0, 1.0)
    assert not SliEvidence(0.01, (9, 0), (9, 0), 0.015).may_go_on(95.0, 1.0)
    assert SliEvidence(0.01, (9, 0), (9, 0), 0.012).may_go_on(100.0, 1.0), "what was enough to enter the last step"


def test_a_stable_that_fails_often_allows_for_half_of_that() -> None:
    assert SliEvidence(0.001, (950, 50), (0, 0)).limit(1.0) == 0.025
    assert SliEvidence(0.001).limit(2.0) == 0.002


def test_an_sli_of_few_requests_takes_longer() -> None:
    every = Traffic(1.0, {"ttft": SliEvidence(0.01)}).missing(AUTO, 50.0)
    tenth = Traffic(1.0, {"ttft": SliEvidence(0.01, per_request=0.1)}).missing(AUTO, 50.0)
    assert tenth == pytest.approx(10 * every, rel=0.05)


def test_a_candidate_that_looks_bad_needs_more_than_anyone_waits_for() -> None:
    bad = SliEvidence(0.001, (999, 1), (500, 500), 0.5)
    assert Traffic(1.0, {"a": bad}).missing(AUTO, 50.0) > 1e4
    ten_times = SliEvidence(1e-12, (0, 10**9), (10**9, 0), -0.9)
    assert Traffic(1.0, {"a": ten_times}).missing(AUTO, 50.0) == 20
    never = SliEvidence(1e-15, (10, 0), (0, 10**14), 1.0)
    assert Traffic(1.0, {"a": never}).missing(AUTO, 50.0) > 1e11


def test_latencies_that_did_not_count_while_stable_was_cold_make_no_forecast_longer() -> None:
    """A demo of a minute said that it would take two hours: its first latencies came after 70 requests of stable."""
    evidence = Evidence(BUDGETS, 13.44)
    for _ in range(70):
        evidence.add({AVAILABILITY: True}, Sample(candidate=False, at=0.0))
    for _ in range(30):
        evidence.add({AVAILABILITY: True, "ttft": True}, Sample(candidate=False, at=1.0))
    assert evidence.standings({})["ttft"].per_request == 1.0


def test_what_only_the_candidate_has_is_reckoned_by_all_requests() -> None:
    evidence = Evidence(BUDGETS, 13.44)
    for _ in range(20):
        evidence.add({AVAILABILITY: True}, Sample(candidate=False, at=0.0))
        evidence.add({AVAILABILITY: True, "ttft": True}, Sample(candidate=True, at=0.0))
    assert evidence.standings({})["ttft"].per_request == 0.5


def test_without_a_target_of_availability_every_request_is_an_event() -> None:
    evidence = Evidence({"ttft": 0.01}, 13.44)
    evidence.add({"ttft": True}, Sample(candidate=False, at=0.0))
    assert evidence.standings({})["ttft"].per_request == 1.0
