"""Rollouts are decided in a turn of the loop of their own: at once, and in no callback of the data path."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.cli.demo.load import MODEL
from gateway.control.evidence import EvidenceQueue
from gateway.exchange import Exchange, Outcome
from gateway.observers import Observers
from gateway.policy.canary.rollout import Phase
from tests.attempts import attempted
from tests.control.rollouts import newcomers, rolled


def failed(version: str) -> Exchange:
    exchange = Exchange("r", "/v1/chat/completions", 1000.0)
    exchange.model, exchange.version, exchange.backend, exchange.attempts = MODEL, version, version, [attempted()]
    exchange.outcome, exchange.ended = Outcome.BACKEND_ERROR, 1000.1
    return exchange


def test_a_rollback_comes_in_the_next_turn_and_in_no_callback_of_the_data_path(tmp_path: Path) -> None:
    controller, _ = rolled(tmp_path / "routes.yaml", newcomers(), [1_000_000.0])
    running = controller.get(MODEL)
    assert running is not None
    running.rollout = replace(running.rollout, phase=Phase.STEP, share=10.0)
    soon: list[Callable[[], None]] = []
    queue = EvidenceQueue(soon.append)
    queue.feed(controller)
    observers = Observers(queue)
    for _ in range(50):
        observers.settled(failed("v2"))
        assert running.rollout.phase is Phase.STEP
        assert running.evidence.answered == 0
    assert repr(queue) == "<EvidenceQueue of 50>"
    (hand_over,) = soon
    hand_over()
    assert running.rollout.phase is Phase.ROLLED_BACK, "without a tick"
    assert controller.results[MODEL, "rolled_back"] == 1
    observers.settled(failed("v2"))
    assert len(soon) == 2


@pytest.mark.anyio
async def test_by_itself_it_waits_for_the_next_turn_of_the_loop() -> None:
    weighed: list[str] = []

    class Weighing:
        watched: ClassVar[dict[str, Any]] = {"m": None}

        def weigh_first_token(self, exchange: Exchange) -> None:
            weighed.append("first")

        def weigh_settled(self, exchange: Exchange) -> None:
            weighed.append("settled")

    queue = EvidenceQueue()
    queue.feed(Weighing())
    mine, other = Exchange("r", "/", 1.0), Exchange("r", "/", 1.0)
    mine.model = "m"
    queue.on_first_token(mine)
    queue.on_settled(mine)
    queue.on_settled(other)
    assert not weighed
    await asyncio.sleep(0)
    assert weighed == ["first", "settled"]


def test_a_request_that_cannot_be_weighed_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    weighed: list[Exchange] = []

    class Picky:
        watched: ClassVar[dict[str, Any]] = {MODEL: None}

        def weigh_first_token(self, exchange: Exchange) -> None:
            raise AssertionError

        def weigh_settled(self, exchange: Exchange) -> None:
            if not exchange.version:
                raise ValueError("of no version")
            weighed.append(exchange)

    soon: list[Callable[[], None]] = []
    queue = EvidenceQueue(soon.append)
    queue.feed(Picky())
    good: Any = failed("v1")
    queue.on_settled(failed(""))
    queue.on_settled(good)
    with caplog.at_level(logging.ERROR):
        soon.pop()()
    assert weighed == [good]
    assert "could not be weighed" in caplog.text
