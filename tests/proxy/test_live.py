"""Models as requests meet them: by name and alias, with the objectives of their requests."""

import pytest

from gateway.backends.backend import Backend
from gateway.errors import ModelNotFound
from gateway.policy.routing import readiness
from tests.control.tables import models
from tests.proxy.front import Front, Opened


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


def test_a_class_has_its_own_objective_or_that_of_the_model(opened: Opened) -> None:
    routes = models("http://127.0.0.1:8001", objective={"default": "slow", "interactive": "fast"})
    routes["objectives"] = {
        name: {"ttft": {"under": under, "target": 99}} for name, under in (("slow", "9s"), ("fast", "1s"))
    }
    objectives = opened(routes).current.table.model("m").objectives
    assert (objectives.of("interactive").name, objectives.of("batch").name) == ("fast", "slow")
    assert [each.name for each in objectives] == ["slow", "fast"]
