"""What a backend says of its changes, whoever finds them."""

import logging

import pytest

from gateway.backends.backend import Backend
from gateway.config.table import BackendSpec
from gateway.policy.routing.readiness import CONNECTS_TO_FALL, State, probe_passed
from tests.backends.made import live_backend


@pytest.fixture
def backend() -> Backend:
    return live_backend(BackendSpec("gpu", "http://e:1", "e", 1))


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [(each.levelname, each.getMessage(), vars(each)["reason"]) for each in caplog.records]


def test_each_change_of_readiness_is_one_line_and_what_gets_worse_a_warning(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        backend.learn(probe_passed(backend.readiness))
    for _ in range(CONNECTS_TO_FALL + 1):
        backend.connect_failed("Connection refused")
    assert told(caplog) == [
        ("INFO", "backend ready", "probes pass"),
        ("WARNING", "backend not ready", "Connection refused"),
    ]


def test_new_routes_for_a_known_engine_are_no_change(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backend.learn(probe_passed(backend.readiness))
    backend.availability.list_models({"m": None})
    fresh = live_backend(backend.spec)
    fresh.availability.drain(drained=True)
    fresh.take_over(backend)
    assert (fresh.readiness.state, fresh.models, fresh.serves("m")) == (State.READY, {"m": None}, False)
    assert len(told(caplog)) == 1
