"""What speaks against a candidate, what a person is asked, and what is set aside."""

from random import Random

import pytest

from gateway.policy.canary import findings
from gateway.policy.canary.bounds import adjusted_upper, difference, upper_difference
from gateway.policy.canary.evidence import (
    ALPHA,
    AVAILABILITY,
    FIRST,
    FIRST_ATTEMPT,
    STAYED,
    Evidence,
    shown,
)
from gateway.policy.canary.recent import Recent, guard
from gateway.policy.canary.track import Sample, input_class
from gateway.policy.canary.warmth import Warmth

FACTOR = 13.44
BUDGETS = {AVAILABILITY: 0.001, "ttft": 0.01}


def evidence_of(**budgets: float) -> Evidence:
    return Evidence(budgets or BUDGETS, FACTOR)


def add(evidence: Evidence, *, candidate: bool, good: bool = True, at: float = 0.0, key: bytes | None = None) -> None:
    outcomes = {AVAILABILITY: good, **({"ttft": True} if good else {})}
    evidence.add(outcomes, Sample(candidate, at, key=key))


def feed(evidence: Evidence, rng: Random, requests: int, *, stable: float, candidate: float) -> int:
    """Feed until the candidate is found out; return how many of its requests that took."""
    for at in range(requests):
        is_candidate = rng.random() < 0.1
        add(evidence, candidate=is_candidate, good=rng.random() >= (candidate if is_candidate else stable), at=at / 10)
        if findings.regression_reason(evidence):
            return evidence.answered
    return 0


def test_a_candidate_that_fails_five_times_as_often_is_found_out() -> None:
    evidence = evidence_of()
    assert 0 < feed(evidence, Random(1), 40_000, stable=0.01, candidate=0.05) < 1000
    assert "availability is worse than stable's: e-value" in str(findings.regression_reason(evidence))
    assert evidence.worst == AVAILABILITY


@pytest.mark.no_cover
def test_equals_are_rolled_back_in_at_most_one_of_a_hundred_rollouts_however_long_one_looks() -> None:
    alarms = sum(
        bool(feed(evidence_of(availability=0.001), Random(seed), 1500, stable=0.02, candidate=0.02))
        for seed in range(200)
    )
    assert alarms <= 4


def test_a_candidate_that_fails_from_the_first_is_out_after_five() -> None:
    evidence = evidence_of()
    for _ in range(FIRST):
        assert not findings.regression_reason(evidence)
        add(evidence, candidate=True, good=False)
    assert findings.regression_reason(evidence) == "its first 5 requests all failed"


def test_one_good_request_before_the_failures_asks_for_more_evidence() -> None:
    evidence = evidence_of(availability=0.001)
    add(evidence, candidate=True)
    for _ in range(FIRST):
        add(evidence, candidate=True, good=False)
    assert not findings.regression_reason(evidence), "there is no stable request to compare with"
    for _ in range(2 * FIRST):
        add(evidence, candidate=False)
        add(evidence, candidate=True, good=False)
    assert findings.regression_reason(evidence)


def test_a_difference_of_less_than_a_quarter_of_the_budget_is_said_and_no_more() -> None:
    evidence = evidence_of(availability=0.5)
    rng = Random(2)
    for _ in range(6000):
        candidate = rng.random() < 0.5
        add(evidence, candidate=candidate, good=rng.random() >= (0.06 if candidate else 0.02))
    assert evidence.log_e > 5
    assert not findings.regression_reason(evidence)
    assert not findings.doubt(evidence)
    assert any(
        "by less than a quarter of the budget, which is no reason to go back" in each
        for each in findings.notes(evidence)
    )


def test_only_the_first_outcome_of_a_sticky_key_speaks_for_its_version() -> None:
    """One client whose every request fails, on the candidate by chance: a tenant of the issue's."""
    evidence = evidence_of(availability=0.001)
    for number in range(100):
        add(evidence, candidate=False, key=b"s%d" % number)
        add(evidence, candidate=True, key=b"c%d" % number)
    before = evidence.log_e
    for _ in range(200):
        add(evidence, candidate=True, good=False, key=b"the one")
        add(evidence, candidate=False, key=b"s1")
    assert evidence.keys == [100, 101]
    assert evidence.log_e - before < 3.5
    assert not findings.regression_reason(evidence)
    assert evidence.tracks[AVAILABILITY].side(candidate=True) == (100, 200), "the rest is told all the same"


