"""The load of each minute is learnt, kept, and what is expected after it."""

import json
from pathlib import Path

import pytest

from gateway.control.capacity_history import KIND, SAVED, CapacityHistory, shown
from gateway.policy.capacity.want import Forecast, PoolLoad
from gateway.state.store import Document
from gateway.wire.slices import finish
from tests.control.capacity import Site, routes

BEGINS = 1_700_000_000.0 // 60 * 60


def learnt(site: Site, history: CapacityHistory, minutes: int, *, begin: float = BEGINS) -> Forecast | None:
    """Let minutes pass, each with as many requests a second as its number."""
    pool = site.current.routes.pools["gpu"]
    found = None
    for minute in range(minutes + 1):
        for second in (0.0, 30.0):
            load = PoolLoad("gpu", 2, arrivals=float(minute if second else max(0, minute - 1)))
            found = finish(history.looking(pool, load, begin + 60 * minute + second))
    return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, routes(mode="predictive"))


def test_the_first_whole_minute_is_the_first_that_counts(site: Site) -> None:
    history = CapacityHistory()
    assert learnt(site, history, 0) is None
    found = learnt(site, history, 5, begin=BEGINS + 600)
    assert found is not None
    assert found.middle == pytest.approx(3.5), "the mean of the last two minutes"
    assert found.at == BEGINS + 600 + 5 * 60 + 30 + 180, "after the warm-up"


def test_it_is_saved_now_and_then_and_goes_on_on_another_gateway(site: Site) -> None:
    history, other = CapacityHistory(), CapacityHistory()
    learnt(site, history, 30)
    (*_, document) = history.documents()
    assert history.documents() == []
    assert (document.kind, document.name) == (KIND, "gpu")
    assert len(json.loads(document.body)["rates"]) >= 20
    other.take([document, Document("capacity", "gpu", "{}")])
    pool = site.current.routes.pools["gpu"]
    found = finish(other.looking(pool, PoolLoad("gpu", 2, arrivals=1.0), BEGINS + 31 * 60))
    assert found is not None
    assert found.middle > 10.0


def test_what_is_saved_is_of_the_minutes_in_which_it_was_seen(site: Site) -> None:
    history, other = CapacityHistory(), CapacityHistory()
    learnt(site, history, 11)
    (document,) = history.documents()
    other.take([document])
    finish(other.looking(site.current.routes.pools["gpu"], PoolLoad("gpu", 2), BEGINS + 12 * 60))
    found = other.forecast("gpu")
    assert found is not None
    assert found.state()["first"] == [BEGINS / 60]
    assert found.state()["rates"] == [float(minute) for minute in range(10)]


def test_it_goes_on_after_a_clock_that_was_wrong(site: Site) -> None:
    """A gateway was started while the clock was years ahead, and again when it was right."""
    before, wrong, after = CapacityHistory(), CapacityHistory(), CapacityHistory()
    learnt(site, before, 30)
    wrong.take(before.documents())
    learnt(site, wrong, 15, begin=BEGINS + 10 * 365 * 86400)
    after.take(wrong.documents())
    found = learnt(site, after, 5, begin=BEGINS + 40 * 60)
    assert found is not None
    assert found.middle == pytest.approx(3.5), "the mean of the last two minutes"
    forecast = after.forecast("gpu")
    assert forecast is not None
    assert len(forecast.state()["rates"]) >= 20 + 10 + 5, "and nothing is lost"


def test_what_cannot_be_read_begins_anew(site: Site) -> None:
    history = CapacityHistory()
    history.take([Document(KIND, "gpu", body) for body in ("[", "[]", '{"rates": [1]}')])
    assert learnt(site, history, 2) is not None


def test_one_that_no_longer_leads_reads_what_the_other_saved(site: Site) -> None:
    history = CapacityHistory()
    learnt(site, history, 20)
    history.forget()
    assert history.forecast("gpu") is None
    history.take([Document(KIND, "gpu", "{}")])
    learnt(site, history, 0)
    assert history.forecast("gpu") is not None


def test_how_good_it_was_is_shown_once_that_is_known(site: Site) -> None:
    history = CapacityHistory()
    assert list(shown(history.forecast("gpu"))) == []
    learnt(site, history, 10)
    assert [name for name, _ in shown(history.forecast("gpu"))] == ["mase", "pinball", "pinball_naive"]


def test_a_predictive_pool_is_decided_with_what_is_expected(site: Site) -> None:
    site.ready()
    for _ in range(4):
        site.look(60.0)
    assert site.decisions.loads[0].expected is None
    assert site.decisions.loads[-1].expected is not None
    written = [each.kind for _ in range(12) for each in site.look(60.0)]
    assert KIND in written
    assert SAVED == 10
