"""The gateway's own routing in virtual time: sick engines lose their work, busy ones keep it."""

from collections import Counter

import pytest

from gateway.policy.routing.ejection import State
from gateway.policy.slo.objective import DEFAULT
from gateway.sim.profiles import GPU, customised
from loadtest.routing import detector
from loadtest.routing.world import Request, Workload, World


def shares(requests: list[Request], since: float) -> Counter[str]:
    """How many requests each server got from a moment on."""
    return Counter(request.server.name for request in requests if request.server and request.arrived >= since)


@pytest.mark.parametrize("seed", range(4))
def test_long_prompts_eject_nobody(seed: int) -> None:
    world = World(seed, DEFAULT, Workload(rate=50, prompt=200))
    world.run(40.0)
    world.workload.prompt, world.workload.rate = 8000, 4.0
    world.run(140.0)
    assert world.peers.take_transitions() == []


@pytest.mark.parametrize("seed", range(4))
def test_a_brown_out_moves_the_work_away_and_back(seed: int) -> None:
    world = World(seed, DEFAULT, Workload(rate=20, prompt=2000, output=60))
    world.run(40.0)
    victim = world.servers[0]
    victim.slow = 5.0
    world.run(110.0)
    seen = shares(world.requests, 50.0)
    assert seen[victim.name] < 0.05 * seen.total()
    victim.slow = 1.0
    world.run(230.0)
    world.run(290.0)
    seen = shares(world.requests, 230.0)
    assert seen[victim.name] > 0.2 * seen.total()


def test_two_of_four_sick_do_not_drown_the_rest() -> None:
    world = World(1, DEFAULT, Workload(rate=20, prompt=2000, output=60))
    world.run(40.0)
    out: list[int] = []
    world.every_tick.append(lambda: out.append(sum(server.health.outlier.ejection.out for server in world.servers)))
    for server in world.servers[:2]:
        server.error_rate = 1.0
    world.run(110.0)
    assert max(out) == 2
    well = [server for server in world.servers[2:] if server.health.outlier.ejection.state is State.IN_SERVICE]
    assert len(well) == 2
    late = [request for request in world.requests if request.arrived >= 50.0]
    assert sum(request.failed for request in late) == 0


@pytest.mark.parametrize(("rate", "least", "most"), [(8, 0.03, 0.15), (24, 0.2, 0.28)], ids=["room", "no room"])
@pytest.mark.parametrize("seed", range(4))
def test_one_that_fails_now_and_then_works_on_where_the_others_have_no_room(
    seed: int, rate: float, least: float, most: float
) -> None:
    profile = customised(GPU, ["prefix_caching=0"])
    world = World(seed, DEFAULT, Workload(rate=rate, prompt=2400, output=12), profile=profile)
    world.run(40.0)
    victim = world.servers[0]
    victim.error_rate = 0.1
    world.run(140.0)
    assert world.peers.take_transitions() == []
    assert not any(request.failed for request in world.requests)
    seen = shares(world.requests, 50.0)
    assert least < seen[victim.name] / seen.total() < most


def test_when_all_are_sick_ejections_are_ignored() -> None:
    world = World(2, DEFAULT, Workload(rate=20, prompt=200))
    world.run(40.0)
    panics: list[bool] = []
    world.every_tick.append(lambda: panics.append(world.peers.panic))
    for server in world.servers:
        server.error_rate = 0.7
    world.run(80.0)
    assert any(panics)
    seen = shares(world.requests, 60.0)
    assert set(seen) == {server.name for server in world.servers}


def test_the_detector_tells_sick_from_busy() -> None:
    """A few of the runs that `python -m loadtest.routing detector` judges."""
    cells = Counter(detector.run(seed).cell for seed in range(8))
    assert detector.f1(cells) >= 0.85
