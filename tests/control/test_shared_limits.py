"""What a worker shares with the others by the table that its supervisor made."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.registry import Registry
from gateway.claim import Claim
from gateway.control.shared_limits import SharedLimits
from gateway.policy.admission.quota import Quota
from gateway.shared.memory import SharedTable, joined
from tests.control.tables import in_force, put_in_force, registered, written
from tests.waiting import HandClock

ROUTES: dict[str, Any] = {
    "pools": {"gpu": {"backends": [{"url": "http://a:1", "max_concurrency": 1}]}},
    "tenants": {
        "acme": {"key_sha256": "0" * 64, "limits": {"concurrent": 1}},
        "free": {"key_sha256": "1" * 64},
    },
    "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}},
}


class Worker:
    """The part of a worker that shares, in one process with others: they never want the same lock at once."""

    def __init__(self, folder: Path, table: SharedTable, clock: HandClock) -> None:
        row = table.allot(1)
        assert row is not None
        found = joined(table.named(row))
        assert found is not None
        routes = written(folder / "routes.yaml", ROUTES)
        self.registry: Registry = registered(routes, clock)
        self.current = in_force(routes, self.registry, clock)
        self.limits = SharedLimits(found, self.registry, self.current, clock)
        self.limits.follow(clock())
        (self.backend,) = self.registry
        self.backend.health.slots.limit_to(1)
        self._folder, self._clock = folder, clock

    def reload(self, **tenants: dict[str, Any]) -> None:
        """Follow routes with the limits of other tenants."""
        named = {name: {"key_sha256": f"{at:064}", "limits": each} for at, (name, each) in enumerate(tenants.items())}
        routes = written(self._folder / "later.yaml", {**ROUTES, "tenants": named})
        put_in_force(self.current, self.registry, routes)
        self.limits.follow(self._clock())

    def quota(self, name: str) -> Quota:
        """Return the quota of a tenant that the routes name."""
        return next(each.quota for each in self.current.tenants if each.name == name)


def test_backends_and_tenants_with_limits_are_shared(tmp_path: Path) -> None:
    clock, table = HandClock(), SharedTable.create(2)
    one, other = Worker(tmp_path, table, clock), Worker(tmp_path, table, clock)
    assert one.backend.health.slots.secure(Claim(3), clock())
    lease = one.backend.health.lease(10, Claim(3), clock())
    other.limits.tick(clock())
    assert (other.backend.health.slots.in_flight, other.backend.in_flight) == (1, 0)
    assert not other.backend.health.slots.secure(Claim(), clock())
    acme, free = one.current.tenants
    assert free.quota.shared is None
    assert acme.quota.reserve(0, clock()) is None
    assert next(iter(other.current.tenants)).quota.reserve(0, clock()) is not None
    lease.release()
    assert other.backend.health.slots.secure(Claim(), clock())
    table.clear(1)
    os.eventfd_read(one.limits.wake_fd)
    one.limits.tick(clock())
    assert one.backend.health.slots.in_flight == 0


def test_what_a_backend_costs_is_divided_among_the_requests_of_all_workers(tmp_path: Path) -> None:
    clock, table = HandClock(), SharedTable.create(2)
    workers = [Worker(tmp_path, table, clock) for _ in range(2)]
    assert [each.limits.processes() for each in workers] == [2, 2]
    leases = []
    for worker in workers:
        worker.backend.health.slots.limit_to(8)
        worker.backend.health.costs.follow(1.0, 0.5, clock())
    for worker, count in zip(workers, (1, 3), strict=True):
        for _ in range(count):
            assert worker.backend.health.slots.secure(Claim(), clock())
            leases.append(worker.backend.health.lease(10, Claim(), clock()))
    for worker in workers:
        worker.limits.tick(clock())
    clock.advance(10.0)
    assert [lease.release(clock()) for lease in leases] == [pytest.approx(2.5)] * 4
    for worker in workers:
        worker.limits.tick(clock())
    clock.advance(1.0)
    for worker in workers:
        worker.limits.tick(clock())
    idle = [worker.backend.health.costs.take()[1] for worker in workers]
    assert idle == [pytest.approx(0.5)] * 2, "an idle moment is divided by their number"


def test_a_worker_lets_go_of_a_backend_that_is_gone_once_its_requests_have_ended(tmp_path: Path) -> None:
    clock, table = HandClock(), SharedTable.create(1)
    worker = Worker(tmp_path, table, clock)
    slots = worker.backend.health.slots
    assert slots.secure(Claim(), clock())
    lease = worker.backend.health.lease(10)
    without = {**ROUTES, "pools": {"gpu": {"backends": ["http://b:1"]}}}
    worker.registry.reconcile(written(tmp_path / "later.yaml", without))
    worker.limits.follow(clock())
    assert slots.shared is not None
    lease.release()
    worker.limits.follow(clock())
    assert slots.shared is None


def test_a_worker_that_is_woken_looks(tmp_path: Path) -> None:
    clock, table = HandClock(), SharedTable.create(1)
    worker = Worker(tmp_path, table, clock)
    os.eventfd_write(worker.limits.wake_fd, 3)
    worker.limits.woken()
    worker.limits.woken()
    assert all(line.slots.shared for model in worker.current.table for line in model.memory.lines.values())


def test_requests_that_are_in_flight_when_a_quota_is_first_shared_count_for_all_workers(tmp_path: Path) -> None:
    clock, table = HandClock(), SharedTable.create(2)
    workers = [Worker(tmp_path, table, clock) for _ in range(2)]
    assert workers[0].quota("free").reserve(0, clock()) is None
    for worker in workers:
        worker.reload(free={"concurrent": 2})
    one, other = (each.quota("free") for each in workers)
    assert other.reserve(0, clock()) is None
    assert one.reserve(0, clock()) is not None
    assert other.reserve(0, clock()) is not None
    one.settle(0, 0)
    assert other.reserve(0, clock()) is None
    other.settle(0, 0)
    other.settle(0, 0)
    assert (one.own, other.own) == (0, 0)


def test_a_tenant_that_is_removed_and_added_again_has_all_its_slots_once_its_requests_have_ended(
    tmp_path: Path,
) -> None:
    clock, table = HandClock(), SharedTable.create(2)
    worker, other = (Worker(tmp_path, table, clock) for _ in range(2))
    before = worker.quota("acme")
    assert before.reserve(0, clock()) is None
    worker.reload()
    worker.reload(acme={"concurrent": 2})
    other.reload(acme={"concurrent": 2})
    after = worker.quota("acme")
    assert after is not before
    assert after.reserve(0, clock()) is None
    assert other.quota("acme").reserve(0, clock()) is not None
    before.settle(0, 0)
    after.settle(0, 0)
    assert [other.quota("acme").reserve(0, clock()) for _ in range(2)] == [None, None]


def test_a_worker_lets_go_of_a_tenant_that_is_gone_once_its_requests_have_ended(tmp_path: Path) -> None:
    clock, table = HandClock(), SharedTable.create(1)
    worker = Worker(tmp_path, table, clock)
    gone = worker.quota("acme")
    assert gone.reserve(0, clock()) is None
    worker.reload()
    assert gone.shared is not None
    gone.settle(0, 0)
    worker.limits.tick(clock())
    worker.reload()
    assert gone.shared is None
    assert gone.reserve(0, clock()) is None
    worker.reload(acme={"concurrent": 1})
    assert worker.quota("acme").reserve(0, clock()) is None
