"""What is kept of a want comes back from a document as it was, and holds as long from then on."""

import json
from dataclasses import replace
from math import nan

import pytest

from gateway.control.capacity_record import CapacityRecord, kept, renewed
from gateway.policy.capacity.want import Memory, Rail, Rule, Want

NOW = 1_700_000_000.0
WANT = Want(
    "gpu",
    1,
    8,
    5,
    "pods",
    3,
    "more",
    Rule.BURN,
    {"burn": 16.2, "queue_wait": None},
    NOW + 60,
    5.4,
    6,
    (Rail.MAX,),
    7,
    9.0,
)
MEMORY = Memory(5, idle_since=NOW - 5, needs=((NOW - 9, 4), (NOW - 3, 5)), direction=1, changed_at=NOW - 3)
RECORD = CapacityRecord(WANT, MEMORY, 12, NOW + 497.0, 6, NOW - 60, None, 9, NOW - 20)


EPOCH = NOW + 500.0
"""Seconds since the epoch, where `NOW` is of another clock."""


def test_it_comes_back_as_it_was() -> None:
    assert kept(RECORD.document(NOW, EPOCH).body, NOW, EPOCH, fresh=False) == RECORD


@pytest.mark.parametrize("behind", [-4000.0, 0.0, 4000.0])
def test_a_fresh_one_is_as_old_as_it_was_written_by_whatever_clocks(behind: float) -> None:
    found = kept(RECORD.document(NOW, EPOCH).body, 7000.0, EPOCH - behind, fresh=True)
    assert found.want.valid_until == 7000.0 + 60.0
    assert found.since == EPOCH - behind - (EPOCH - RECORD.since)
    assert found.memory.needs == ((7000.0 - 9, 4), (7000.0 - 3, 5))
    assert found.approved_at == 7000.0 - 60.0
    assert found.awaited_at == 7000.0 - 20.0


def test_one_that_was_kept_has_grown_older_meanwhile() -> None:
    found = kept(RECORD.document(NOW, EPOCH).body, 7000.0, EPOCH + 30.0, fresh=False)
    assert found.want.valid_until == 7000.0 + 60.0
    assert found.memory.needs == ((7000.0 - 39, 4), (7000.0 - 33, 5))
    assert found.since == RECORD.since


def test_nothing_in_it_is_of_a_time_to_come() -> None:
    found = kept(RECORD.document(NOW, EPOCH).body, 7000.0, EPOCH - 4.0, fresh=False)
    assert found.since == EPOCH - 4.0
    assert found.memory.needs == ((7000.0 - 5, 4), (7000.0, 5))


@pytest.mark.parametrize(("holds", "expected"), [(nan, 0.0), (-5.0, 0.0), (1e9, 3600.0)])
def test_no_want_holds_for_ever(holds: float, expected: float) -> None:
    body = json.loads(RECORD.document(NOW, EPOCH).body) | {"holds": holds}
    assert kept(json.dumps(body), NOW, EPOCH, fresh=True).want.valid_until == NOW + expected


def test_one_that_was_written_at_no_time_is_refused() -> None:
    body = json.loads(RECORD.document(NOW, EPOCH).body) | {"at": nan}
    with pytest.raises(ValueError, match="no time"):
        kept(json.dumps(body), NOW, EPOCH, fresh=True)


def test_what_a_later_version_wrote_is_left_out() -> None:
    body = json.loads(RECORD.document(NOW, EPOCH).body)
    body["want"]["colour"] = body["memory"]["mood"] = body["other"] = "x"
    assert kept(json.dumps(body), NOW, EPOCH, fresh=False) == RECORD


def test_one_of_an_earlier_version_has_asked_nothing() -> None:
    body = json.loads(RECORD.document(NOW, EPOCH).body)
    del body["asked"], body["awaited_at"]
    assert kept(json.dumps(body), NOW, EPOCH, fresh=False).asked_lately(300.0, NOW) == 0


def test_no_number_goes_out_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(RECORD, want=replace(WANT, value=nan)).document(NOW, EPOCH)


def test_it_can_be_made_to_hold_until_another_time() -> None:
    assert renewed(RECORD, NOW).want.valid_until == NOW


def test_a_person_is_asked_unless_they_have_refused_as_much() -> None:
    assert RECORD.awaits == 7
    assert replace(RECORD, rejected=7).awaits is None
    assert replace(RECORD, rejected=6).awaits == 7
    assert replace(RECORD, want=replace(WANT, awaits=None)).awaits is None
