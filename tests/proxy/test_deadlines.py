"""When an attempt in progress has taken too long."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.config.table import Timeouts
from gateway.exchange import AttemptEnd, Exchange
from gateway.lateness import Lateness
from gateway.policy.admission.kinds import FEWEST_ANSWERS, Kind
from gateway.policy.routing.activity import Activity
from gateway.proxy.deadlines import SHORTEST, TIMES, overdue


class World:
    """A document that was asked for at second 1000, at a backend that last answered somebody at `worked_at`."""

    def __init__(self, *, answers: int, took: float, worked_at: float = 0.0, first_byte: float | None = None) -> None:
        kind = Kind()
        for _ in range(answers):
            kind.completed(took)
        self.order = SimpleNamespace(stream=False, timeouts=Timeouts(first_byte=first_byte), kind=kind)
        self.exchange = Exchange("id", "/v1/embeddings", 1000.0)
        self.exchange.sent = 1000.0
        activity = Activity()
        activity.worked_at = worked_at
        self.backend = SimpleNamespace(health=SimpleNamespace(activity=activity), lateness=Lateness())

    def after(self, seconds: float, *, answered: bool = False) -> tuple[AttemptEnd, str] | None:
        order, backend = cast(Any, self.order), cast(Any, self.backend)
        return overdue(order, self.exchange, backend, resumed=0.0, now=1000.0 + seconds, answered=answered)


def test_a_backend_that_answers_nobody_for_long_hangs() -> None:
    world = World(answers=FEWEST_ANSWERS, took=2.0)
    assert world.after(SHORTEST) is None
    late = world.after(SHORTEST + 1)
    assert late == (AttemptEnd.FIRST_TOKEN_TIMEOUT, "no answer to anyone for 61 s; the slowest of late took 2 s")


@pytest.mark.parametrize(
    "world",
    [
        World(answers=FEWEST_ANSWERS - 1, took=2.0),
        World(answers=FEWEST_ANSWERS, took=2.0, worked_at=1500.0),
        World(answers=FEWEST_ANSWERS, took=120.0),
    ],
    ids=["little is known yet", "the backend answers others", "such answers take long"],
)
def test_a_long_answer_alone_is_no_reason_to_give_it_up(world: World) -> None:
    assert world.after(550.0) is None


def test_an_answer_that_has_begun_is_not_late() -> None:
    assert World(answers=FEWEST_ANSWERS, took=2.0).after(500.0, answered=True) is None


def test_slow_answers_stretch_the_patience() -> None:
    world = World(answers=FEWEST_ANSWERS, took=30.0)
    assert world.after(30.0 * TIMES - 1) is None
    assert world.after(30.0 * TIMES + 1) is not None


def test_a_timeout_in_the_routes_holds_whatever_was_learnt() -> None:
    world = World(answers=0, took=0.0, worked_at=1004.0, first_byte=5.0)
    assert world.after(5.0) is None
    assert world.after(5.1) == (AttemptEnd.FIRST_TOKEN_TIMEOUT, "no answer within 5 s")
