"""Which version requests get, and which one serves in another's stead."""

from typing import Any

from gateway.proxy.traffic_split import TrafficSplit
from tests.control.tables import versions
from tests.proxy.front import Opened
from tests.proxy.test_live import goes

BOTH = versions("http://127.0.0.1:8001", "http://127.0.0.1:8002", start="manual")


def split(routes: dict[str, Any], **shares: float) -> dict[str, Any]:
    """Return the routes of two versions without a rollout, with these shares."""
    model = {name: value for name, value in routes["models"]["m"].items() if name != "canary"}
    return {**routes, "models": {"m": {**model, "split": shares}}}


def test_a_version_whose_backends_are_gone_is_stood_in_for(opened: Opened) -> None:
    front = opened(split(BOTH, v1=90, v2=10))
    model = front.current.table.model("m")
    v1, v2 = model.versions["v1"], model.versions["v2"]
    assert model.traffic.stand_in(v1) is None
    goes(front, 8001)
    assert (model.traffic.stand_in(v1), model.traffic.stand_in(v2)) == (v2, None)
    assert model.traffic.reaches(v2)
    goes(front, 8002)
    assert model.traffic.stand_in(v1) is None, "nor can the other"


def test_one_that_fails_every_request_stands_in_only_where_nothing_is_lost(opened: Opened) -> None:
    front = opened(split(BOTH, v1=90, v2=10))
    model = front.current.table.model("m")
    v1 = model.versions["v1"]
    model.traffic = TrafficSplit(model.traffic.split, failing=model.versions["v2"])
    backend = next(each for each in front.registry if each.spec.port == 8001)
    front.registry.drain(backend.id, drained=True)
    assert model.traffic.stand_in(v1) is None
    front.registry.drain(backend.id, drained=False)
    goes(front, 8001)
    assert model.traffic.stand_in(v1) is model.traffic.failing


def test_a_version_with_the_whole_split_is_known_without_drawing(opened: Opened) -> None:
    model = opened(BOTH).current.table.model("m")
    model.traffic = model.divided([("v1", 1.0)])
    assert model.traffic.only is model.versions["v1"]
    model.traffic = model.divided([("v1", 1.0), ("v2", 1.0)])
    assert model.traffic.only is None


def test_shares_are_shown(opened: Opened) -> None:
    model = opened(split(BOTH, v1=90, v2=10)).current.table.model("m")
    assert repr(model) == "<LiveModel m, <TrafficSplit v1 90% v2 10%>>"
