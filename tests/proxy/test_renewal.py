"""A request that waits follows a reload to its place under the new routes, or is told that there is none."""

from typing import Any

from tests.control.tables import models
from tests.proxy.front import ANSWER, Asked, Front, Opened


def one_slot(port: int, **more: Any) -> dict[str, Any]:
    backend = {"url": f"http://127.0.0.1:{port}", "max_concurrency": 1}
    return {"models": {"m": {"backends": [backend], **more}}}


def waiting(front: Front) -> tuple[Asked, Asked]:
    """Return a request that has the only slot, and one that waits for it."""
    for backend in front.registry:
        backend.health.slots.limit_to(1)
    first, second = front.asks(), front.asks()
    assert len(front.connects()) == 1
    return first, second


def test_it_gets_a_slot_of_the_new_backend(opened: Opened) -> None:
    front = opened(one_slot(8001))
    _, second = waiting(front)
    front.reload(one_slot(8002))
    sides = front.connects()
    assert b"host: 127.0.0.1:8002" in sides[-1].read
    front.says(ANSWER, sides[-1])
    assert second.status == 200


def test_it_is_written_anew_for_the_new_version(opened: Opened) -> None:
    front = opened(one_slot(8001, served_model="old"))
    waiting(front)
    front.reload(one_slot(8002, served_model="new"))
    assert b'"model": "new"' in front.connects()[-1].read


def test_one_whose_model_is_gone_is_told_so(opened: Opened) -> None:
    front = opened(one_slot(8001))
    _, second = waiting(front)
    front.reload(models("http://127.0.0.1:8002", name="other"))
    assert second.status == 404


def test_it_keeps_its_place_where_nothing_changes(opened: Opened) -> None:
    front = opened(one_slot(8001))
    first, second = waiting(front)
    third = front.asks()
    front.reload(one_slot(8001))
    for backend in front.registry:
        backend.health.slots.limit_to(1)
    front.answers()
    front.answers()
    assert (first.status, second.status, third.status) == (200, 200, 0)
