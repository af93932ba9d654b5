"""Pools that want replicas, on a clock that is set by hand, and with decisions that a test makes."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.control.audit import Audit
from gateway.control.capacity import CapacityController
from gateway.control.capacity_load import LoadReader
from gateway.policy.capacity.want import Decision, Memory, PoolLoad, Rail, Rule, Rules, Want
from gateway.policy.routing import readiness
from gateway.policy.slo.ledger import SloLedger
from gateway.state.store import Document
from gateway.telemetry.discovery_exposition import DiscoveryRow
from gateway.telemetry.slo_recorder import follow
from gateway.wire.slices import finish
from tests.control.tables import in_force, registered, written
from tests.waiting import HandClock


def routes(*urls: str, **capacity: Any) -> dict[str, Any]:
    """Return routes with one pool, `gpu`, that wants replicas."""
    pool = {"backends": list(urls or ("http://a:1", "http://b:1")), "cost_per_hour": 2, "capacity": {"max": 10}}
    pool["capacity"] = {"max": 10, **capacity}
    return {"pools": {"gpu": pool}, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}}


class Decisions:
    """Decides as a test says: `target` replicas, of which those above the limit await approval."""

    def __init__(self, target: int) -> None:
        self.target, self.rule, self.rails = target, Rule.LOAD, tuple[Rail, ...]()
        self.value: float | None = None
        self.smoothed = 0.0
        self.loads: list[PoolLoad] = []
        self.memories: list[Memory] = []

    def __call__(self, load: PoolLoad, rules: Rules, memory: Memory, now: float) -> Decision:
        self.loads.append(load)
        self.memories.append(memory)
        limit = rules.max if rules.approval_above is None else max(rules.approval_above, load.approved or 0)
        target, awaits = min(self.target, limit), self.target if self.target > limit else None
        want = Want(
            load.pool,
            rules.min,
            rules.max,
            target,
            "replicas",
            load.replicas,
            "as the test says",
            self.rule,
            {"arrivals": load.arrivals, "odd": float("nan")},
            now + rules.valid_for,
            float(target) if self.value is None else self.value,
            self.target,
            self.rails,
            awaits,
        )
        return Decision(
            want, replace(memory, target=target, changed_at=now, needs=((now, target),), smoothed=self.smoothed)
        )


class Site:
    """One gateway's view of its pools; `leads` and `alive` are as a test says, and what is saved lies in `saved`.

    Its time since the epoch is that of `clock` and `ahead` seconds more, which a test may set.
    """

    def __init__(self, folder: Path, table: dict[str, Any], decisions: Decisions | None = None) -> None:
        self.clock = HandClock(1_700_000_000.0)
        self.ahead = 0.0
        routes = written(folder / "routes.yaml", table)
        self.registry = registered(routes, self.clock)
        self.current = in_force(routes, self.registry, self.clock)
        self.ledger = SloLedger(self.clock())
        follow(self.ledger, routes, self.clock())
        self.origins: list[DiscoveryRow] = []
        self.leads, self.alive, self.woken = True, 1, 0
        self.waking: set[str] = set()
        self.audit = Audit(self.clock)
        self.reader = LoadReader(
            self.registry,
            self.current,
            self.ledger,
            self.clock,
            origins=lambda: self.origins,
            alive=lambda: self.alive,
        )
        self.decisions = decisions or Decisions(2)
        self.capacity = CapacityController(
            self.current,
            self.reader,
            self.audit,
            clock=self.clock,
            epoch=self.epoch,
            leads=lambda: self.leads,
            request_save=self.wake,
            waking=lambda: self.waking,
            decider=self.decisions,
        )

    def epoch(self) -> float:
        return self.clock() + self.ahead

    def wake(self) -> None:
        self.woken += 1

    def ready(self, *backends: int) -> None:
        """Let probes of these backends (all by default) pass, and those of others fail."""
        for number, backend in enumerate(self.registry):
            passes = not backends or number in backends
            backend.learn(
                readiness.probe_passed(backend.readiness)
                if passes
                else readiness.probe_failed(backend.readiness, "/health answers 503")
            )

    def load(self) -> PoolLoad | None:
        return finish(self.reader.reading([self.current.routes.pools["gpu"]]))["gpu"]

    def look(self, seconds: float = 2.0) -> list[Document]:
        """Decide once, and save; return what is written."""
        self.clock.advance(seconds)
        self.ledger.advance(self.clock())
        finish(self.capacity.deciding())
        return self.save()

    def save(self) -> list[Document]:
        documents = self.capacity.documents()
        self.capacity.saved()
        return documents

    def records(self) -> Iterable[tuple[str, str]]:
        return [(each.action, each.reason) for each in self.audit]

    @property
    def target(self) -> int | None:
        found = self.capacity.get("gpu")
        assert found is not None
        return None if found.want is None else found.want.target
