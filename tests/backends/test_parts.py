"""The parts of a backend that are not policy: what its engine reports, and whether it is available."""

from gateway.backends.availability import Availability
from gateway.backends.engine_report import STALE_AFTER, EngineReport
from gateway.backends.exposed import EngineMetrics
from gateway.policy.routing.readiness import Readiness, connect_failed, probe_failed, probe_passed


def test_a_report_is_news_for_three_seconds() -> None:
    report = EngineReport()
    assert report.fresh(0.0) is None
    said = EngineMetrics(running=1.0, kv_usage=0.5)
    report.take(said, (), 10.0)
    assert report.fresh(10.0 + STALE_AFTER) is said
    assert report.fresh(10.1 + STALE_AFTER) is None
    assert repr(report).startswith("<EngineReport of 10.0: EngineMetrics(running=1.0")


def test_a_report_of_an_engine_that_is_read_seldom_is_news_for_longer() -> None:
    report, said = EngineReport(), EngineMetrics(running=1.0)
    report.take(said, (), 10.0, every=4.0)
    assert (report.fresh(20.0), report.fresh(20.1)) == (said, None)
    report.take(said, (), 21.0, every=1.0)
    assert report.fresh(21.1 + STALE_AFTER) is None


def test_an_engine_progresses_when_what_it_says_changes() -> None:
    report = EngineReport()
    report.take(EngineMetrics(running=1.0, generated=5.0), (), 1.0)
    report.take(EngineMetrics(running=2.0, generated=5.0), (), 2.0)
    assert report.progressed == float("-inf")
    report.take(EngineMetrics(running=2.0, generated=6.0), (), 3.0)
    assert report.progressed == 3.0


def test_a_kv_cache_below_the_longest_context_is_not_counted_in_tokens() -> None:
    report, said = EngineReport(), EngineMetrics(kv_capacity=160)
    for contexts, capacity in (((), 160), ((None, 160), 160), ((None, 161), None)):
        report.take(said, contexts, 1.0)
        assert report.metrics is not None
        assert report.metrics.kv_capacity == capacity


def test_looks_in_a_row_count_each_report_once() -> None:
    report = EngineReport()
    assert (report.look(0.0), report.queued) == (0.0, 0)
    report.take(EngineMetrics(running=3.0, waiting=2.0), (), 1.0)
    assert (report.look(1.0), report.queued) == (0.0, 1)
    assert (report.look(1.2), report.queued) == (0.0, 1), "the same report"
    report.take(EngineMetrics(running=3.0, waiting=2.0), (), 2.0)
    assert (report.look(2.0), report.queued) == (0.0, 2)
    report.take(EngineMetrics(running=3.0, waiting=0.0), (), 3.0)
    assert (report.look(3.0), report.queued) == (3.0, 0)
    assert report.look(3.2) == 0.0, "the same report"
    report.take(EngineMetrics(running=3.0, waiting=2.0), (), 4.0)
    report.look(4.0)
    assert (report.look(9.0), report.queued) == (0.0, 0), "it is stale"


def test_available_is_what_can_be_reached_is_not_drained_and_lists_the_model() -> None:
    available = Availability()
    assert available.serves("m"), "one that was not probed yet may be tried"
    assert available.context("m") is None
    assert available.learn(probe_passed(Readiness()), 1.0)
    available.list_models({"m": 4096})
    assert (available.serves("m"), available.serves("other"), available.context("m")) == (True, False, 4096)
    available.drain(drained=True)
    assert (available.serves("m"), available.may_serve("m"), repr(available)) == (
        False,
        False,
        "<Availability ready drained>",
    )
    available.drain(drained=False)
    assert available.serves("m")


def test_one_that_is_only_silent_may_serve_and_silence_begins_with_its_first_probe() -> None:
    available = Availability()
    for now in (3.0, 4.0):
        available.learn(probe_failed(available.readiness, "no answer", silent=True), now)
    assert (available.serves("m"), available.may_serve("m"), available.silent_since) == (False, True, 3.0)
    fresh = Availability()
    fresh.drain(drained=True)
    fresh.take_over(available)
    assert (fresh.may_serve("m"), fresh.silent_since, fresh.readiness) == (False, 3.0, available.readiness)
    assert not available.learn(connect_failed(available.readiness, "refused"), 5.0)
