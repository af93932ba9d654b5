"""What follows a failed attempt: another one elsewhere, a place in the queue, or the end."""

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.proxy.retrying import Failures, blamed
from tests.control.tables import models
from tests.proxy.front import ANSWER, Opened, whole

BUSY = whole(503, {"error": "busy"})
BROKEN = whole(500, {"error": "broken"})
BOTH = models("http://127.0.0.1:8001", "http://127.0.0.1:8002")
PAUSE = 1.0
"""More seconds than there are before another try."""


@pytest.mark.parametrize("failure", [BUSY, BROKEN, b"nonsense\r\n\r\n"])
def test_a_failure_of_the_backend_is_tried_elsewhere_and_the_client_sees_none_of_it(
    opened: Opened, failure: bytes
) -> None:
    front = opened(BOTH)
    asked = front.asks()
    (first,) = front.connects()
    front.says(failure, first)
    front.passes(PAUSE)
    (second,) = front.connects()
    assert b"host: " + second.read.split(b"host: ")[1][:14] not in first.read, "it is the other one"
    front.says(ANSWER, second)
    assert asked.status == 200
    (exchange,) = front.notes.settled
    assert (exchange.outcome, len(exchange.attempts)) == (Outcome.OK, 2)


@pytest.mark.parametrize(
    ("failure", "seconds", "hidden"),
    [(BROKEN, 0.0, 1.0), (BROKEN, 1.5, 0.0), (whole(429, {"error": "busy"}), 0.0, 0.0)],
    ids=["at once", "after more than half of what a first token may take", "only busy"],
)
def test_a_failure_that_no_client_notices_is_known_to_be_hidden(
    opened: Opened, failure: bytes, seconds: float, hidden: float
) -> None:
    front = opened(BOTH)
    front.asks()
    (first,) = front.connects()
    front.passes(seconds)
    front.says(failure, first)
    front.passes(PAUSE)
    front.answers(ANSWER)
    assert sum(backend.health.symptoms.residual.hidden for backend in front.registry) == pytest.approx(hidden, rel=0.2)


def test_the_last_failure_is_not_hidden(opened: Opened) -> None:
    front = opened(BOTH)
    front.asks()
    for _ in range(2):
        front.answers(BROKEN)
        front.passes(PAUSE)
    assert sum(backend.health.symptoms.residual.hidden for backend in front.registry) == pytest.approx(1.0, rel=0.2)


def test_a_clients_own_error_is_not_tried_again(opened: Opened) -> None:
    front = opened(BOTH)
    asked = front.asks()
    front.answers(whole(400, {"error": "no"}))
    front.passes(PAUSE)
    assert (asked.status, front.connects()) == (400, [])


def test_when_every_backend_has_failed_the_engines_own_words_are_told(opened: Opened) -> None:
    front = opened(BOTH)
    asked = front.asks()
    for _ in range(2):
        front.answers(whole(500, {"error": {"message": "out of memory"}}))
        front.passes(PAUSE)
    assert asked.status == 500
    assert asked.body["error"]["message"] == "out of memory"
    assert front.notes.ends == [AttemptEnd.SERVER_ERROR] * 2


def test_one_whose_answer_has_begun_is_not_tried_again(opened: Opened) -> None:
    front = opened(BOTH)
    asked = front.asks(stream=True)
    (side,) = front.connects()
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    front.says(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n"
        % (len(event), event)
    )
    front.loop.do(side.close)
    front.passes(PAUSE)
    assert front.connects() == []
    assert asked.page.ended == "broken off"
    (exchange,) = front.notes.settled
    assert exchange.outcome is Outcome.TRUNCATED


def test_the_refusal_of_the_only_engine_goes_on_and_says_when_to_ask_again(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001"))
    asked = front.asks()
    front.answers(BUSY)
    assert asked.status == 503
    assert b"\r\nretry-after: " in asked.page.out


@pytest.mark.parametrize(
    ("before", "committed", "told"),
    [
        (AttemptEnd.SERVER_ERROR, False, AttemptEnd.SERVER_ERROR),
        (AttemptEnd.SERVER_ERROR, True, AttemptEnd.CLIENT_TIMEOUT),
        (AttemptEnd.CLIENT_ERROR, False, AttemptEnd.CLIENT_TIMEOUT),
        (None, False, AttemptEnd.CLIENT_TIMEOUT),
    ],
)
def test_a_client_whose_time_is_over_is_told_of_the_failure_that_took_it(
    before: AttemptEnd | None, committed: bool, told: AttemptEnd
) -> None:
    failure = None if before is None else (before, "before", None)
    assert blamed(failure, (AttemptEnd.CLIENT_TIMEOUT, "time", None), committed=committed)[0] is told


def test_any_other_end_is_its_own_reason() -> None:
    last = (AttemptEnd.SERVER_ERROR, "last", None)
    assert blamed((AttemptEnd.STALLED, "before", None), last, committed=False) == last


def test_once_an_answer_has_begun_failures_are_forgotten_but_how_often_engines_were_too_busy() -> None:
    failures = Failures()
    last = AttemptEnd.SATURATED, "status 503", None
    assert failures.note(last, (503, b"", b"busy"), committed=False) == last
    failures.refusals.refused("gpu/a", None, alone=False)
    failures.forget()
    assert (failures.tried, failures.last, failures.refusal) == ([], None, None)
    assert failures.refusals.count == 1
