"""What the ledger says of a backend and of a pool, where requests of several objectives run there."""

from random import Random

import pytest

from gateway.backends.registry import Registry
from gateway.config.table import BackendSpec, PoolSpec, RouteTable
from gateway.control.outlier_detection import OutlierDetector, pool_burns, signal
from gateway.lateness import Lateness
from gateway.policy.routing.ejection import State, Thresholds
from gateway.policy.routing.outlier import Signal
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import Windows
from gateway.state.store import Ejection
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


def test_ejections_kept_over_a_restart_last_no_longer_than_their_pool_lets_them() -> None:
    pools = {
        name: PoolSpec(name, (BackendSpec(name, "http://a:80", "a", 80),), outlier_detection=thresholds)
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
    short, usual = (each.health.outlier.ejection for each in registry)
    assert (short.state, short.ejections, short.since) == (State.IN_SERVICE, 1, clock)
    assert (usual.state, usual.ejections) == (State.EJECTED, 2)
    assert (usual.since, usual.until) == pytest.approx((clock - 30.0, clock + 60.0))
