"""The table of a request's life."""

import pytest

from gateway.proxy.lifecycle import TRANSITIONS, Event, ImpossibleTransition, State, step


def reached_from(start: State) -> set[State]:
    found = {start}
    while True:
        more = found | {after for (state, _), after in TRANSITIONS.items() if state in found}
        if more == found:
            return found
        found = more


def test_a_request_may_come_into_every_state_and_out_of_each_to_its_end() -> None:
    assert reached_from(State.READING) == set(State)
    assert all(State.SETTLED in reached_from(state) for state in State)


def test_every_event_happens_somewhere_and_nothing_after_the_end() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert reached_from(State.SETTLED) == {State.SETTLED}


@pytest.mark.parametrize("event", [Event.CLIENT_GONE, Event.GIVEN_UP])
def test_a_client_may_leave_and_the_gateway_give_up_at_any_time(event: Event) -> None:
    assert {state for state, each in TRANSITIONS if each is event} == set(State) - {State.SETTLED}


def test_what_a_client_has_a_part_of_is_never_tried_again() -> None:
    after = {following for (state, _), following in TRANSITIONS.items() if state is State.ANSWERING}
    assert after == {State.SETTLED}


def test_what_the_table_does_not_know_is_a_fault() -> None:
    assert step(State.READING, Event.SLOT_GRANTED) is State.CONNECTING
    with pytest.raises(ImpossibleTransition, match="head while queued"):
        step(State.QUEUED, Event.HEAD)
