"""One try at one backend: it ends once, gives its slot back, and says whom the end blames."""

import pytest

from gateway.exchange import AttemptEnd, Outcome
from tests.control.tables import models
from tests.proxy.front import ANSWER, Front, Opened, whole


@pytest.fixture
def front(opened: Opened) -> Front:
    """Return a front with one engine, so that nothing is tried elsewhere."""
    return opened(models("http://127.0.0.1:8001"))


def ended(front: Front) -> tuple[AttemptEnd, Outcome]:
    """Return how the only attempt and its request ended, after everything was given back."""
    (end,), (exchange,), (backend,) = front.notes.ends, front.notes.settled, front.registry
    (record,) = exchange.attempts
    assert record.result is end
    assert record.sent_at <= (record.connected_at or record.sent_at) <= record.ended_at
    assert backend.in_flight == 0
    return end, exchange.outcome


@pytest.mark.parametrize(
    ("answer", "end", "outcome", "status"),
    [
        (ANSWER, AttemptEnd.OK, Outcome.OK, 200),
        (whole(400, {"error": "x"}), AttemptEnd.CLIENT_ERROR, Outcome.CLIENT_ERROR, 400),
        (whole(401, {"error": "x"}), AttemptEnd.UNAUTHORIZED, Outcome.BACKEND_ERROR, 502),
        (whole(500, {"error": "x"}), AttemptEnd.SERVER_ERROR, Outcome.BACKEND_ERROR, 500),
        (whole(200, {"error": {"code": 400}}), AttemptEnd.CLIENT_ERROR, Outcome.CLIENT_ERROR, 400),
        (whole(200, {}, "content-encoding: gzip"), AttemptEnd.MALFORMED, Outcome.BACKEND_ERROR, 502),
        (b"SSH-2.0\r\n\r\n", AttemptEnd.MALFORMED, Outcome.BACKEND_ERROR, 502),
    ],
)
def test_the_head_of_an_answer_says_how_it_ends(
    front: Front, answer: bytes, end: AttemptEnd, outcome: Outcome, status: int
) -> None:
    asked = front.asks()
    front.answers(answer)
    assert ended(front) == (end, outcome)
    assert asked.status == status


def test_a_connection_that_cannot_be_made_blames_the_backend(front: Front) -> None:
    asked = front.asks()
    front.connects(ConnectionRefusedError(111, "refused"))
    assert ended(front) == (AttemptEnd.CONNECT_FAILED, Outcome.NO_BACKEND)
    assert asked.status == 503


def test_one_that_closes_before_the_head_does_too(front: Front) -> None:
    front.asks()
    (side,) = front.connects()
    front.loop.do(side.close)
    assert ended(front) == (AttemptEnd.CLOSED_EARLY, Outcome.BACKEND_ERROR)


def test_a_client_that_leaves_blames_nobody_and_closes_the_engines_connection(front: Front) -> None:
    asked = front.asks()
    (side,) = front.connects()
    asked.does("client_gone")
    assert ended(front) == (AttemptEnd.CLIENT_GONE, Outcome.CLIENT_GONE)
    assert side.closed


def test_a_connection_is_used_again(front: Front) -> None:
    for _ in range(3):
        front.asks()
        front.answers()
    assert front.notes.ends == [AttemptEnd.OK] * 3
    assert len(front.loop.connections) == 1


def test_one_that_the_engine_had_closed_costs_a_second_attempt_at_the_same_engine(front: Front) -> None:
    front.asks()
    front.answers()
    front.loop.now += 3.0
    asked = front.asks()
    (side,) = front.busy
    front.loop.do(side.close)
    front.answers()
    assert asked.status == 200
    assert front.notes.ends[1:] == [AttemptEnd.STALE, AttemptEnd.OK]
