"""The loop behind admission: limits follow what engines say, and waiting requests get slots that time has freed."""

from pathlib import Path
from typing import Any

import pytest

from gateway.backends.exposed import EngineMetrics
from gateway.backends.registry import Registry
from gateway.claim import Claim
from gateway.control.limits import LimitController, queued
from gateway.policy.admission.classes import CLASSES
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from gateway.policy.slo.windows import TICK
from gateway.proxy.awaited_slots import holders_of
from gateway.telemetry.slo_recorder import follow
from tests.control.tables import in_force, models, registered, written
from tests.waiting import HandClock


class House:
    """Backends, and what admits requests to them, on a clock that is set by hand."""

    def __init__(self, folder: Path, routes: dict[str, Any]) -> None:
        self.clock = HandClock()
        table = written(folder / "routes.yaml", routes)
        self.registry: Registry = registered(table, self.clock)
        self.current = in_force(table, self.registry, self.clock)
        self.ledger = SloLedger(self.clock())
        follow(self.ledger, table, self.clock())
        self.limits = LimitController(self.registry, self.current, self.ledger, clock=self.clock)
        self.limits.follow()

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(TICK)
            self.ledger.advance(self.clock())
            self.limits.admit()


def test_a_backend_begins_with_a_limit_and_keeps_to_a_fixed_one(tmp_path: Path) -> None:
    fixed = {"url": "http://b:1", "max_concurrency": 7}
    house = House(tmp_path, {"models": {"m": {"backends": ["http://a:1", fixed]}}})
    free, bounded = house.registry
    assert free.health.slots.limit > 0
    house.look(20)
    assert bounded.health.slots.limit == 7


def test_what_an_engine_says_of_its_kv_cache_bounds_what_it_is_sent(tmp_path: Path) -> None:
    house = House(tmp_path, models("http://a:1"))
    (backend,) = house.registry
    backend.told(EngineMetrics(kv_capacity=4096), house.clock())
    house.look()
    assert backend.health.slots.kv_capacity == 4096


def test_a_model_without_requests_has_an_empty_queue(tmp_path: Path) -> None:
    house = House(tmp_path, models("http://a:1"))
    house.look()
    (found,) = queued(house.current.table)
    assert (found.model, found.version) == ("m", "default")
    assert not any(found.waiting.values())
    assert not found.held


@pytest.mark.parametrize(("burns", "queues"), [(True, True), (True, False), (False, True)])
def test_sheddable_classes_are_held_back_while_a_higher_one_burns_and_its_requests_queue(
    tmp_path: Path, burns: bool, queues: bool
) -> None:
    house = House(tmp_path, models("http://a:1"))
    (backend,), highest = house.registry, min(each.priority for each in CLASSES.values())
    holders_of(backend.health).took(Claim(1, highest), house.clock())
    (ttft,) = [each for each in house.ledger.get(Kind.MODEL, "m") if each.sli == Sli.TTFT]
    for _ in range(600):
        house.ledger.count(ttft, good=0 if burns else 10, bad=10 if burns else 0)
        backend.told(EngineMetrics(running=10.0, waiting=float(queues)), house.clock())
        house.look()
    (found,) = queued(house.current.table)
    lower = {name for name, each in CLASSES.items() if each.sheddable and each.priority > highest}
    assert lower
    assert found.held == (lower if burns and queues else set())
