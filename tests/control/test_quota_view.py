"""What is shown of quotas over several machines: what was used here and elsewhere, and whether a machine is alone."""

from math import exp
from pathlib import Path

import pytest

from gateway.control.fleet_quotas import FleetQuotas
from gateway.policy.admission.fleet_quota import MEMORY
from gateway.policy.admission.quota import Exceeded
from tests.control.fleet import Simulation, routes
from tests.control.quota_exchange import ModelExchange
from tests.control.tables import in_force, registered, written
from tests.waiting import HandClock


def test_what_a_tenant_used_here_and_elsewhere_is_shown_and_how_old_that_is(tmp_path: Path) -> None:
    fleet = Simulation(tmp_path, {"requests_per_minute": 600, "tokens_per_minute": 100_000}, replicas=3)
    fleet.run(200.0, (0.9, 0.05, 0.05), [1200], tokens=50)
    recent = [(exp((at - fleet.clock()) / MEMORY), index) for at, index in fleet.admitted]
    for index, replica in enumerate(fleet.replicas):
        here = sum(weight for weight, by in recent if by == index)
        view = replica.fleet.view(replica.clock())
        assert (view.machines, view.alone, view.problem) == (3, False, "")
        requests, tokens = view.limits
        assert (requests.tenant, requests.limit, requests.allowed) == ("acme", Exceeded.REQUESTS, 600)
        assert requests.here == pytest.approx(here, rel=0.02, abs=2)
        assert requests.here + requests.elsewhere == pytest.approx(sum(weight for weight, _ in recent), rel=0.05)
        assert -12 < requests.left < 12
        assert requests.part is None
        assert requests.heard is not None
        assert requests.heard < 1.5
        assert (tokens.limit, tokens.allowed) == (Exceeded.TOKENS, 100_000)
        assert tokens.here == pytest.approx(50 * requests.here, rel=0.02, abs=100)
        assert tokens.left > 95_000
        assert replica.quota.left(replica.clock()) == (requests.left, tokens.left)


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"requests_per_minute": 10}, (9, None)),
        ({"tokens_per_minute": 1000}, (None, 900)),
        ({"concurrent": 3}, (None, None)),
    ],
)
def test_what_is_left_is_that_of_the_limits_there_are(
    tmp_path: Path, limits: dict[str, int], left: tuple[float | None, float | None]
) -> None:
    fleet = Simulation(tmp_path, limits, replicas=1)
    assert fleet.ask(0, 100) is None
    replica = fleet.replicas[0]
    assert replica.quota.left(replica.clock()) == pytest.approx(left)


def test_without_limits_a_minute_there_is_nothing_to_hear_of_others(tmp_path: Path) -> None:
    assert not Simulation(tmp_path, {"concurrent": 3}, replicas=1).replicas[0].fleet.is_needed
    assert Simulation(tmp_path, {"tokens_per_minute": 1000}, replicas=1).replicas[0].fleet.is_needed


def test_one_that_hears_of_a_tenant_for_the_first_time_knows_that_others_used_it(tmp_path: Path) -> None:
    fleet = Simulation(tmp_path, {"requests_per_minute": 60}, replicas=2)
    assert [fleet.ask(0) for _ in range(60)] == [None] * 60
    fleet.run(1.0, [], [])
    assert fleet.ask(1) is not None
    fleet.run(0.5, [], [])
    one, other = (each.fleet.view(each.clock()).limits[0] for each in fleet.replicas)
    assert (one.here, one.elsewhere) == (pytest.approx(60, abs=2), pytest.approx(0, abs=1))
    assert (other.here, other.elsewhere) == (pytest.approx(0, abs=1), pytest.approx(60, abs=2))


def test_a_replica_that_is_alone_is_shown_so_with_its_part_of_what_is_refilled(tmp_path: Path) -> None:
    fleet = Simulation(tmp_path, {"requests_per_minute": 600}, replicas=2)
    fleet.run(60.0, (0.9, 0.1), [1200])
    fleet.exchange.away = True
    fleet.run(20.0, (1.0, 0.0), [600], seed=2)
    views = [each.fleet.view(each.clock()) for each in fleet.replicas]
    assert all(each.alone and each.heard is not None and each.heard > 19.0 for each in views)
    parts = [each.limits[0].part for each in views]
    assert parts == [pytest.approx(0.9, abs=0.05), pytest.approx(0.5, abs=0.01)]
    used = views[0].limits[0]
    assert used.here > used.elsewhere > 0, "what it charges itself is counted on"
    fleet.run(300.0, (1.0, 0.0), [600], seed=3)
    used = fleet.replicas[0].fleet.view(fleet.replicas[0].clock()).limits[0]
    assert 0 < used.here < 700, "of about a minute, however long it is alone"
    fresh = fleet.replica()
    view = fresh.fleet.view(fresh.clock())
    assert (view.heard, view.alone, view.machines, view.limits) == (None, True, 1, ())


def test_of_many_tenants_those_that_used_most_are_shown_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    clock = HandClock()
    many = {
        f"t{number}": {"key_sha256": f"{number:064x}", "limits": {"requests_per_minute": 1000}} for number in range(300)
    }
    table = written(tmp_path / "routes.yaml", routes({}) | {"tenants": many})
    registry = registered(table, clock)
    current = in_force(table, registry, clock)
    fleet = FleetQuotas(ModelExchange(clock), current, clock)
    fleet.follow(clock())
    for tenant in current.tenants:
        for _ in range(int(tenant.name[1:])):
            assert tenant.quota.reserve(0, clock()) is None
    shown = fleet.view(clock()).limits
    assert [each.tenant for each in shown] == [f"t{number}" for number in range(299, 199, -1)]
    assert [each.left for each in shown[:2]] == [pytest.approx(701), pytest.approx(702)]
    (unused,) = fleet.view(clock(), "t0").limits
    assert (unused.left, unused.here, unused.elsewhere) == (1000, 0, 0)
    assert fleet.view(clock(), "nobody").limits == ()
    fleet.close()
