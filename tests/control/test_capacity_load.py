"""What a pool has to do, read off counts, queues and engines; what is not known yet is none."""

from pathlib import Path

import pytest

from gateway.policy.capacity.want import EngineLoad
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from gateway.telemetry.discovery_exposition import DiscoveryRow
from tests.control.capacity import Site, routes


def counted(site: Site, sli: Sli, good: int, bad: int = 0, *, kind: Kind = Kind.VERSION, name: str = "m/v1") -> None:
    for series in site.ledger.get(kind, name):
        if series.sli == sli:
            site.ledger.count(series, good=good, bad=bad)
    site.ledger.advance(site.clock())


def test_nothing_is_known_before_all_backends_are_probed(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    assert site.load() is None
    site.ready()
    load = site.load()
    assert load is not None
    assert (load.ready, load.starting) == (2, 0)


def test_nothing_is_known_before_its_origins_have_told(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.origins = [DiscoveryRow("dns a", ("gpu",), 0, 0, None, "no answer", 1)]
    assert site.load() is None
    site.origins = [
        DiscoveryRow("dns a", ("other",), 0, 0, None, "no answer", 1),
        DiscoveryRow("b", ("gpu",), 2, 0, 1.0, "", 0),
    ]
    assert site.load() is not None


def test_an_engine_that_answers_but_is_not_ready_is_starting_and_one_that_is_drained_is_apart(tmp_path: Path) -> None:
    site = Site(tmp_path, routes("http://a:1", "http://b:1", "http://c:1"))
    site.ready(0, 2)
    site.registry.drain("gpu/c:1", drained=True)
    load = site.load()
    assert load is not None
    assert (load.ready, load.starting, load.drained, load.replicas) == (1, 1, 1, 3)
    site.registry["gpu/c:1"].availability.leave(leaving=True)
    load = site.load()
    assert load is not None
    assert load.replicas == 2, "it goes"


def test_replicas_of_several_backends_are_ready_when_all_of_these_are(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(*(f"http://{each}:1" for each in "abcd"), backends_per_replica=2))
    site.ready(0, 1, 2)
    load = site.load()
    assert load is not None
    assert (load.ready, load.starting) == (1, 1)


def test_requests_of_the_last_minute_are_its_arrivals(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    counted(site, Sli.AVAILABILITY, 110, 10)
    load = site.load()
    assert load is not None
    assert load.arrivals == pytest.approx(2.0)
    assert (load.queued, load.queue_wait) == (0, 0.0)
    assert load.patience == pytest.approx(2.0, abs=0.5), "the TTFT target of the objective"


def test_latency_burns_and_failures_do_not(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    counted(site, Sli.AVAILABILITY, 100, 100)
    load = site.load()
    assert load is not None
    assert load.burn == 0.0
    for _ in range(60):  # a whole hour in use: what is spent is what burns
        site.clock.advance(60.0)
        counted(site, Sli.TTFT, 70, 30)
    load = site.load()
    assert load is not None
    assert load.burn == pytest.approx(30.0, rel=0.05)
    assert load.burn_now == pytest.approx(30.0, rel=0.05)
    assert load.page_factor == FASTEST.factor(28 * 86_400.0)
    assert load.budget == pytest.approx(0.01)


def test_too_few_events_burn_no_more_than_the_page_factor(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    for _ in range(60):
        site.clock.advance(60.0)
        counted(site, Sli.TTFT, 1)
    for _ in range(4):
        site.clock.advance(1.0)
        counted(site, Sli.TTFT, 0, 3)
        break
    load = site.load()
    assert load is not None
    assert load.burn is not None
    assert load.burn <= load.page_factor


def test_engines_tell_their_load_and_how_old_it_is(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    for backend in site.registry:
        backend.engine.take_load(EngineLoad(2, None, 0.5, 3), site.clock())
    load = site.load()
    assert load is not None
    assert load.engines == (EngineLoad(2, None, 0.5, 3),) * 2
    assert (load.in_flight, load.age) == (10.0, 0.0)
    site.clock.advance(100.0)
    load = site.load()
    assert load is not None
    assert (load.engines, load.age) == ((), 100.0)


def test_a_pool_that_is_second_choice_has_its_share(tmp_path: Path) -> None:
    document = routes()
    document["pools"]["cpu"] = {"backends": ["http://c:1"], "capacity": {"max": 4}}
    document["models"]["m"]["versions"]["v1"]["pools"] = ["cpu", "gpu"]
    site = Site(tmp_path, document)
    site.ready()
    counted(site, Sli.AVAILABILITY, 120)
    load = site.load()
    assert load is not None
    assert load.arrivals == 0.0, "nothing was sent there"
    counted(site, Sli.AVAILABILITY, 30, kind=Kind.POOL, name="gpu")
    counted(site, Sli.AVAILABILITY, 90, kind=Kind.POOL, name="cpu")
    load = site.load()
    assert load is not None
    assert load.arrivals == pytest.approx(0.5)


def test_what_waits_here_stands_for_what_waits_at_all_gateways(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.alive = 3
    requests = site.ledger.requests["m", "v1", "default"]
    for _ in range(120):
        site.clock.advance(1.0)
        (cell,) = [each for each in requests if each.sli is Sli.AVAILABILITY]
        requests.count({Sli.AVAILABILITY: True}, (0, 0), 1)
        counted(site, Sli.AVAILABILITY, 1)  # of another gateway
        site.load()
    assert cell.good == 120
    version = site.current.table.model("m").versions["v1"]
    scale, _ = site.reader._scale(site.current.table.model("m"), version, 120)
    assert scale == pytest.approx(2.0, rel=0.2)


def test_arrivals_of_a_gateway_alone_are_those_of_the_last_half_minute(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    requests = site.ledger.requests["m", "v1", "default"]
    for second in range(60):
        site.clock.advance(1.0)
        for _ in range(1 if second < 30 else 4):
            requests.count({Sli.AVAILABILITY: True}, (0, 0), 1)
        site.ledger.advance(site.clock())
        load = site.load()
    assert load is not None
    assert load.arrivals == pytest.approx(4.0)
    site.alive = 2
    load = site.load()
    assert load is not None
    assert load.arrivals == pytest.approx(2.5, rel=0.05), "what others count comes a little later"


def test_how_long_a_request_holds_a_slot_stays_known_while_none_comes(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    for line in site.current.table.model("m").versions["v1"].lines:
        line.forecast.held(4.0)
    load = site.load()
    assert load is not None
    assert load.holding is None
    counted(site, Sli.AVAILABILITY, 60)
    load = site.load()
    assert load is not None
    assert load.holding == pytest.approx(4.0)
    site.clock.advance(300.0)
    counted(site, Sli.TTFT, 1)
    load = site.load()
    assert load is not None
    assert load.holding == pytest.approx(4.0)
