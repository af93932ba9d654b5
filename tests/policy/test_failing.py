"""What is said of a candidate that fails before that decides anything."""

from gateway.policy.canary import findings
from gateway.policy.canary.evidence import shown
from tests.policy.test_evidence import add, evidence_of


def test_failures_of_the_candidate_are_told_before_they_decide() -> None:
    evidence = evidence_of()
    add(evidence, candidate=True, good=False)
    assert not findings.failing(evidence, "v1", "v2"), "one may be chance"
    add(evidence, candidate=True, good=False)
    assert (
        findings.failing(evidence, "v1", "v2")
        == "2 of 2 requests of v2 failed; it is rolled back if its first 5 all fail"
    )
    add(evidence, candidate=True)
    add(evidence, candidate=False)
    said = findings.failing(evidence, "v1", "v2")
    assert said == f"2 of 3 requests of v2 failed, 0 of 1 of v1; e-value {shown(evidence.log_e):.3g}, decided at 100"


def test_a_candidate_that_fails_as_often_as_stable_or_within_the_budget_is_not_called_failing() -> None:
    evidence = evidence_of()
    for candidate in (False, True):
        for number in range(8):
            add(evidence, candidate=candidate, good=number % 4 > 0)
    assert not findings.failing(evidence, "v1", "v2")
    rare = evidence_of()
    for number in range(400):
        add(rare, candidate=True, good=number not in {100, 200})
    assert not findings.failing(rare, "v1", "v2"), "0.5 % is below page rate"
    assert not findings.failing(evidence_of(ttft=0.01), "v1", "v2")
