"""What a CD system reports of its own stages: once each, in any number of reports, in words where it cannot be."""

import pytest

from gateway.control.deployment_record import SKEW, RefusedReport, Report, Reported, StageResult, merged

NOW = 1_000.0
RUNNING, SUCCEEDED, FAILED = StageResult.RUNNING, StageResult.SUCCEEDED, StageResult.FAILED


def pull(result: StageResult, started: float | None = None, ended: float | None = None) -> Report:
    return Report("image_pull", result, started, ended)


def test_what_is_left_out_is_now_or_stays_as_it_was() -> None:
    begun = merged(None, pull(RUNNING), NOW)
    assert begun == Reported(NOW)
    assert merged(begun, pull(RUNNING), NOW + 5) == begun
    assert merged(begun, pull(SUCCEEDED), NOW + 5) == Reported(NOW, NOW + 5, SUCCEEDED)


def test_one_report_may_say_all_of_it() -> None:
    assert merged(None, pull(FAILED, 100.0, 130.0), NOW) == Reported(100.0, 130.0, FAILED)


@pytest.mark.parametrize("again", [pull(FAILED), pull(FAILED, 100.0, 130.0), pull(RUNNING)])
def test_the_same_again_changes_nothing(again: Report) -> None:
    known = Reported(100.0, 130.0, FAILED)
    assert merged(known, again, NOW) is known


@pytest.mark.parametrize(
    ("known", "report", "said"),
    [
        (Reported(100.0, 130.0, FAILED), pull(SUCCEEDED), "image_pull has failed already, after 30.0 s: a further try"),
        (Reported(100.0, 130.0, FAILED), pull(FAILED, 101.0), "image_pull has failed already"),
        (None, pull(SUCCEEDED), "image_pull was not reported to have started: say when, as `started`"),
        (None, pull(RUNNING, 100.0, 130.0), "image_pull cannot have ended and still be running"),
        (None, pull(SUCCEEDED, 130.0, 100.0), "image_pull cannot have ended 30.0 s before it started"),
        (None, pull(RUNNING, NOW + SKEW + 1), "`started` is 301 s ahead of the gateway's clock"),
        (None, pull(SUCCEEDED, NOW, NOW + SKEW + 1), "`ended` is 301 s ahead of the gateway's clock"),
    ],
)
def test_what_cannot_be_is_refused_in_words(known: Reported | None, report: Report, said: str) -> None:
    with pytest.raises(RefusedReport) as refused:
        merged(known, report, NOW)
    assert said in str(refused.value)
