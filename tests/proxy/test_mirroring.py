"""Copies of requests are weighed and thrown away, and cost no request anything."""

from typing import Any

import pytest

from gateway.exchange import Outcome
from gateway.proxy.mirroring import MOST, Discarding
from gateway.proxy.traffic_split import Mirror, TrafficSplit
from tests.control.tables import versions
from tests.proxy.front import ANSWER, Front, Opened, whole

V1, V2 = b"host: 127.0.0.1:8001", b"host: 127.0.0.1:8002"
ROUTES: dict[str, Any] = versions("http://127.0.0.1:8001", "http://127.0.0.1:8002", start="manual")


@pytest.fixture
def front(opened: Opened) -> Front:
    """Return a front whose every request to stable is copied to the candidate."""
    made = opened(ROUTES)
    model = made.current.table.model("m")
    model.traffic = model.divided([("v1", 1.0)], mirror=Mirror(model.versions["v2"], 1.0))
    return made


def test_a_copy_goes_to_the_candidate_under_an_id_of_its_own_and_its_answer_nowhere(front: Front) -> None:
    asked = front.asks("/v1/chat/completions", ("x-request-id", "r1"))
    request, copy = sorted(front.connects(), key=lambda side: V2 in side.read)
    assert b"x-request-id: r1\r\n" in request.read
    assert b"x-request-id: r1-copy\r\n" in copy.read
    front.says(whole(500, {"error": "x"}), copy)
    front.says(ANSWER, request)
    assert asked.status == 200
    assert front.mirroring.outcomes == {("m", "v2", Outcome.BACKEND_ERROR): 1}
    assert [each.version for each in front.copies] == ["v2"]
    assert [each.version for each in front.notes.settled] == ["v1"], "no other observer hears of copies"
    assert len(front.gateway.ids) == 0


def test_what_a_copy_costs_is_told_apart(front: Front) -> None:
    for backend in front.registry:
        backend.health.costs.follow(2.0, 1.0, front.loop.time())
    front.asks()
    front.passes(3.0)
    for side in front.connects():
        front.says(ANSWER, side)
    assert front.mirroring.costs == {("m", "v2", "v2"): pytest.approx(6.0)}
    assert [each.cost for asked in front.notes.settled for each in asked.attempts] == [pytest.approx(6.0)]


def test_a_copy_that_fails_is_not_tried_again(opened: Opened) -> None:
    routes = versions("http://127.0.0.1:8001", "http://127.0.0.1:8002", start="manual")
    routes["pools"]["v2"]["backends"].append("http://127.0.0.1:8003")
    front = opened(routes)
    model = front.current.table.model("m")
    model.traffic = model.divided([("v1", 1.0)], mirror=Mirror(model.versions["v2"], 1.0))
    front.asks()
    request, copy = sorted(front.connects(), key=lambda side: V1 not in side.read)
    front.says(whole(500, {"error": "x"}), copy)
    front.passes(1.0)
    assert front.connects() == [request]
    assert front.mirroring.outcomes == {("m", "v2", Outcome.BACKEND_ERROR): 1}
    assert model.memory.retries.requests == 1, "a copy is no request of the budget"
    front.says(ANSWER, request)


def test_where_there_is_little_room_no_copy_is_made(front: Front) -> None:
    backend = next(each for each in front.registry if each.spec.port == 8002)
    backend.health.slots.limit_to(0)
    front.asks()
    assert [V1 in side.read for side in front.connects()] == [True]


def test_a_request_that_clients_sent_to_a_version_is_not_copied(opened: Opened) -> None:
    routes = {**ROUTES, "models": {"m": {**ROUTES["models"]["m"], "version_header": True}}}
    front = opened(routes)
    model = front.current.table.model("m")
    model.traffic = TrafficSplit(model.traffic.split, mirror=Mirror(model.versions["v2"], 1.0))
    front.asks("/v1/chat/completions", ("x-gateway-model-version", "v1"))
    assert len(front.connects()) == 1


def test_copies_in_progress_have_a_number_and_end_with_the_gateway(front: Front) -> None:
    backend = next(each for each in front.registry if each.spec.port == 8002)
    backend.health.slots.limit_to(10 * MOST)
    for _ in range(MOST + 3):
        front.asks()
    copies = [side for side in front.connects() if V2 in side.read]
    assert len(copies) == len(list(front.mirroring.copies)) == MOST
    front.loop.do(front.mirroring.close)
    assert all(side.closed for side in copies)
    assert list(front.mirroring.copies) == []


def test_what_is_thrown_away_only_tells_that_it_is_over() -> None:
    ends = list[int]()
    client = Discarding(lambda: ends.append(1))
    client.write(b"x")
    client.reply(200, b"", b"x")
    client.reply_json(200, b"", {})
    assert ends == []
    client.finish()
    client.break_off()
    assert ends == [1, 1]
