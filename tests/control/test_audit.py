"""Who changed what: kept in memory, handed to the store once, and fit for any terminal."""

import logging

import pytest

from gateway.control.audit import Audit
from gateway.state.store import Record


def test_a_record_is_kept_and_handed_to_the_store_once() -> None:
    audit = Audit(lambda: 7.0)
    audit.record("anna", "drain", "backend gpu/a:1", "new driver")
    record = Record(7.0, "anna", "drain", "backend gpu/a:1", "new driver")
    assert list(audit) == [record]
    assert audit.unsaved() == [record]
    assert audit.unsaved() == []


def test_a_record_is_logged_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Audit(lambda: 7.0).record("anna", "pause", "rollout of m", "lunch")
    (line,) = caplog.records
    said = vars(line)
    assert (said["actor"], said["action"], said["subject"], said["reason"]) == (
        "anna",
        "pause",
        "rollout of m",
        "lunch",
    )


def test_what_people_write_is_bounded_and_cannot_steer_a_terminal() -> None:
    audit = Audit(lambda: 7.0)
    audit.record("a\x1b[31m", "drain", "backend x", "r" * 1000 + "\n")
    (record,) = audit
    assert record.actor == "a [31m"
    assert record.reason == "r" * 500


def test_the_latest_thousand_are_kept_in_memory_and_all_go_to_the_store() -> None:
    audit = Audit(lambda: 7.0)
    for number in range(1001):
        audit.record("anna", "drain", f"backend {number}", "")
    assert next(iter(audit)).subject == "backend 1"
    assert len(audit.unsaved()) == 1001


def test_what_was_kept_over_a_restart_comes_first_and_is_not_saved_again() -> None:
    audit = Audit(lambda: 7.0)
    before = Record(1.0, "ben", "resume", "rollout of m", "")
    audit.restore([before])
    audit.record("anna", "pause", "rollout of m", "")
    assert [record.at for record in audit] == [1.0, 7.0]
    assert before not in audit.unsaved()
