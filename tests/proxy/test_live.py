"""Models as requests meet them: versions, their backends, and what stands in for what."""

from typing import Any

import pytest

from gateway.backends.backend import Backend
from gateway.errors import ModelNotFound
from gateway.policy.routing import readiness
from gateway.proxy.live import TrafficSplit
from tests.control.tables import models, versions
from tests.proxy.front import Front, Opened

BOTH = versions("http://127.0.0.1:8001", "http://127.0.0.1:8002", start="manual")


def split(routes: dict[str, Any], **shares: float) -> dict[str, Any]:
    """Return the routes of two versions without a rollout, with these shares."""
    model = {name: value for name, value in routes["models"]["m"].items() if name != "canary"}
    return {**routes, "models": {"m": {**model, "split": shares}}}


def goes(front: Front, port: int) -> Backend:
    """Let the backend at this port say that it is ill."""
    backend = next(each for each in front.registry if each.spec.port == port)
    for _ in range(10):
        backend.learn(readiness.probe_failed(backend.readiness, "/health answers 503"))
    return backend


def test_a_model_is_found_by_name_and_alias(opened: Opened) -> None:
    table = opened(models("http://127.0.0.1:8001", aliases=["gpt"])).current.table
    assert table.model("gpt") is table.model("m")
    with pytest.raises(ModelNotFound, match="`gtp`"):
        table.model("gtp")


def test_a_name_that_is_like_one_is_suggested_to_those_who_may_use_it(opened: Opened) -> None:
    table = opened(models("http://127.0.0.1:8001", name="llama-70b")).current.table
    with pytest.raises(ModelNotFound, match="llama-70b"):
        table.model("llama-70")
    with pytest.raises(ModelNotFound) as refused:
        table.model("llama-70", lambda _: False)
    assert "llama-70b" not in str(refused.value)


def test_a_list_of_models_has_those_that_a_tenant_may_use(opened: Opened) -> None:
    table = opened(models("http://127.0.0.1:8001", aliases=["gpt"])).current.table
    assert table.cards(lambda _: False) == {"object": "list", "data": []}
    assert len(table.cards(lambda _: True)["data"]) == 2  # type: ignore[arg-type]


def test_the_context_of_a_model_is_the_longest_of_its_backends(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001", "http://127.0.0.1:8002"))
    assert "max_model_len" not in front.current.table.card("m", lambda _: True)
    for backend, length in zip(front.registry, (4096, 8192), strict=True):
        backend.availability.list_models({"m": length})
    assert front.current.table.card("m", lambda _: True)["max_model_len"] == 8192


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


def test_a_gateway_serves_while_some_backend_is_known_to_be_ready(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001", "http://127.0.0.1:8002"))
    assert front.current.table.serving
    goes(front, 8001)
    assert front.current.table.serving
    goes(front, 8002)
    assert not front.current.table.serving


def test_queues_outlive_a_reload_while_they_are_used(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001"))
    before = front.current.table.model("m").memory.lines
    front.reload(models("http://127.0.0.1:8002"))
    after = front.current.table.model("m").memory.lines
    assert set(before.values()) == set(after.values())


def test_a_class_is_promised_its_own_objective_or_that_of_the_model(opened: Opened) -> None:
    routes = models("http://127.0.0.1:8001", objective={"default": "slow", "interactive": "fast"})
    routes["objectives"] = {
        name: {"ttft": {"under": under, "target": 99}} for name, under in (("slow", "9s"), ("fast", "1s"))
    }
    objectives = opened(routes).current.table.model("m").objectives
    assert (objectives.of("interactive").name, objectives.of("batch").name) == ("fast", "slow")
    assert [each.name for each in objectives] == ["slow", "fast"]
