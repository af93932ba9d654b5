"""Quiet services: at a few requests a second nothing that routing does may harm more than doing nothing."""

import pytest

from gateway.policy.routing.readiness import State
from loadtest.routing.quiet import GATEWAYS, VARIANTS, Outcome, breaches, medians, outcomes, play
from loadtest.routing.quiet_world import HAPROXY, NGINX, TIDEGATE, Arrival, Quiet, Spell, counted

BY_NAME = {variant.name: variant for variant in VARIANTS}


def test_there_are_enough_variants() -> None:
    assert len(BY_NAME) >= 10
    assert all(0.5 <= variant.rate <= 5 for variant in VARIANTS)
    assert all(2 <= spell.seconds <= 15 for variant in VARIANTS for spell in variant.spells)


@pytest.mark.parametrize("name", ["one, slow twice", "two, both slow twice", "two, one down"])
def test_users_miss_no_more_than_behind_peers(name: str) -> None:
    """A part of what `python -m loadtest.routing quiet` judges."""
    assert breaches([*outcomes(BY_NAME[name], range(1, 5))]) == []


def test_what_is_chance_is_the_same_for_every_gateway() -> None:
    """Which engine dies, and which call of many fails, is no gateway's merit."""
    (dying,) = outcomes(BY_NAME["two, one down"], [3])
    assert len(set(dying.missed.values())) == 1
    worlds = [play(BY_NAME["four, all fail half"], 1, name) for name in (TIDEGATE, HAPROXY)]
    retried = [{number for number, count in world.tries.items() if count > 1} for world in worlds]
    assert retried[0] == retried[1] != set()


def test_spells_visit_every_engine_in_turn_unless_all_have_them() -> None:
    hit = [turned.spells[0].engines for turned in BY_NAME["four, two slow"].turned()]
    assert hit == [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert [*BY_NAME["three, all paused"].turned()] == [BY_NAME["three, all paused"]]


def test_engines_that_pause_in_turn_do_not_drive_everybody_to_the_next() -> None:
    """One first token after 4 s is no reason to expect the next to take as long."""
    found = [*outcomes(BY_NAME["four, paused in turn"], range(1, 7))]
    shares = medians(found)
    assert shares[TIDEGATE] <= min(shares[NGINX], shares[HAPROXY])


def test_after_a_pause_nobody_is_refused() -> None:
    for seed in range(3):
        world = play(BY_NAME["two, one paused"], seed, TIDEGATE)
        after = [request for request in world.requests if request.arrived >= 54.0]
        assert sum(map(world.missed, after)) == 0


def test_a_request_moves_when_its_engine_has_gone() -> None:
    load = [Arrival(1.0, 500, 20), Arrival(1.01, 500, 20)]
    spell = Spell(0.5, 60.0, (0,), paused=True)
    world = Quiet(TIDEGATE, 1, load, [spell], 2)
    world.run(30.0)
    assert counted(world, 0.0, 30.0)[0] == 1, "late, but served"
    assert all(request.ended >= 0 for request in world.requests)
    assert world.readiness["gpu/a"].state is State.NOT_READY


def test_what_counts_as_harm() -> None:
    def outcome(own: int, peer: int) -> Outcome:
        return Outcome("v", 1, 200, {TIDEGATE: own, NGINX: peer, HAPROXY: peer + 5})

    assert not outcome(2, 0).is_harm
    assert outcome(3, 0).is_harm
    assert not outcome(12, 5).is_harm
    assert breaches([outcome(3, 0)]) == ["median 1.50% against 0.00% of nginx least_conn", "seed 1: 3 of 200 against 0"]
    assert tuple(medians([outcome(3, 0)])) == GATEWAYS
