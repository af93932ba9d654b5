"""When one request asks again that engines refuse."""

import pytest

from gateway.policy.routing.refusals import Refusals


def refused(times: int, patience: float | None = None, *, alone: bool) -> Refusals:
    refusals = Refusals()
    for _ in range(times):
        refusals.refused("gpu/0", patience, alone=alone)
    return refusals


def test_what_an_idle_engine_refuses_is_held_back_for_as_long_as_it_says() -> None:
    assert refused(1, alone=True).pause(10.0) == 0.25
    assert refused(2, alone=True).pause(10.0) == 0.5
    assert refused(1, 3.0, alone=True).pause(10.0) == 3.0
    assert refused(1, 3600.0, alone=True).pause(600.0) == 30.0
    assert refused(1, 3.0, alone=True).pause(2.0) is None, "its patience ends before"


def test_beside_others_it_keeps_its_place_at_first_and_then_makes_way() -> None:
    pauses = [refused(times, 30.0, alone=False).pause(600.0) for times in (1, 2, 3, 4, 20)]
    assert pauses == [0.0, 0.0, 2.0, 4.0, 300.0]
    assert refused(3, alone=False).pause(2.0) == 1.0, "it asks once more before its patience ends"
    assert refused(3, alone=False).pause(0.2) == 0.25, "the queue's time ends first"


@pytest.mark.parametrize(("patience", "most"), [(1.0, 5), (30.0, 14), (600.0, 24), (86_400.0, 40)])
def test_beside_others_it_asks_a_bounded_number_of_times_whatever_its_patience(patience: float, most: int) -> None:
    refusals, now = Refusals(), 0.0
    while now < patience:
        refusals.refused("gpu/0", None, alone=False)
        pause = refusals.pause(patience - now)
        assert pause is not None
        now += pause
    assert refusals.count <= most


def test_words_for_people() -> None:
    assert not refused(2, alone=True).are_many
    assert refused(3, alone=True).are_many
    assert repr(refused(3, alone=True)) == "<Refusals 3, the last by an idle engine>"
    assert repr(refused(1, alone=False)) == "<Refusals 1>"
