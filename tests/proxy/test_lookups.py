"""Requests about a response go to the engine that keeps it."""

import pytest

from gateway.exchange import Outcome
from gateway.proxy.lookups import continued
from gateway.wire.body import read_json
from tests.control.tables import models
from tests.proxy.front import Front, Opened, whole

RESPONSES = "/v1/responses"
BOTH = models("http://127.0.0.1:8001", "http://127.0.0.1:8002")


def made(front: Front, identity: str = "resp_1") -> bytes:
    """Let a response be made, and return the head of the engine that keeps it."""
    front.asks(RESPONSES, input="hi")
    (side,) = front.busy or front.connects()
    host = side.read[side.read.rindex(b"host: ") :].partition(b"\r\n")[0]
    front.says(whole(200, {"id": identity, "object": "response", "model": "m", "status": "completed", "output": [1]}))
    return host


@pytest.mark.parametrize(
    ("path", "method", "target"),
    [
        ("/v1/responses/resp_1", "GET", b"GET /v1/responses/resp_1 "),
        ("/v1/responses/resp_1?stream=1", "GET", b"GET /v1/responses/resp_1?stream=true "),
    ],
)
def test_one_that_passed_here_is_asked_of_the_engine_that_made_it(
    opened: Opened, path: str, method: str, target: bytes
) -> None:
    front = opened(BOTH)
    host = made(front)
    asked = front.asks(path, method=method)
    (side,) = front.busy
    question = side.read[side.read.rindex(target) :]
    assert host in question
    front.says(whole(200, {"id": "resp_1"}))
    assert asked.status == 200
    assert front.notes.settled[-1].outcome is Outcome.OK


def test_one_that_continues_it_goes_there_too(opened: Opened) -> None:
    front = opened(BOTH)
    host = made(front)
    for _ in range(4):
        front.asks(RESPONSES, input="more", previous_response_id="resp_1")
    sides = front.connects()
    assert len(sides) == 4
    assert all(host in side.read for side in sides)


def test_of_one_that_is_not_known_every_engine_is_asked(opened: Opened) -> None:
    front = opened(BOTH)
    asked = front.asks("/v1/responses/resp_9", method="GET")
    first, second = front.connects()
    front.says(whole(404, {"error": "x"}), first)
    front.says(whole(200, {"id": "resp_9"}), second)
    assert asked.status == 0, "who keeps it is known; now it is asked for"
    front.connects()
    front.says(whole(200, {"id": "resp_9"}))
    assert (asked.status, asked.body) == (200, {"id": "resp_9"})


def test_one_that_no_engine_keeps_is_not_found(opened: Opened) -> None:
    front = opened(BOTH)
    asked = front.asks("/v1/responses/resp_9", method="GET")
    front.answers(whole(404, {"error": "x"}))
    assert asked.status == 404


def test_where_one_engine_says_nothing_it_may_be_there_later(opened: Opened) -> None:
    front = opened(BOTH)
    asked = front.asks("/v1/responses/resp_9", method="GET")
    first, second = front.connects()
    front.says(whole(404, {"error": "x"}), first)
    front.loop.do(second.close)
    assert asked.status == 503


@pytest.mark.parametrize(("given", "response"), [(b'"resp_1"', "resp_1"), (b"7", ""), (None, None)])
def test_what_a_request_goes_on_from_stands_in_its_body(given: bytes | None, response: str | None) -> None:
    field = b"" if given is None else b',"previous_response_id":' + given
    assert continued(read_json(b'{"model":"m"%b}' % field)) == response
