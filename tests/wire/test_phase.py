"""What moves a client's connection on, and how long it may stay as it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.guard import Limits
from gateway.wire.phase import (
    ANSWERED,
    ANSWERING,
    BODY,
    BROKEN,
    CLOSE_SECONDS,
    CLOSED,
    CLOSING,
    COMING,
    DEAF,
    FRESH,
    HALF_CLOSED,
    HEAD,
    HELD,
    IDLE,
    LAST_CALL,
    LINGER,
    LINGER_LONGEST,
    LINGER_SECONDS,
    PART_OF_BODY,
    PART_OF_HEAD,
    REFUSED,
    REQUEST,
    TRANSITIONS,
    Event,
    Phase,
    PhaseTimer,
    lingers_until,
    seconds_in,
)

LIMITS = Limits(head_seconds=1.0, body_seconds=2.0, keep_alive=3.0)


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [
        (FRESH, 1.0),
        (HEAD, 1.0),
        (BODY, 2.0),
        (IDLE, 3.0),
        (LINGER, LINGER_SECONDS),
        (CLOSING, CLOSE_SECONDS),
        (ANSWERING, math.inf),
        (HELD, math.inf),
        (REFUSED, math.inf),
    ],
)
def test_each_phase_has_its_limit(phase: Phase, seconds: float) -> None:
    assert seconds_in(phase, LIMITS, last_call=0.0) == seconds


def test_a_gateway_that_drains_keeps_idle_connections_for_one_last_request_only() -> None:
    assert seconds_in(IDLE, LIMITS, last_call=LAST_CALL) == LAST_CALL
    assert seconds_in(BODY, LIMITS, last_call=LAST_CALL) == 2.0


def test_a_request_is_coming_from_its_first_byte_to_its_last() -> None:
    assert {HEAD, BODY} == COMING


def test_what_a_refused_client_still_sends_is_read_away_for_a_while() -> None:
    assert lingers_until(100.0, 102.0) == 102.0 + LINGER_SECONDS
    assert lingers_until(100.0, 129.0) == 100.0 + LINGER_LONGEST


def timer(*events: Event, at: float = 100.0) -> PhaseTimer:
    made = PhaseTimer(LIMITS)
    made.restart(at)
    for event in events:
        made.step(event, at)
    return made


def test_a_request_comes_and_is_answered_and_the_next_may_come() -> None:
    made = timer()
    for at, event, phase, deadline in (
        (100.0, PART_OF_HEAD, HEAD, 101.0),
        (110.0, PART_OF_BODY, BODY, 112.0),
        (120.0, REQUEST, ANSWERING, math.inf),
        (130.0, ANSWERED, IDLE, 133.0),
    ):
        made.step(event, at)
        assert (made.phase, made.next_deadline, repr(made)) == (phase, deadline, f"<PhaseTimer {phase}>")


def test_a_phase_that_goes_on_gets_no_new_time() -> None:
    made = timer(PART_OF_HEAD)
    made.came(PART_OF_HEAD, 100.9)
    assert made.next_deadline == 101.0
    made.restart(100.9)
    assert made.next_deadline == 101.9


def test_a_body_must_go_on_coming() -> None:
    limits = Limits(body_seconds=30.0, body_silence=10.0)
    made = PhaseTimer(limits)
    for at, deadline in ((100.0, 110.0), (109.0, 119.0), (118.0, 128.0), (127.0, 130.0)):
        made.came(PART_OF_BODY, at)
        assert made.next_deadline == deadline


def test_one_last_request_may_come_while_the_gateway_drains() -> None:
    for events, deadline in (
        ((), 100.0 + LAST_CALL),
        ((REQUEST, ANSWERED), 100.0 + LAST_CALL),
        ((PART_OF_HEAD,), 101.0),
        ((REQUEST,), math.inf),
    ):
        made = timer(*events)
        made.last_call(100.0, LAST_CALL)
        assert made.next_deadline == deadline
    made.step(ANSWERED, 200.0, last_call=LAST_CALL)
    assert made.next_deadline == 200.0 + LAST_CALL


def test_what_a_refused_client_sends_counts_once_the_refusal_is_written() -> None:
    made = timer(BROKEN)
    made.read_away(200.0)
    assert made.next_deadline == math.inf
    made.step(ANSWERED, 200.0)
    made.read_away(203.0)
    assert (made.phase, made.next_deadline) == (LINGER, 203.0 + LINGER_SECONDS)


def test_a_client_that_has_closed_its_side_has_nothing_read_away() -> None:
    made = timer(REQUEST, BROKEN, HALF_CLOSED)
    assert made.phase in DEAF
    made.step(CLOSED, 100.0)
    assert made.phase is CLOSING


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_whatever_happens_a_connection_that_hears_no_more_never_does_again(events: list[Event]) -> None:
    made, deaf = timer(), False
    for event in events:
        if (made.phase, event) in TRANSITIONS:
            made.step(event, 100.0)
        if deaf := deaf or made.phase in DEAF:
            made.came(PART_OF_BODY, 100.0)
            assert made.phase in DEAF


def test_every_phase_can_end() -> None:
    assert {phase for phase, event in TRANSITIONS if event is CLOSED} == set(Phase)