def test_where_one_key_makes_the_difference_a_person_is_asked_once() -> None:
    evidence = evidence_of(availability=0.001)
    for number in range(3000):
        add(evidence, candidate=False, key=b"s%d" % number)
        add(evidence, candidate=True, key=b"c%d" % number)
    for number in range(20):
        add(evidence, candidate=True, good=False, key=b"bad%d" % number)
        add(evidence, candidate=False, key=b"t%d" % number)
        if findings.doubt(evidence) or findings.regression_reason(evidence):
            break
    assert not findings.regression_reason(evidence)
    assert "but would not have without one of its" in str(findings.doubt(evidence))
    evidence.accept()
    assert not findings.doubt(evidence)
    for number in range(20, 30):
        add(evidence, candidate=True, good=False, key=b"bad%d" % number)
        add(evidence, candidate=False, key=b"t%d" % number)
    assert findings.regression_reason(evidence)


def test_few_keys_cannot_tell_versions_apart_and_that_is_said() -> None:
    evidence = evidence_of()
    assert findings.notes(evidence) == []
    for number in range(40):
        add(evidence, candidate=False, key=b"s%d" % number)
    add(evidence, candidate=True, key=b"c")
    assert findings.notes(evidence) == ["1 sticky keys on the candidate: fewer than 30 cannot tell versions apart"]
    for number in range(60):
        add(evidence, candidate=True, key=b"c%d" % number)
    assert findings.notes(evidence) == []
    few = evidence_of()
    add(few, candidate=True, key=b"c")
    assert findings.notes(few, 20) == [], "the first answers say nothing of how many keys there will be"
    assert findings.notes(few)[0].startswith("0 sticky keys on stable")


def test_an_incident_of_both_is_set_aside() -> None:
    """Both fail half of their requests for five minutes: neither evidence nor counts take notice."""
    evidence, rng = evidence_of(availability=0.001), Random(4)
    for at in range(600):
        for candidate in (False, False, True):
            add(evidence, candidate=candidate, at=float(at))
    quiet = evidence.tracks[AVAILABILITY].side(candidate=False)
    for at in range(600, 900):
        for candidate in (False, False, True):
            add(evidence, candidate=candidate, good=rng.random() < 0.5, at=float(at))
    track = evidence.tracks[AVAILABILITY]
    assert track.incident
    assert track.set_aside > 800
    assert track.side(candidate=False)[1] - quiet[1] < 10
    assert not findings.regression_reason(evidence)
    assert evidence.guard(900.0) == (None, False)
    assert findings.notes(evidence) == ["availability: stable itself is in an incident, what arrives is set aside"]
    for at in range(900, 1000):
        for candidate in (False, False, True):
            add(evidence, candidate=candidate, at=float(at))
    assert not track.incident


def test_a_stable_that_always_fails_often_is_in_no_incident() -> None:
    evidence, rng = Evidence({AVAILABILITY: 0.001}, FACTOR, {AVAILABILITY: (950, 50)}), Random(4)
    for at in range(2000):
        add(evidence, candidate=at % 2 == 0, good=rng.random() < 0.95, at=at / 2)
    assert evidence.tracks[AVAILABILITY].set_aside == 0


def test_a_bad_candidate_is_found_out_although_both_were_in_an_incident_before() -> None:
    evidence, rng = evidence_of(availability=0.001), Random(6)
    for at in range(60):
        for candidate in (False, True):
            add(evidence, candidate=candidate, at=float(at))
    for at in range(60, 300):
        for candidate in (False, True):
            add(evidence, candidate=candidate, good=rng.random() < 0.5, at=float(at))
    for at in range(300, 1500):
        add(evidence, candidate=False, at=float(at))
        add(evidence, candidate=True, good=rng.random() >= 0.02, at=float(at))
    assert findings.regression_reason(evidence)
    assert evidence.standings({})[AVAILABILITY].limit(1.0) < 0.005


def test_an_incident_that_is_over_makes_the_next_one_no_more_usual() -> None:
    evidence, rng = evidence_of(availability=0.001), Random(8)
    aside = []
    for at in range(5000):
        failing = 120 <= at < 420 or 4000 <= at < 4300
        for candidate in (False, True):
            add(evidence, candidate=candidate, good=not failing or rng.random() < 0.2, at=float(at))
        if at in {3900, 4900}:
            aside.append(evidence.tracks[AVAILABILITY].set_aside)
    assert aside[1] > 1.9 * aside[0]


