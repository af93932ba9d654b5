"""Simulated rollouts under the gateway's own rules end as they should, in about the time that was predicted."""

import pytest

from gateway.policy.canary.rollout import Phase
from loadtest.canary.__main__ import breaches, rollouts, share
from loadtest.canary.cells import GROUPS, Cell
from loadtest.canary.world import Incident, World

SPELLS = tuple(Incident(at, 300.0, 0.5) for at in (120.0, 1500.0, 4000.0))


@pytest.mark.parametrize("world", [World(12.0, 0.001), World(0.2, 0.01), World(60.0, 0.05)])
def test_an_equal_candidate_is_promoted_in_about_the_time_predicted(world: World) -> None:
    cell = Cell("equal", world)
    found = rollouts(cell, 8, 1)
    assert breaches(cell, found) == []
    assert share(found, Phase.PROMOTED) >= 0.75
    times = sorted(each.seconds for each in found if each.phase is Phase.PROMOTED)
    assert 0.4 < times[len(times) // 2] / found[0].predicted < 2.5


@pytest.mark.parametrize("world", [World(3.0, 0.001, 20.0), World(3.0, 0.001, 20.0, incidents=SPELLS)])
def test_a_candidate_that_is_twenty_times_worse_is_never_promoted_even_in_incidents(world: World) -> None:
    assert share(rollouts(Cell("worse", world), 8, 1), Phase.PROMOTED) == 0


def test_an_incident_of_both_rolls_no_equal_candidate_back() -> None:
    assert share(rollouts(Cell("incident", World(3.0, 0.001, incidents=SPELLS)), 8, 1), Phase.ROLLED_BACK) == 0


def test_a_missed_target_is_found() -> None:
    found = rollouts(Cell("worse", World(12.0, 0.01, 20.0)), 5, 1)
    assert breaches(Cell("as if equal", World(12.0, 0.01)), found) == [
        "as if equal at 12/s: 0 % promoted (least 95 %)",
        "as if equal at 12/s: 100.0 % rolled back (most 1 %)",
    ]


def test_every_cell_says_why_where_it_has_no_target() -> None:
    for make in GROUPS.values():
        for cell in make():
            targets = (cell.least_promoted, cell.most_promoted)
            assert cell.why or any(each is not None for each in targets)
