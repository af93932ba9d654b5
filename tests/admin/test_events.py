"""Events in words: what was logged and what was recorded, the newest first."""

import logging

from gateway.admin.events import RecentEvents
from gateway.control.audit import Audit
from tests.waiting import HandClock

LOG = logging.getLogger("gateway.control.outlier_detection")


def test_logged_and_recorded_events_are_told_in_words() -> None:
    audit = Audit(HandClock(1.0))
    recent = RecentEvents()
    try:
        audit.record("ann", "drain", "backend gpu/a:8000", "a new driver")
        LOG.warning("backend %s", "ejected", extra={"backend": "gpu/b:8000", "before": "in_service", "reason": "slow"})
    finally:
        recent.close()
    LOG.warning("not kept any more")
    latest, first = recent.events(audit)
    assert (latest.level, latest.about) == ("warning", "outlier_detection")
    assert latest.words == "backend ejected, backend gpu/b:8000, reason slow"
    assert first.words == "ann: drain backend gpu/a:8000: a new driver"


def test_only_the_latest_are_kept_and_the_audits_own_lines_are_not_told_twice() -> None:
    audit = Audit(HandClock())
    recent = RecentEvents()
    try:
        for number in range(200):
            LOG.warning("number %s", number)
        logging.getLogger("gateway.control.audit").warning("audit")
    finally:
        recent.close()
    words = [each.words for each in recent.events(audit)]
    assert len(words) == 50
    assert words[0] == "number 199"
