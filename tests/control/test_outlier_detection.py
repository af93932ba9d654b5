"""What the ledger says of a backend and of a pool, where requests of several objectives run there."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

import pytest

from gateway.backends.registry import Registry
from gateway.config.table import BackendSpec, PoolSpec, RouteTable
from gateway.control.outlier_detection import HIDDEN_BURN, OutlierDetector, pool_burns, signal
from gateway.exchange import BAD, Fault
from gateway.lateness import Lateness
from gateway.policy.routing.ejection import Cause, EjectionState, Finding, State, Thresholds
from gateway.policy.routing.outlier import Signal
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import Windows
from gateway.state.store import BackendFinding, Ejection
from gateway.wire.outbox import Outbox


def series(objective: str, target: float, good: int, bad: int, sli: Sli = Sli.AVAILABILITY) -> Series:
    windows = Windows(0.0)
    windows.good, windows.bad = good, bad
    windows.advance(0.25)
    return Series(SeriesKey(Kind.BACKEND, "p/e:1", objective, sli), Target(target, 1.0), windows)


def test_a_backend_is_as_bad_as_its_worst_series_each_held_to_its_own_target() -> None:
    calm, burning = series("offline", 0.99, 99, 1), series("interactive", 0.999, 80, 20)
    said = signal([calm, burning], gone=False)
    assert said.burn == pytest.approx(signal([burning], gone=False).burn)
    assert "20 of 100 bad" in said.failing


def test_failures_that_no_client_noticed_lower_the_share_of_a_backend_and_do_not_eject_it() -> None:
    flaky = [series("interactive", 0.999, 80, 20)]
    said = signal(flaky, gone=False, hidden=1.0)
    assert (said.burn, said.failing) == (HIDDEN_BURN, "")
    assert signal([series("interactive", 0.5, 99, 1)], gone=False, hidden=1.0).burn < 1.0
    assert "10 of 90 bad in 1 m" in signal(flaky, gone=False, hidden=0.5).failing


def test_what_is_late_counts_though_failures_are_hidden() -> None:
    slow = [series("interactive", 0.99, 50, 50, Sli.TTFT)]
    assert signal(slow, gone=False, hidden=1.0) == signal(slow, gone=False)


def test_failures_that_are_too_few_under_each_objective_say_enough_together() -> None:
    few = [series(name, target, 3, 3) for name, target in (("a", 0.999), ("b", 0.99), ("c", 0.999), ("d", 0.999))]
    assert not signal(few[:1], gone=False).failing
    assert "12 of 24 bad in 1 m" in signal(few, gone=False).failing


def test_patient_requests_that_are_late_for_nobody_do_not_hide_or_make_a_slow_backend() -> None:
    patient = series("offline", 0.95, 500, 0, Sli.E2E)
    slow = series("interactive", 0.99, 0, 50, Sli.TTFT)
    assert "50 of 50 bad" in signal([patient, slow], gone=False).slow
    assert signal([patient], gone=False).slow == ""
    assert signal([], gone=True).burn == 1.0


@pytest.mark.parametrize(("seconds", "burns"), [(5.0, True), (70.0, False), (119.0, False), (121.0, False)])
def test_what_is_long_ago_says_nothing(seconds: float, burns: bool) -> None:
    old = [series("a", 0.99, 0, 100), series("b", 0.99, 0, 100, Sli.TTFT)]
    for each in old:
        each.windows.advance(0.25 + seconds)
    said = signal(old, gone=True, progressed=5.0)
    assert said.burns is burns
    assert burns or said == Signal(gone=True, progressed=5.0)


def test_a_pool_burns_by_objective_and_says_nothing_of_one_with_too_few_events() -> None:
    burns = pool_burns(
        [
            series("offline", 0.99, 100, 0),
            series("interactive", 0.999, 80, 20),
            series("interactive", 0.99, 100, 0, Sli.TTFT),
            series("new", 0.999, 0, 9),
        ]
    )
    assert set(burns) == {"offline", "interactive"}
    assert burns["interactive"] == pytest.approx(20.5 / 0.6)  # with the prior, the worst of its SLIs
    assert burns["offline"] < 1


def test_how_many_requests_say_something_is_the_pools_to_set() -> None:
    few = [series("interactive", 0.999, 80, 20)]
    assert not signal(few, gone=False, least=101).failing
    assert signal(few, gone=False, least=100).failing
    assert set(pool_burns(few, least=100)) == {"interactive"}
    assert pool_burns(few, least=101) == {}


def two(pool: str) -> tuple[BackendSpec, ...]:
    return tuple(BackendSpec(pool, f"http://{host}:80", host, 80) for host in ("a", "b"))


def test_ejections_kept_over_a_restart_last_no_longer_than_their_pool_lets_them() -> None:
    pools = {
        name: PoolSpec(name, two(name), outlier_detection=thresholds)
        for name, thresholds in (("short", Thresholds(max_ejection_time=20.0)), ("usual", Thresholds()))
    }
    clock, epoch = 50.0, 1_700_000_050.0
    registry = Registry(Outbox(), lambda: clock, Lateness())
    registry.reconcile(RouteTable(pools=pools, models={}, names={}))
    judge = OutlierDetector(SloLedger(clock), registry, clock=lambda: clock, epoch=lambda: epoch, rng=Random(1))
    began = epoch - 30.0
    judge.restore(
        Ejection(name, at, at + 90.0, "5 failures in a row")
        for name in ("short/a:80", "usual/a:80")
        for at in (epoch - 500.0, began, epoch + 60.0)
    )
    short, usual = (registry[f"{name}/a:80"].health.outlier.ejection for name in pools)
    assert (short.state, short.ejections, short.since) == (State.IN_SERVICE, 1, clock)
    assert (usual.state, usual.ejections) == (State.EJECTED, 2)
    assert (usual.since, usual.until) == pytest.approx((clock - 30.0, clock + 60.0))


class Gateway:
    """What one gateway judges its backends by: pool p with engines a, b, c and d; its clocks are its own."""

    def __init__(self, started: float = 50.0, *, epoch: float = 1_700_000_000.0, shares_network: bool = False) -> None:
        self.now, self.epoch = started, epoch
        specs = tuple(BackendSpec("p", f"http://{host}:80", host, 80) for host in "abcd")
        self.pool = PoolSpec("p", specs)
        self.registry = Registry(Outbox(), lambda: self.now, Lateness())
        self.serve()
        self.detector = OutlierDetector(
            SloLedger(self.now),
            self.registry,
            clock=lambda: self.now,
            epoch=lambda: self.now + self.epoch,
            rng=Random(1),
            shares_network=shares_network,
        )
        self.saves = 0
        self.detector.request_save = self.save
        self.detector.detect()

    def save(self) -> None:
        self.saves += 1

    def serve(self, hosts: str = "abcd", keys: Mapping[str, str] = MappingProxyType({})) -> None:
        """Have these as backends; `keys` name the engines at some hosts, as discovery does."""
        specs = tuple(replace(each, key=keys.get(each.host, "")) for each in self.pool.backends if each.host in hosts)
        self.registry.reconcile(RouteTable(pools={"p": PoolSpec("p", specs)}, models={}, names={}))

    def fails(self, host: str, fault: Fault = Fault.ANSWER) -> None:
        health = self.registry[f"p/{host}:80"].health
        for _ in range(5):
            lease = health.lease(10, now=self.now)
            lease.release()
            health.ended(lease, BAD, self.now, Random(1), fault=fault)
        self.detector.detect()

    def told(self, findings: list[BackendFinding]) -> None:
        self.detector.found(findings)
        self.detector.detect()

    @property
    def out(self) -> str:
        return "".join(each.spec.host for each in self.registry if each.health.outlier.ejection.out)


def test_what_one_gateway_found_by_answers_is_out_at_another() -> None:
    one, other = Gateway(50.0), Gateway(9_000.0, epoch=1_699_991_050.0)
    one.fails("a")
    assert one.saves == 1, "at once, not with the next second"
    findings = one.detector.unsaved_findings()
    assert [each.backend for each in findings] == ["p/a:80"]
    assert one.detector.unsaved_findings() == []
    other.told(findings)
    assert other.out == "a"
    standing = other.registry["p/a:80"].health.outlier.ejection
    assert 30.0 * 0.9 + 5.0 <= standing.until - other.now <= 30.0 * 1.1 + 10.0
    assert other.detector.ejections["p/a:80", "p", Cause.PEER] == 1
    assert other.detector.unsaved_findings() == [], "nor is it passed on"
    assert other.detector.unsaved_ejections() == []
    assert len(one.detector.unsaved_ejections()) == 1


@pytest.mark.parametrize("shares_network", [False, True])
def test_what_a_gateway_could_not_reach_stays_its_own_over_a_restart_too(shares_network: bool) -> None:
    alone = Gateway(shares_network=shares_network)
    alone.fails("a", Fault.SILENCE)
    alone.fails("b", Fault.SILENCE)
    assert alone.out == "ab"
    assert (alone.saves, alone.detector.unsaved_findings()) == (0, [])
    assert len(alone.detector.unsaved_ejections()) == (2 if shares_network else 0)


def test_a_gateway_to_which_most_of_a_pool_fails_tells_nothing_of_it() -> None:
    one = Gateway()
    for host in "abc":
        one.registry.pools["p"].told(f"p/{host}:80", Finding(one.now + 30.0, "fails"), one.now, Random(1))
    one.fails("d")
    assert one.registry.pools["p"].panic
    assert one.detector.unsaved_findings() == []


def test_findings_of_several_gateways_leave_half_of_a_pool_in_service() -> None:
    ones, other = [Gateway(), Gateway()], Gateway()
    for one, hosts in zip(ones, ("ab", "cd"), strict=True):
        for host in hosts:
            one.fails(host)
        assert one.out == hosts
    findings = [each.detector.unsaved_findings() for each in ones]
    other.told(findings[0])
    assert other.out == "ab"
    other.told(findings[1])
    assert other.out == "ab"
    assert other.registry.pools["p"].panic, "all four fail, and that is not the doing of each"
    began = other.now + other.epoch
    other = Gateway()
    other.detector.restore(
        Ejection(f"p/{host}:80", began - 1.0, began + 30.0, "5 failures in a row") for host in "abcd"
    )
    assert other.out == "ab", "nor does one that starts take out more"
    assert [each.health.outlier.ejection.ejections for each in other.registry] == [1, 1, 1, 1]


def test_a_finding_about_a_backend_that_the_routes_do_not_name_changes_nothing() -> None:
    one, other = Gateway(), Gateway()
    one.fails("a")
    findings = one.detector.unsaved_findings()
    other.serve("bcd")
    other.told([*findings, BackendFinding("q/a:80", findings[0].finding)])
    assert other.out == ""
    other.serve()
    other.detector.detect()
    assert other.registry["p/a:80"].health.outlier.ejection == EjectionState()


def test_a_finding_about_an_engine_whose_address_another_has_now_changes_nothing() -> None:
    one, other, late = Gateway(), Gateway(), Gateway()
    for each in (other, late):
        each.serve(keys={"a": "uid-1"})
    one.fails("a")
    findings = one.detector.unsaved_findings()
    for each in (other, late):
        each.now += 10.0
    other.serve(keys={"a": "uid-2"})
    for each in (other, late):
        each.told(findings)
    assert (other.out, late.out) == ("", "a")
    later = Gateway(other.now + 2.0)
    later.fails("a")
    other.now += 2.0
    other.told(later.detector.unsaved_findings())
    assert other.out == "a", "it fails as well"


def test_a_finding_of_a_gateway_that_has_died_ends_by_itself() -> None:
    one, other = Gateway(), Gateway()
    one.fails("a")
    other.told(one.detector.unsaved_findings())
    for _ in range(2 * 110):
        other.now += 0.5
        other.detector.detect()
        assert other.out in {"a", ""}
    assert other.registry["p/a:80"].health.outlier.ejection.state is State.SLOW_START
