"""A request's place in the queue: it waits for a slot for as long as it has patience, and leaves nothing behind."""

from typing import Any

from gateway.exchange import Outcome
from tests.proxy.front import ANSWER, Asked, Front, Opened, whole

ROUTES: dict[str, Any] = {"models": {"m": {"backends": [{"url": "http://127.0.0.1:8001", "max_concurrency": 1}]}}}


def queued(opened: Opened, number: int) -> tuple[Front, list[Asked]]:
    """Return a front whose only slot is taken by the first of some requests; the others wait."""
    front = opened(ROUTES)
    (backend,) = front.registry
    backend.health.slots.limit_to(1)
    asked = [front.asks() for _ in range(number)]
    front.connects()
    assert waiting(front) == number - 1
    return front, asked


def waiting(front: Front) -> int:
    return sum(len(line.queue) for model in front.current.table for line in model.memory.lines.values())


def test_each_gets_the_slot_in_turn(opened: Opened) -> None:
    front, asked = queued(opened, 3)
    for number in range(3):
        front.answers()
        assert [each.status for each in asked] == [200] * (number + 1) + [0] * (2 - number)
    assert waiting(front) == 0


def test_how_long_it_waited_is_noted(opened: Opened) -> None:
    front, _ = queued(opened, 2)
    front.passes(3.0)
    front.answers()
    front.answers()
    assert [each.queued for each in front.notes.settled] == [0.0, 3.0]


def test_when_its_patience_is_over_it_is_turned_away(opened: Opened) -> None:
    front, (_, second) = queued(opened, 2)
    front.passes(9.0, second)
    assert second.status == 0
    front.passes(2.0, second)
    assert second.status == 503
    assert b"\r\nretry-after: " in second.page.out
    assert [each.outcome for each in front.notes.settled] == [Outcome.SHED]
    assert waiting(front) == 0


def test_a_client_that_leaves_gives_its_place_up(opened: Opened) -> None:
    front, (_, second, third) = queued(opened, 3)
    second.does("client_gone")
    assert waiting(front) == 1
    front.answers()
    front.answers()
    assert (second.status, third.status) == (0, 200)


def test_an_engine_that_was_too_busy_after_all_sends_it_back_to_its_place(opened: Opened) -> None:
    front, (first, second, third) = queued(opened, 3)
    front.answers()
    front.answers(whole(429, {"error": "busy"}))
    for _ in range(20):
        front.passes(0.5)
        front.answers(ANSWER)
    assert first.status == 200
    assert {second.status, third.status} <= {200, 429}
    assert waiting(front) == 0
    assert len(front.notes.settled) == 3
