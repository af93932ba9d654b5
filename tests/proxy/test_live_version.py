"""A version with its backends: whether it serves, how much it takes, and the way to one backend alone."""

from gateway.claim import Claim
from gateway.policy.routing.readiness import probe_passed
from gateway.proxy.live_version import LONGEST_CONTEXT, SMALL
from tests.control.tables import models
from tests.proxy.front import Opened
from tests.proxy.test_live import goes

TWO = models("http://127.0.0.1:8001", "http://127.0.0.1:8002")


def test_the_context_of_a_model_is_the_longest_of_its_backends(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001", "http://127.0.0.1:8002"))
    assert "max_model_len" not in front.current.table.card("m", lambda _: True)
    for backend, length in zip(front.registry, (4096, 8192), strict=True):
        backend.availability.list_models({"m": length})
    assert front.current.table.card("m", lambda _: True)["max_model_len"] == 8192


def test_a_prompt_costs_no_more_than_the_context(opened: Opened) -> None:
    front = opened(TWO)
    (version,) = front.current.table.model("m").versions.values()
    assert (version.context, version.capped(10**9)) == (LONGEST_CONTEXT, LONGEST_CONTEXT)
    for backend in front.registry:
        backend.availability.list_models({"m": 1000})
    assert (version.capped(SMALL), version.capped(5000), version.capped(5000, 3)) == (SMALL, 1000, 3000)


def test_it_is_served_while_one_of_its_backends_is(opened: Opened) -> None:
    front = opened(TWO)
    (version,) = front.current.table.model("m").versions.values()
    goes(front, 8001)
    assert (version.is_served, version.is_ready, version.is_lost) == (True, True, False)
    goes(front, 8002)
    assert (version.is_served, version.is_ready, version.is_lost) == (False, False, True)


def test_one_that_is_pinned_uses_the_slots_of_one_backend_alone(opened: Opened) -> None:
    front = opened(TWO)
    (version,) = front.current.table.model("m").versions.values()
    (_, second), claim = front.registry, Claim()
    route = version.pin(claim, second)
    assert (list(route.backends), route.line) == ([second], version.routes[-1].line)
    assert claim.only is second.health


def test_the_ready_backends_of_a_route_are_looked_up_again_once_one_changes(opened: Opened) -> None:
    front = opened(TWO)
    (version,) = front.current.table.model("m").versions.values()
    (first, second), route = front.registry, version.routes[-1]
    both = route.ready("m")
    assert both == [first, second]
    first.learn(probe_passed(first.readiness))
    first.availability.list_models({"m": None})
    assert route.ready("m") == [first, second]
    both = route.ready("m")
    first.learn(probe_passed(first.readiness))
    first.availability.list_models({"m": None})
    assert route.ready("m") is both, "nothing has changed"
    front.registry.drain(first.id, drained=True)
    assert route.ready("m") == [second]
    front.registry.drain(first.id, drained=False)
    assert route.ready("m") == [first, second]
    second.availability.list_models({"other": None})
    assert (route.ready("m"), route.ready("other")) == ([first], [second])
    goes(front, 8001)
    assert route.ready("m") == []