def test_what_lasts_half_an_hour_is_no_incident_any_more() -> None:
    evidence, rng = evidence_of(availability=0.001), Random(6)
    aside = 0
    for at in range(4000):
        for candidate in (False, True):
            add(evidence, candidate=candidate, good=rng.random() < 0.5, at=float(at))
        if at == 1900:
            aside = evidence.tracks[AVAILABILITY].set_aside
    assert aside > 3000
    assert evidence.tracks[AVAILABILITY].set_aside < aside + 500
    assert evidence.tracks[AVAILABILITY].side(candidate=False)[1] > 100
    known = Evidence({AVAILABILITY: 0.001}, FACTOR, {AVAILABILITY: (900, 100)})
    for at in range(400):
        add(known, candidate=False, good=rng.random() < 0.9, at=float(at))
    assert known.tracks[AVAILABILITY].set_aside == 0


def test_hidden_failures_ask_a_person_and_roll_nothing_back() -> None:
    evidence = evidence_of()
    for at in range(100):
        evidence.add({FIRST_ATTEMPT: True, STAYED: True}, Sample(candidate=False, at=float(at)))
        evidence.add({FIRST_ATTEMPT: at % 3 > 0, STAYED: True}, Sample(candidate=True, at=float(at)))
    assert "of its requests failed at first, which retries hid, 0 of 100 of stable's (e-value" in str(
        findings.doubt(evidence)
    )
    assert not findings.regression_reason(evidence)
    evidence.accept()
    assert not findings.doubt(evidence)
    for at in range(100):
        evidence.add({STAYED: True}, Sample(candidate=False, at=float(at)))
        evidence.add({STAYED: at % 3 > 0}, Sample(candidate=True, at=float(at)))
    assert "were given up by their clients" in str(findings.doubt(evidence))


def test_a_step_is_judged_by_its_own_requests_and_the_rollout_by_all() -> None:
    evidence = evidence_of()
    for at in range(5):
        add(evidence, candidate=True, at=float(at))
        evidence.add({"itl": False}, Sample(candidate=True, at=0.0))
    assert (evidence.requests, evidence.answered) == (5, 5)
    evidence.begin_step()
    assert (evidence.requests, evidence.answered) == (0, 5)
    assert evidence.standings({})[AVAILABILITY].upper is None
    add(evidence, candidate=False)
    standing = evidence.standings({AVAILABILITY: (99, 1)})[AVAILABILITY]
    assert (standing.stable, standing.candidate, standing.usual) == ((1, 0), (5, 0), (99, 1))
    assert standing.upper is not None
    for _ in range(30):
        add(evidence, candidate=True)
    assert evidence.standings({})["ttft"].per_request == 1.0


def test_evidence_survives_a_restart() -> None:
    evidence, restored = evidence_of(), evidence_of()
    feed(evidence, Random(3), 500, stable=0.01, candidate=0.02)
    add(evidence, candidate=True, key=b"a")
    restored.restore(evidence.state())
    restored.restore_keys(evidence.keys_state())
    assert restored.state() == evidence.state()
    assert restored.log_e == evidence.log_e
    add(restored, candidate=True, key=b"a")
    assert restored.keys == [0, 1]
    fewer = evidence_of(availability=0.001, tpot=0.01)
    fewer.restore(evidence.state())
    assert fewer.answered == evidence.answered


def test_what_an_older_version_kept_is_taken_back() -> None:
    old = {
        "requests": 7,
        "answered": 9,
        "failed_first": 0,
        "step": {},
        "comparisons": {AVAILABILITY: {"logs": [0.0] * 4, "stable": [90, 1], "candidate": [9, 0]}},
    }
    evidence = evidence_of()
    evidence.restore(old)
    assert (evidence.requests, evidence.answered, evidence.keys) == (7, 9, [0, 0])
    assert evidence.tracks[AVAILABILITY].side(candidate=False) == (90, 1)


def test_without_a_target_of_availability_the_others_weigh_all() -> None:
    evidence = evidence_of(ttft=0.01, tpot=0.01)
    assert shown(evidence.log_e) == pytest.approx(1.0)
    assert shown(1e9) < float("inf")
    assert evidence.standings({})["ttft"].per_request == 1.0


def test_the_difference_is_bounded_more_tightly_by_more_requests() -> None:
    few, many = upper_difference([198, 2], [198, 2]), upper_difference([19_800, 200], [19_800, 200])
    assert 0 < many < 0.005 < few < 0.05
    assert upper_difference([100, 0], [50, 50]) > 0.5
    assert upper_difference([50, 50], [100, 0]) < 0
    assert adjusted_upper([[100, 0, 0, 0]]) is None
    assert adjusted_upper([[198, 2, 198, 2]]) == few
    assert difference([[10, 0, 0, 0]]) == 0.0


