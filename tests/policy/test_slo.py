"""What endings mean."""

import pytest

from gateway.exchange import AttemptEnd, Outcome, Verdict
from gateway.policy.slo import buckets
from gateway.policy.slo.classify import (
    RULINGS,
    classify_error,
    classify_status,
    request_outcome,
    request_verdict,
)


def test_every_ending_has_a_ruling() -> None:
    assert set(RULINGS) == set(AttemptEnd)


@pytest.mark.parametrize(
    ("statuses", "end"),
    [
        (range(200, 300), AttemptEnd.OK),
        ([401, 403], AttemptEnd.UNAUTHORIZED),
        ([429], AttemptEnd.SATURATED),
        ([400, 404, 408, 413, 422, 499, 501], AttemptEnd.CLIENT_ERROR),
        ([500, 502, 503, 504, 599], AttemptEnd.SERVER_ERROR),
        ([*range(100, 200), *range(300, 400), 0, 600, 999], AttemptEnd.MALFORMED),
    ],
)
def test_statuses(statuses: list[int], end: AttemptEnd) -> None:
    assert {classify_status(status) for status in statuses} == {end}


def test_a_503_of_a_backend_at_work_means_that_it_is_busy() -> None:
    assert classify_status(503, busy=True) is AttemptEnd.SATURATED
    assert classify_error(503, busy=True) is AttemptEnd.SATURATED
    assert classify_status(500, busy=True) is AttemptEnd.SERVER_ERROR


@pytest.mark.parametrize("code", range(400, 600))
def test_an_error_in_a_200_is_judged_as_the_status_that_it_names(code: int) -> None:
    as_status = classify_status(code)
    expected = AttemptEnd.ERROR_EVENT if as_status is AttemptEnd.SERVER_ERROR else as_status
    assert classify_error(code) is expected


@pytest.mark.parametrize("end", AttemptEnd)
def test_a_broken_answer_is_never_good_for_its_user(end: AttemptEnd) -> None:
    for begun in (True, False):
        verdict = request_verdict(request_outcome(end, committed=begun))
        if end is AttemptEnd.OK:
            assert verdict is Verdict.GOOD
        elif end in {AttemptEnd.CLIENT_ERROR, AttemptEnd.CLIENT_GONE, AttemptEnd.CLIENT_TIMEOUT, AttemptEnd.TOO_LARGE}:
            assert verdict is Verdict.UNCOUNTED
        else:
            assert verdict is Verdict.BAD


def test_a_quota_is_not_counted_and_shedding_is_bad() -> None:
    assert request_verdict(Outcome.QUOTA) is Verdict.UNCOUNTED
    assert request_verdict(Outcome.SHED) is Verdict.BAD


def test_saturation_and_rejected_keys_are_not_held_against_a_backend() -> None:
    assert RULINGS[AttemptEnd.SATURATED].verdict is Verdict.UNCOUNTED
    assert RULINGS[AttemptEnd.UNAUTHORIZED].verdict is Verdict.UNCOUNTED


@pytest.mark.parametrize("bounds", [buckets.TTFT, buckets.ITL, buckets.TPOT, buckets.DURATION, buckets.OVERHEAD])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
