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
RECORD = CapacityRecord(WANT, MEMORY, 12, NOW - 3, 6, NOW - 60, None)


def test_it_comes_back_as_it_was() -> None:
    assert kept(RECORD.document(NOW).body, NOW) == RECORD


def test_it_holds_as_long_on_another_clock() -> None:
    there = NOW - 4.0
    found = kept(RECORD.document(NOW).body, there)
    assert found.want.valid_until == there + 60
    assert found.since == there, "nothing has happened yet to come"
    assert found.memory.needs == ((NOW - 9, 4), (there, 5))


def test_what_a_later_version_wrote_is_left_out() -> None:
    body = json.loads(RECORD.document(NOW).body)
    body["want"]["colour"] = body["memory"]["mood"] = body["other"] = "x"
    assert kept(json.dumps(body), NOW) == RECORD


def test_no_number_goes_out_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(RECORD, want=replace(WANT, value=nan)).document(NOW)


def test_it_can_be_made_to_hold_until_another_time() -> None:
    assert renewed(RECORD, NOW).want.valid_until == NOW


def test_a_person_is_asked_unless_they_have_refused_as_much() -> None:
    assert RECORD.awaits == 7
    assert replace(RECORD, rejected=7).awaits is None
    assert replace(RECORD, rejected=6).awaits == 7
    assert replace(RECORD, want=replace(WANT, awaits=None)).awaits is None
