"""Events in words: what was logged and what was recorded, the newest first."""

import logging
from collections.abc import Iterator

import pytest

from gateway.admin.events import Event, RecentEvents, latest
from gateway.control.audit import Audit
from tests.waiting import HandClock

EJECTIONS = logging.getLogger("gateway.control.outlier_detection")
OTHERS = logging.getLogger("gateway.backends.backend")


@pytest.fixture
def recent() -> Iterator[RecentEvents]:
    logger = logging.getLogger("gateway")
    before = logger.level
    logger.setLevel(logging.INFO)
    kept = RecentEvents()
    yield kept
    kept.close()
    logger.setLevel(before)


def test_logged_and_recorded_events_are_told_in_words(recent: RecentEvents) -> None:
    audit = Audit(HandClock(1.0))
    audit.record("ann", "drain", "backend gpu/a:8000", "a new driver")
    told = {"backend": "gpu/b:8000", "pool": "gpu", "before": "in_service", "reason": "slow"}
    EJECTIONS.warning("backend %s", "ejected", extra=told)
    recent.close()
    OTHERS.warning("not kept any more")
    latest, first = recent.events(audit)
    assert (latest.level, latest.about, latest.pin, latest.pool) == ("warning", "outlier_detection", "ejection", "gpu")
    assert latest.words == "gpu/b:8000 ejected: slow"
    assert first.words == "ann: drain backend gpu/a:8000: a new driver"
    assert (first.pin, first.pool) == ("drain", "gpu")


def test_charts_mark_what_may_explain_a_burn_rate_and_nothing_else(recent: RecentEvents) -> None:
    audit = Audit(HandClock(1.0))
    for subject in ("rollout of m", "deployment d-1", "pool gpu"):
        audit.record("ann", "start", subject, "now")
    EJECTIONS.info("backend %s", "half open", extra={"backend": "gpu/b:8000"})
    OTHERS.info("backend %s", "ready", extra={"backend": "gpu/b:8000"})
    logging.getLogger("gateway.control.alerts").error("alert firing", extra={"model": "m", "summary": "m burns"})
    logging.getLogger("gateway.control.reload").info("routes loaded", extra={"sources": ["a.yaml"]})
    found = {each.words: (each.pin, each.model) for each in recent.events(audit)}
    assert found == {
        "ann: start rollout of m: now": ("rollout", "m"),
        "ann: start deployment d-1: now": ("deployment", ""),
        "ann: start pool gpu: now": ("", ""),
        "gpu/b:8000 half open": ("", ""),
        "gpu/b:8000 ready": ("", ""),
        "alert firing: m burns": ("alert", "m"),
        "routes loaded, sources ['a.yaml']": ("reload", ""),
    }


def test_only_the_latest_are_kept_but_what_charts_mark_for_longer(recent: RecentEvents) -> None:
    audit = Audit(HandClock())
    EJECTIONS.warning("backend ejected", extra={"backend": "gpu/b:8000"})
    for number in range(200):
        OTHERS.warning("number %s", number)
    logging.getLogger("gateway.control.audit").warning("audit")
    words = [each.words for each in recent.events(audit)]
    assert len(words) == 51
    assert (words[0], words[49], words[50]) == ("number 199", "number 150", "gpu/b:8000 ejected")


def test_events_of_several_processes_are_told_once_each_and_their_number_stays_bounded() -> None:
    def event(second: int, pin: str = "") -> Event:
        at = f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"
        return Event.model_validate({"at": at, "level": "info", "about": "x", "words": "w", "pin": pin})

    found = latest([*map(event, range(300)), event(299), *(event(each, "reload") for each in range(200))])
    assert [each.at for each in found[:50]] == [event(each).at for each in range(299, 249, -1)]
    assert [each.at for each in found[50:]] == [event(each).at for each in range(199, 149, -1)]
