"""Finding a backend for an attempt: ready ones first, then those that work although their probes have no answer."""

from random import Random
from typing import Any

import pytest

from gateway.backends.backend import Backend
from gateway.exchange import Exchange
from gateway.policy.routing import readiness
from gateway.policy.routing.choose import choose
from gateway.proxy.engine_request import EngineRequest
from gateway.proxy.finding import Tried, asked_next, find, first_asked, others
from gateway.proxy.routed_request import RoutedRequest
from gateway.proxy.spec import RequestSpec
from gateway.wire.endpoints import FORWARDED
from tests.control.tables import models
from tests.proxy.front import CHAT, Front, Opened
from tests.proxy.test_tenants import head


def opened_with(opened: Opened, backends: int) -> tuple[Front, list[Backend]]:
    front = opened(models(*(f"http://127.0.0.1:{8001 + number}" for number in range(backends))))
    return front, list(front.registry)


def is_silent(backend: Backend) -> None:
    """Let a backend's probes have no answer."""
    for _ in range(10):
        backend.learn(readiness.probe_failed(backend.readiness, "no answer to a probe in time", silent=True))


def is_ill(backend: Backend) -> None:
    """Let a backend say that it is ill."""
    for _ in range(10):
        backend.learn(readiness.probe_failed(backend.readiness, "/health answers 503"))


def routed(front: Front) -> RoutedRequest:
    """Return a request for the model `m`."""
    model = front.current.table.model("m")
    (version,) = model.versions.values()
    tenant, endpoint = front.current.tenants.of(head()), FORWARDED[CHAT.encode()]
    kind = model.memory.kinds.of(CHAT, tenant.service_class.name, None)
    spec = RequestSpec(endpoint, tenant, tenant.service_class, kind, stream=False, seconds=600.0, is_hurried=False)
    message = EngineRequest(spec, b"", "r1")
    return RoutedRequest(spec, model, version, version.routes[-1], message, objective=model.objectives.default)


def found(front: Front, *tried: Backend) -> tuple[Backend | Tried, Any]:
    """Return what is found, and why."""
    exchange = Exchange("r1", CHAT, 0.0)
    result = find(routed(front), exchange, tried, choose, now=front.loop.now, rng=Random(1))
    return result, exchange.routing


class TestWhoIsAsked:
    def test_ready_backends_are_asked_and_no_other(self, opened: Opened) -> None:
        _, (first, second, third) = opened_with(opened, 3)
        is_ill(third)
        assert first_asked([first, second, third], "m") == [first, second]
        assert first_asked([first, second, third], "m", [first]) == [second]

    def test_where_none_is_ready_those_are_of_which_probes_only_have_no_answer(self, opened: Opened) -> None:
        _, (first, second) = opened_with(opened, 2)
        is_silent(first)
        is_ill(second)
        assert first_asked([first, second], "m") == [first]
        assert first_asked([first, second], "m", [second]) == [], "which is no reason to try them after another"

    def test_a_model_that_a_backend_does_not_serve_is_not_asked_of_it(self, opened: Opened) -> None:
        _, (first, second) = opened_with(opened, 2)
        first.availability.list_models({"other": None})
        assert first_asked([first, second], "m") == [second]

    def test_a_drained_one_is_not_asked(self, opened: Opened) -> None:
        front, (first, second) = opened_with(opened, 2)
        front.registry.drain(first.id, drained=True)
        assert others(routed(front), ()) == [second]

    def test_where_the_ready_are_full_silent_ones_are_asked_only_if_they_work(self, opened: Opened) -> None:
        _, (first, second) = opened_with(opened, 2)
        is_silent(second)
        assert asked_next([first, second], "m", [first]) == []


class TestWhoIsFound:
    def test_the_only_backend_needs_no_reason(self, opened: Opened) -> None:
        front, (only,) = opened_with(opened, 1)
        assert found(front) == (only, "")

    def test_of_several_one_is_chosen_and_why_is_noted(self, opened: Opened) -> None:
        front, backends = opened_with(opened, 3)
        winner, routing = found(front)
        assert winner in backends
        assert str(routing)

    def test_one_that_was_tried_is_not_found_again(self, opened: Opened) -> None:
        front, (first, second) = opened_with(opened, 2)
        assert found(front, first) == (second, "the only backend left: the others were tried or are not ready")
        assert found(front, first, second)[0] is Tried.NONE

    @pytest.mark.parametrize("backends", [1, 2])
    def test_without_a_slot_it_is_full(self, opened: Opened, backends: int) -> None:
        front, every = opened_with(opened, backends)
        for backend in every:
            backend.health.slots.limit_to(0)
        assert found(front)[0] is Tried.FULL

    def test_without_a_backend_that_may_serve_there_is_none(self, opened: Opened) -> None:
        front, (only,) = opened_with(opened, 1)
        is_ill(only)
        assert found(front)[0] is Tried.NONE
