"""What a CD system reports of its own stages: once each, in any number of reports, in words where it cannot be."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from gateway.control.deployment_record import (
    LATE,
    SKEW,
    Deployment,
    RefusedReport,
    Report,
    Reported,
    Stage,
    StageResult,
    kept,
    merged,
)

NOW = 1_700_000_000.0
EARLY = NOW - 900.0
"""When the deployment was registered."""
ZERO_TIME = -62_135_596_800.0
"""0001-01-01T00:00:00Z, which a program in Go writes for no time."""
RUNNING, SUCCEEDED, FAILED = StageResult.RUNNING, StageResult.SUCCEEDED, StageResult.FAILED
ENDED = Reported(NOW - 100, NOW - 70, FAILED)


def pull(result: StageResult, started: float | None = None, ended: float | None = None) -> Report:
    return Report("image_pull", result, started, ended)


def test_what_is_left_out_is_now_or_stays_as_it_was() -> None:
    begun = merged(None, pull(RUNNING), NOW, EARLY)
    assert begun == Reported(NOW)
    assert merged(begun, pull(RUNNING), NOW + 5, EARLY) == begun
    assert merged(begun, pull(SUCCEEDED), NOW + 5, EARLY) == Reported(NOW, NOW + 5, SUCCEEDED)


def test_one_report_may_say_all_of_it() -> None:
    assert merged(None, pull(FAILED, NOW - 100, NOW - 70), NOW, EARLY) == Reported(NOW - 100, NOW - 70, FAILED)


def test_a_stage_may_have_begun_long_before_the_deployment_was_registered() -> None:
    started = EARLY - LATE + 1
    assert merged(None, pull(SUCCEEDED, started, NOW), NOW, EARLY) == Reported(started, NOW, SUCCEEDED)


def test_a_registration_by_a_clock_that_was_ahead_refuses_no_true_time() -> None:
    ahead = NOW + 3 * LATE
    assert merged(None, pull(SUCCEEDED, NOW - 60, NOW), NOW, ahead) == Reported(NOW - 60, NOW, SUCCEEDED)


@pytest.mark.parametrize("again", [pull(FAILED), pull(FAILED, NOW - 100, NOW - 70), pull(RUNNING)])
def test_the_same_again_changes_nothing(again: Report) -> None:
    known = Reported(NOW - 100, NOW - 70, FAILED)
    assert merged(known, again, NOW, EARLY) is known


@pytest.mark.parametrize(
    ("known", "report", "said"),
    [
        (ENDED, pull(SUCCEEDED), "image_pull has failed already, after 30.0 s: a further try"),
        (ENDED, pull(FAILED, NOW - 99), "image_pull has failed already"),
        (None, pull(SUCCEEDED), "image_pull was not reported to have started: say when, as `started`"),
        (None, pull(RUNNING, NOW - 100, NOW - 70), "image_pull cannot have ended and still be running"),
        (None, pull(SUCCEEDED, NOW - 70, NOW - 100), "image_pull cannot have ended 30.0 s before it started"),
        (None, pull(RUNNING, NOW + SKEW + 1), "`started` is 301 s ahead of the gateway's clock"),
        (None, pull(SUCCEEDED, NOW, NOW + SKEW + 1), "`ended` is 301 s ahead of the gateway's clock"),
        (None, pull(RUNNING, ZERO_TIME), "`started` is 738838 days before the deployment was registered"),
        (None, pull(SUCCEEDED, EARLY - LATE), "`started` is 7 days before the deployment was registered"),
        (Reported(NOW - 60), pull(SUCCEEDED, None, 0.0), "`ended` is 19676 days before the deployment was registered"),
        (None, pull(RUNNING, ZERO_TIME), "must be less than 7 days before: correct it, or leave it out"),
    ],
)
def test_what_cannot_be_is_refused_in_words(known: Reported | None, report: Report, said: str) -> None:
    with pytest.raises(RefusedReport) as refused:
        merged(known, report, NOW, EARLY)
    assert said in str(refused.value)


def stored(**reported: Reported) -> str:
    deployment = Deployment("run-42", "m", "v2", "argo", {Stage.REGISTERED: EARLY}, reported=dict(reported))
    return json.dumps(asdict(deployment))


def test_what_was_reported_comes_back_as_it_was() -> None:
    known: dict[str, Any] = {"image_pull": ENDED, "validation": Reported(NOW - 50)}
    assert kept(stored(**known), NOW).reported == known


@pytest.mark.parametrize("odd", [Reported(ZERO_TIME, NOW, SUCCEEDED), Reported(NOW - 60, 0.0, FAILED), Reported(0.0)])
def test_a_stored_stage_with_times_that_cannot_be_is_left_out(odd: Reported) -> None:
    assert kept(stored(image_pull=ENDED, validation=odd), NOW).reported == {"image_pull": ENDED}