def test_inputs_are_compared_with_their_like() -> None:
    assert [input_class(tokens) for tokens in (0, 511, 512, 4095, 4096)] == [0, 0, 1, 1, 2]
    mixed = [[90, 0, 10, 0], [0, 0, 0, 0], [5, 5, 45, 45]]
    assert difference(mixed) == 0.0
    upper = adjusted_upper(mixed)
    assert upper is not None
    assert upper < 0.15 < upper_difference([95, 5], [55, 45])


def recent(five_minutes: tuple[int, int], minute: tuple[int, int]) -> Recent:
    found = Recent()
    found.add(100.0, five_minutes[0] - minute[0], five_minutes[1] - minute[1])
    found.add(300.0, *minute)
    return found


@pytest.mark.parametrize(
    ("candidate", "stable", "says", "goes"),
    [
        (recent((0, 19), (0, 19)), recent((100, 0), (0, 0)), "", False),  # too few
        (recent((80, 20), (10, 0)), recent((1000, 0), (0, 0)), "", False),  # it is over
        (recent((80, 20), (0, 0)), recent((1000, 0), (0, 0)), "", False),
        (recent((80, 20), (8, 2)), recent((800, 200), (0, 0)), "", False),  # stable is as bad
        (recent((80, 20), (8, 2)), recent((700, 300), (0, 0)), "", False),
        (recent((98, 2), (8, 2)), recent((1000, 1), (0, 0)), "", False),  # may be chance
        (recent((80, 20), (8, 2)), recent((1000, 1), (0, 0)), "availability burns at 200.0 over 5 m and 200.0", True),
        (recent((0, 20), (0, 20)), recent((100, 0), (0, 0)), "availability burns at 1000.0", True),
        (
            recent((0, 20), (0, 20)),
            recent((19, 0), (0, 0)),
            "availability burns at 1000.0",
            False,
        ),  # nothing to compare
    ],
)
def test_the_guard_needs_a_burn_that_is_no_chance_and_something_to_compare_with(
    candidate: Recent, stable: Recent, says: str, *, goes: bool
) -> None:
    said, must_go = guard(AVAILABILITY, candidate, stable, 300.0, budget=0.001, factor=14.4)
    assert (said or "").startswith(says)
    assert (bool(said), must_go) == (bool(says), goes)


def test_the_guard_looks_at_this_step_alone() -> None:
    evidence = evidence_of()
    for at in range(60):
        add(evidence, candidate=False, at=240.0 + at)
        add(evidence, candidate=True, good=at % 2 == 0, at=240.0 + at)
    said, must_go = evidence.guard(300.0)
    assert must_go
    assert str(said).startswith("availability burns at")
    evidence.begin_step()
    assert evidence.guard(300.0) == (None, False)
    for at in range(60):
        add(evidence, candidate=True, good=at % 2 == 0, at=300.0 + at)
    said, must_go = evidence.guard(360.0)
    assert said
    assert not must_go


def test_minutes_pass() -> None:
    found = Recent()
    found.add(3.0, 1, 2)
    assert found.count(3.0, 60.0) == (1, 2)
    assert found.count(70.0, 60.0) == (0, 0)
    assert found.count(70.0, 300.0) == (1, 2)
    found.add(303.0, 5, 0)
    assert found.count(303.0, 300.0) == (5, 0)
    assert repr(found) == "<Recent 5 good 0 bad>"


def test_a_backend_is_warm_after_answers_and_time() -> None:
    warmth = Warmth(3, 60.0)
    for _ in range(3):
        assert not warmth.is_warm("a", 500.0)
        warmth.answered("a", 500.0)
    assert not warmth.is_warm("a", 559.0)
    assert warmth.is_warm("a", 560.0)
    assert not warmth.is_warm("b", 560.0)
    warmth.forget("a")
    assert warmth.answers("a") == 0
    assert repr(warmth) == "<Warmth of 0 backends>"
    assert Warmth(0, 0.0).is_warm("a", 1.0)


def test_words_name_alpha() -> None:
    assert ALPHA == 0.01
    assert repr(evidence_of(ttft=0.01)) == "<Evidence of 0 requests, e 1>"
    assert repr(evidence_of().tracks["ttft"]) == "<Track <Comparison e 1 candidate (0, 0) stable (0, 0)> set aside 0>"
    assert findings.doubt(evidence_of()) is None
    assert not findings.regression_reason(Evidence({}, FACTOR))
