"""Queues are looked at for objectives of throughput alone, and processes judge by what all of them did."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.config.load import load_routes
from gateway.control import throughput
from gateway.control.throughput import WAITING, ThroughputController
from gateway.exchange import Exchange, Outcome
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import THROUGHPUT
from gateway.policy.slo.series import Kind, SeriesKey, SlotCounts
from gateway.policy.slo.windows import FINE
from gateway.state.fleet_counts import FleetCounts
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch
from gateway.telemetry.slo_recorder import follow
from gateway.telemetry.throughput_recorder import ThroughputRecorder
from tests.attempts import attempted
from tests.waiting import HandClock

EPOCH = 1_700_000_000.0
"""By how much the clock of all processes is ahead of each one's own."""
ROUTES = """
objectives:
  chat: {}
  offline: {throughput: {target: 95, tokens_per_second: 100}}
models:
  m: {backends: ['http://a:1'], objective: {default: chat, batch: offline}, timeouts: {total: 1m}}
  other: {backends: ['http://b:1'], objective: chat}
"""


class Site:
    """A controller whose queue holds so many requests by class, on a clock that is set by hand.

    It is one of `alive` processes.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "routes.yaml"
        self.path.write_text(ROUTES)
        self.clock, self.alive, self.leads, self.waiting = HandClock(1000.0), 1, True, Counter[str]()
        self.routes = load_routes(self.path)
        self.ledger, self.recorder = SloLedger(self.clock() + EPOCH), ThroughputRecorder(EPOCH)
        follow(self.ledger, self.routes, self.clock() + EPOCH)
        self.current: Any = SimpleNamespace(routes=self.routes, table=SimpleNamespace(model=lambda name: name))
        monkeypatch.setattr(throughput, "queued", lambda models: [SimpleNamespace(waiting=self.waiting)] * len(models))
        self.controller = ThroughputController(
            cast(Any, self.current),
            self.ledger,
            self.recorder,
            clock=self.clock,
            alive=lambda: self.alive,
            leads=lambda: self.leads,
        )

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.controller.look()

    def answered(self, seconds: float, tokens: int) -> None:
        exchange = Exchange("r1", "/v1/completions", self.clock() - seconds)
        exchange.model, exchange.objective, exchange.outcome = "m", "offline", Outcome.OK
        exchange.attempts.append(attempted(self.clock() - seconds, self.clock()))
        exchange.ended, exchange.output_tokens = self.clock(), tokens
        self.recorder.on_settled(exchange)

    def counted(self) -> tuple[int, int]:
        self.ledger.advance(self.clock() + EPOCH)
        (series,) = [each for each in self.ledger.get(Kind.MODEL, "m") if each.sli == THROUGHPUT]
        counts = series.windows.count(series.windows.slo)
        return counts.good, counts.bad


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_slots_in_which_its_class_waited_are_judged_by_what_was_answered(site: Site) -> None:
    site.waiting["batch"] = 5
    site.live(30)
    site.answered(20.0, 2_000)
    site.live(80)
    good, bad = site.counted()
    assert good == 2
    assert bad >= 1


def test_other_classes_waiting_are_no_demand_for_it(site: Site) -> None:
    site.waiting["standard"] = 50
    site.live(200)
    assert site.counted() == (0, 0)


def test_beside_others_that_tell_nothing_nothing_is_judged(site: Site) -> None:
    site.waiting["batch"], site.alive = 5, 2
    site.live(200)
    assert site.counted() == (0, 0)


def test_two_processes_judge_what_both_did_and_the_one_that_leads_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, two = sites = [Site(folder, monkeypatch) for folder in folders]
    two.leads = False
    stores = [SqliteStore(tmp_path / "state.sqlite") for _ in sites]
    shared = [FleetCounts(store) for store in stores]
    for site in sites:
        site.alive, site.waiting["batch"] = 2, 1
    for second in range(150):
        for site, counts in zip(sites, shared, strict=True):
            if second < 40:
                site.answered(1.0, 60)  # of 100 tokens/s
            site.live(1)
            merged = counts.save(Batch(site.clock() + EPOCH, tuple(site.controller.unsaved())))
            for _ in site.controller.merging(merged.changes):
                pass
        if second == 60:
            one.waiting["batch"] = two.waiting["batch"] = 0
    assert one.counted() == (4, 2), "120 tokens/s for 40 s, then none"
    assert two.counted() == (0, 0)
    for store in stores:
        store.close()


def test_what_others_count_besides_goes_on_to_the_ledger(site: Site) -> None:
    site.live(1)
    key = SeriesKey(Kind.MODEL, "m", "offline", THROUGHPUT)
    slot = int((site.clock() + EPOCH) // FINE)
    unknown = key._replace(name="gone", sli=WAITING)
    changes = [SlotCounts(each, FINE, slot, 3, 1, slot * FINE, slot * FINE) for each in (key, unknown)]
    for _ in site.controller.merging(changes):
        pass
    assert site.counted() == (3, 1)


def test_a_reload_keeps_what_is_measured_and_drops_what_is_no_longer_named(site: Site) -> None:
    site.live(1)
    (before,) = site.recorder.meters.values()
    site.current.routes = load_routes(site.path)
    site.live(1)
    assert list(site.recorder.meters.values()) == [before]
    for now, other in (("tokens_per_second: 100", "tokens_per_second: 200"), ("total: 1m", "total: 30s")):
        site.path.write_text(ROUTES.replace(now, other))
        site.current.routes = load_routes(site.path)
        site.live(1)
        (after,) = site.recorder.meters.values()
        assert after is not before
        before = after
    site.path.write_text(ROUTES.replace("{throughput: {target: 95, tokens_per_second: 100}}", "{}"))
    site.current.routes = load_routes(site.path)
    site.live(1)
    assert site.recorder.meters == {}
    site.answered(1.0, 10)
