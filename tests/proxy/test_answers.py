"""The gateway's own words."""

import json

import pytest

from gateway import errors
from gateway.errors import GatewayError, Unavailable
from gateway.exchange import AttemptEnd, Dialect
from gateway.proxy.answers import capped_retry_after, error_event, error_head, failure

NOW = 1_790_000_000.0


def leaves(kind: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


@pytest.mark.parametrize("kind", leaves())
def test_every_error_has_a_status_and_openais_shape(kind: type[GatewayError]) -> None:
    error = kind("words", param="p")
    assert 400 <= kind.status < 600
    assert error.body() == {"error": {"message": "words", "type": kind.type, "param": "p", "code": kind.code}}
    head = error_head(error, "r-1")
    assert b"x-request-id: r-1\r\n" in head
    assert (b"retry-after" in head) is issubclass(kind, Unavailable)


def test_codes_are_told_apart() -> None:
    codes = [kind.code for kind in leaves() if kind.__module__ == errors.__name__]
    assert len(set(codes)) >= len(codes) - 3  # bases share theirs with one leaf


@pytest.mark.parametrize("dialect", Dialect)
def test_an_error_event_is_one_whole_event(dialect: Dialect) -> None:
    event = error_event(errors.StreamBroken("cut\nhere"), dialect, "r-1")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    data = json.loads(event.split(b"data: ")[1])
    assert data["error"]["message"] == "cut\nhere"
    assert event.startswith(b"event: error\n") is (dialect in {Dialect.MESSAGES, Dialect.RESPONSES})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", b"7"),
        (b"99999999999999999", b"60"),
        (b"0", b"0"),
        (b"-5", None),
        (b"soon", None),
        (b"Mon, 21 Sep 2026 14:13:50 GMT", b"30"),
        (b"Mon, 21 Sep 2020 14:13:50 GMT", b"0"),
        (b"\xff", None),
    ],
)
def test_retry_after_is_made_sane(value: bytes, seconds: bytes | None) -> None:
    fields = capped_retry_after([(b"a", b"b"), (b"retry-after", value)], NOW)
    assert fields == [(b"a", b"b")] + ([(b"retry-after", seconds)] if seconds is not None else [])


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (AttemptEnd.CONNECT_FAILED, 503),
        (AttemptEnd.FIRST_TOKEN_TIMEOUT, 504),
        (AttemptEnd.DEADLINE_EXCEEDED, 504),
        (AttemptEnd.CLOSED_EARLY, 502),
    ],
)
def test_the_last_attempt_decides_the_answer(end: AttemptEnd, status: int) -> None:
    error = failure(end, "gpu/e:1", "why", 2, committed=False)
    assert error.status == status
    assert "2 attempts" in error.message
    assert "gpu/e:1: why" in error.message


def test_a_request_whose_time_was_over_before_an_attempt_is_told_of_none() -> None:
    error = failure(AttemptEnd.CLIENT_TIMEOUT, "the backend", "its time is over", 0, committed=False)
    assert error.message == "not answered in time: it has waited for a backend, and its time is over"


def test_a_client_that_is_not_told_of_backends_learns_no_address() -> None:
    error = failure(AttemptEnd.CONNECT_FAILED, "", "('10.0.0.7', 8000) refused", 1, committed=False)
    assert error.message == "no backend could be reached in 1 attempt"
