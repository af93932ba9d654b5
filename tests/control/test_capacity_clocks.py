"""What pools want does not depend on when clocks are set, nor on whether those of two gateways agree."""

from pathlib import Path
from typing import Any

import pytest

from gateway.control.capacity import RENEWED
from gateway.policy.capacity.want import Memory
from tests.control.capacity import Decisions, Site, routes

HOUR = 3600.0
either_way = pytest.mark.parametrize("ahead", [-HOUR, HOUR])


def site(folder: Path, target: int = 2, *, leads: bool = True, ahead: float = 0.0, **capacity: Any) -> Site:
    found = Site(folder, routes(**capacity), Decisions(target))
    found.ready()
    found.leads, found.ahead = leads, ahead
    return found


@either_way
def test_a_want_holds_and_is_told_again_as_ever_after_a_clock_was_set(tmp_path: Path, ahead: float) -> None:
    leader, other = site(tmp_path), site(tmp_path, leads=False)
    other.capacity.follow(leader.look())
    leader.ahead = other.ahead = ahead
    assert (leader.target, other.target) == (2, 2)
    other.clock.advance(50.0)
    (again,) = leader.look(RENEWED)
    other.capacity.follow([again])
    other.clock.advance(59.0)
    assert other.target == 2
    other.clock.advance(1.0)
    assert other.target is None, "and no longer, where no gateway leads"


@either_way
def test_a_decision_knows_how_long_ago_the_last_one_was(tmp_path: Path, ahead: float) -> None:
    here = site(tmp_path)
    here.look()
    here.ahead = ahead
    here.look(7.0)
    assert ages(here) == (7.0, 7.0)


@either_way
def test_an_approval_ends_a_cool_down_after_the_want_has_fallen(tmp_path: Path, ahead: float) -> None:
    here = site(tmp_path, 9, approve_above=6, cool_down="300s")
    here.look()
    here.capacity.approve("gpu", actor="ann", reason="a launch")
    here.ahead = ahead
    here.decisions.target = 3
    here.look(200.0)
    assert here.decisions.loads[-1].approved == 9
    here.look(200.0)
    here.look()
    assert here.decisions.loads[-1].approved is None


@either_way
def test_one_that_takes_over_knows_it_too_though_its_clock_is_another(tmp_path: Path, ahead: float) -> None:
    leader, other = site(tmp_path, ahead=ahead), site(tmp_path, leads=False)
    leader.look()
    leader.decisions.target = 3
    other.capacity.follow(leader.look(100.0))
    other.leads = True
    other.look(5.0)
    assert ages(other) == (5.0, 5.0)


def test_after_a_restart_time_has_passed_unless_the_clock_was_set_back(tmp_path: Path) -> None:
    before, after, set_back = site(tmp_path), site(tmp_path, ahead=40.0), site(tmp_path, ahead=-HOUR)
    saved = before.look()
    for here in (after, set_back):
        here.clock.now = before.clock()
        here.capacity.restore(saved)
        here.look(5.0)
    assert ages(after) == (45.0, 45.0)
    assert ages(set_back) == (5.0, 5.0), "nothing has happened yet to come"


@either_way
def test_people_are_told_times_by_the_clock_that_they_have(tmp_path: Path, ahead: float) -> None:
    leader, other = site(tmp_path, ahead=ahead), site(tmp_path, leads=False)
    other.capacity.follow(leader.look())
    for here in (leader, other):
        (found,) = here.capacity
        assert found.record is not None
        assert found.valid_until == here.epoch() + 60.0
    (found,) = leader.capacity
    assert found.record is not None
    assert found.record.since == leader.epoch()


def ages(here: Site) -> tuple[float, float]:
    """Return how long ago the last change was, and the last need, by what the latest decision knew."""
    memory, now = here.decisions.memories[-1], here.clock()
    assert isinstance(memory, Memory)
    assert memory.changed_at is not None
    return round(now - memory.changed_at, 3), round(now - memory.needs[0][0], 3)
