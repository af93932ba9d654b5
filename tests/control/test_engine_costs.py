"""What engines cost follows the routes: prices, backends that come and go, engines that sleep."""

from pathlib import Path
from typing import Any

import pytest

from gateway.backends.registry import Registry
from gateway.control.engine_costs import EngineCosts
from gateway.policy.routing.readiness import Readiness, State
from gateway.wire.slices import finish
from tests.control.tables import registered, written
from tests.waiting import HandClock

HOUR = 3600.0


class House:
    """Backends of a pool with a price, and what they cost, on a clock that is set by hand."""

    def __init__(self, folder: Path, *urls: str, **pool: Any) -> None:
        self.clock, self.divided = HandClock(), (1.0, 1.0)
        self._file = folder / "routes.yaml"
        self.registry: Registry = registered(written(self._file, self._routes(*urls, **pool)), self.clock)
        self.costs = EngineCosts(self.registry, self.clock, lambda: self.divided)
        self.look()

    def look(self) -> None:
        finish(self.costs.looking())

    def reload(self, *urls: str, **pool: Any) -> None:
        self.registry.reconcile(written(self._file, self._routes(*urls, **pool)))
        self.look()

    def pass_hours(self, hours: float) -> tuple[float, float]:
        """Return what was used and what was idle meanwhile."""
        before = self.costs.used["gpu"], self.costs.idle["gpu"]
        self.clock.advance(hours * HOUR)
        self.look()
        return self.costs.used["gpu"] - before[0], self.costs.idle["gpu"] - before[1]

    @staticmethod
    def _routes(*urls: str, **pool: Any) -> dict[str, Any]:
        found = {"backends": list(urls), "cost_per_hour": 2.0, **pool}
        return {
            "pools": {"gpu": {key: value for key, value in found.items() if value is not None}},
            "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}},
        }


def test_each_backend_costs_its_price_whether_it_is_used_or_idle(tmp_path: Path) -> None:
    house = House(tmp_path, "http://a:1", "http://b:1")
    first, _ = house.registry
    lease = first.health.lease(1, now=house.clock())
    assert house.pass_hours(1.5) == pytest.approx((3.0, 3.0))
    assert lease.release(house.clock()) == pytest.approx(3.0)
    assert house.pass_hours(1) == pytest.approx((0.0, 4.0))
    assert repr(house.costs) == "<EngineCosts of 2 backends>"


def test_a_pool_without_a_price_costs_nothing_and_is_not_shown(tmp_path: Path) -> None:
    house = House(tmp_path, "http://a:1", cost_per_hour=None)
    (backend,) = house.registry
    lease = backend.health.lease(1, now=house.clock())
    house.clock.advance(HOUR)
    assert lease.release(house.clock()) == 0.0
    house.look()
    assert not house.costs.used


def test_a_change_of_the_price_holds_from_the_reload_on(tmp_path: Path) -> None:
    house = House(tmp_path, "http://a:1")
    (backend,) = house.registry
    lease = backend.health.lease(1, now=house.clock())
    house.pass_hours(1)
    house.reload("http://a:1", cost_per_hour=5.0)
    house.pass_hours(1)
    assert lease.release(house.clock()) == pytest.approx(2.0 + 5.0)


def test_a_backend_that_is_gone_costs_until_its_last_request_has_ended(tmp_path: Path) -> None:
    house = House(tmp_path, "http://a:1", "http://b:1")
    first, _ = house.registry
    lease = first.health.lease(1, now=house.clock())
    house.reload("http://b:1")
    assert house.pass_hours(1) == pytest.approx((2.0, 2.0))
    house.clock.advance(HOUR / 2)
    assert lease.release(house.clock()) == pytest.approx(3.0)
    assert house.pass_hours(0) == pytest.approx((1.0, 1.0)), "what it cost since the last look is not lost"
    assert house.pass_hours(1) == pytest.approx((0.0, 2.0))


def test_an_engine_that_may_not_exist_costs_nothing_before_it_is_ready(tmp_path: Path) -> None:
    house = House(tmp_path, "http://a:1", scale_from_zero={"hold": "60s"})
    (backend,) = house.registry
    assert house.pass_hours(1) == (0.0, 0.0)
    backend.learn(Readiness(State.READY))
    house.look()
    assert house.pass_hours(1) == pytest.approx((0.0, 2.0))
    backend.availability.sleep(asleep=True)
    house.look()
    assert house.pass_hours(1) == (0.0, 0.0)


def test_machines_and_workers_divide_what_engines_cost(tmp_path: Path) -> None:
    house = House(tmp_path, "http://a:1")
    house.divided = (0.5, 0.25)
    house.look()
    assert house.pass_hours(1) == pytest.approx((0.0, 2.0 * 0.5 * 0.25))
    (backend,) = house.registry
    lease = backend.health.lease(1, now=house.clock())
    house.clock.advance(HOUR)
    assert lease.release(house.clock()) == pytest.approx(1.0), "who holds an engine pays all of this machine's part"
