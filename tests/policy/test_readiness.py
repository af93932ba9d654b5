"""When a backend counts as ready, and when it is certain that it has gone."""

from gateway.policy.routing import readiness
from gateway.policy.routing.readiness import LOST_FOR_LONG, Readiness, State

READY = readiness.probe_passed(Readiness())


def failed(times: int, *, silent: bool = False) -> Readiness:
    state = READY
    for _ in range(times):
        state = readiness.probe_failed(state, "probe failed", silent=silent)
    return state


def test_one_failed_probe_is_a_passing_moment() -> None:
    assert failed(1).state is State.READY
    assert not failed(1).is_lost()
    assert failed(2).state is State.NOT_READY
    assert failed(2).is_lost()


def test_silence_is_less_certain_than_a_refusal() -> None:
    assert failed(2, silent=True).state is State.NOT_READY
    assert not failed(2, silent=True).is_lost()
    assert failed(3, silent=True).is_lost()


def test_failed_connects_alone_are_not_certain() -> None:
    state = READY
    for _ in range(3):
        state = readiness.connect_failed(state, "refused")
    assert state.state is State.NOT_READY
    assert not state.is_lost()
    assert readiness.connected(state).failed_connects == 0
    assert readiness.connected(READY) is READY


def test_an_answer_in_one_piece_is_given_more_time() -> None:
    assert not failed(LOST_FOR_LONG - 1).is_lost(long=True)
    assert failed(LOST_FOR_LONG).is_lost(long=True)


def test_a_good_probe_makes_ready_again() -> None:
    assert readiness.probe_passed(failed(9)) == READY


def test_changes_are_counted() -> None:
    changes = readiness.Changes()
    changes.note()
    assert repr(changes) == "<Changes 1>"
