"""Requests that wait for the first replica of a pool are heard of at another gateway, whatever its clock shows."""

import pytest

from gateway.control.capacity_calls import CALLED, CALLS_FOR, CapacityCalls
from gateway.state.store import WAKING, Document
from tests.waiting import HandClock

EPOCH = 1_700_000_000.0
HOUR = 3600.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def calls(clock: HandClock, ahead: float = 0.0) -> CapacityCalls:
    return CapacityCalls(clock, lambda: EPOCH + clock() + ahead)


@pytest.mark.parametrize("ahead", [-60.0, 0.0, HOUR])
def test_a_call_is_heard_at_once_and_is_over_when_it_is_not_repeated(clock: HandClock, ahead: float) -> None:
    there, here = calls(clock, ahead), calls(clock)
    (call,) = there.documents({"gpu"})
    assert (call.kind, call.name) == (WAKING, "gpu")
    here.hear(call)
    assert "gpu" in here
    assert "cpu" not in here
    assert repr(here) == "<CapacityCalls of gpu>"
    clock.advance(CALLS_FOR)
    assert "gpu" not in here


def test_one_of_a_clock_that_is_far_behind_is_heard_the_second_time(clock: HandClock) -> None:
    there, here = calls(clock, -HOUR), calls(clock)
    (first,) = there.documents({"gpu"})
    here.hear(first)
    assert "gpu" not in here, "it may be an old one"
    clock.advance(CALLED)
    (second,) = there.documents({"gpu"})
    here.hear(second)
    assert "gpu" in here


def test_it_is_repeated_as_long_as_requests_wait(clock: HandClock) -> None:
    there = calls(clock)
    assert len(there.documents({"gpu"})) == 1
    assert there.documents({"gpu"}) == []
    assert [each.name for each in there.documents({"gpu", "cpu"})] == ["cpu"]
    clock.advance(CALLED)
    assert len(there.documents({"gpu", "cpu"})) == 2
    clock.advance(CALLED)
    assert there.documents(()) == []


def test_what_an_emptied_store_gets_back_is_no_call(clock: HandClock) -> None:
    there, here = calls(clock, HOUR), calls(clock)
    (call,) = there.documents({"gpu"})
    here.hear(call)
    clock.advance(CALLS_FOR)
    here.hear(call)
    assert "gpu" not in here


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"at": "x"}', '{"at": NaN}', '{"at": 1.0}'])
def test_what_is_old_or_cannot_be_read_is_no_call(clock: HandClock, body: str) -> None:
    here = calls(clock)
    here.hear(Document(WAKING, "gpu", body))
    assert "gpu" not in here
