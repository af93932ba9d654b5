"""An error inside a 200 has the status that its engine would have given it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.error_status import begins_as_error, error_code


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"error": {"message": "x", "type": "BadRequestError", "code": 400}}, 400),
        ({"object": "error", "message": "x", "type": "NotFoundError", "code": 404}, 404),
        ({"error": {"message": "x", "code": "429"}}, 429),
        ({"error": {"message": "x", "type": "Service Unavailable Error"}}, 503),
        ({"type": "error", "error": {"type": "overloaded_error"}}, 503),
        ({"error": "Input validation error", "error_type": "validation"}, 422),
        ({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}, 429),
        ({"type": "response.failed", "response": {}}, 500),
        ({"error": {"message": "x"}}, 500),
        ({"error": {"message": "x", "code": 200}}, 500),
        ({"error": [1]}, 500),
        ({"type": "error"}, 500),
    ],
)
def test_an_error_object_of_any_engine_stands_for_a_status(event: dict[str, Any], status: int) -> None:
    assert error_code(json.dumps(event).encode()) == status


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"choices": [], "error": None},
        {"error": ""},
        {"error": {}},
        {"type": "response.completed", "response": {"error": None}},
        {"choices": [{"delta": {"content": '{"error": {"code": 500}}'}}]},
    ],
)
def test_what_is_no_error_stands_for_none(event: dict[str, Any]) -> None:
    assert error_code(json.dumps(event).encode()) == 0


@pytest.mark.parametrize("rest", [b"", b'"\xff"', b"[" * 5000, b'"message": "it bre'])
def test_an_error_that_cannot_be_read_is_500(rest: bytes) -> None:
    assert error_code(b'{"error": {"message": ' + rest) == 500
    assert error_code(b'{"object":"error","x":' + rest) == 500
    assert error_code(b'{"id": "x", "choices": ' + rest) == 0


@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "error"), st.text(max_size=5), max_size=4))
def test_an_error_is_seen_by_its_beginning_behind_anything_plain(before: dict[str, str]) -> None:
    whole = json.dumps({**before, "error": {"message": "m"}}).encode()
    assert begins_as_error(whole)
    assert begins_as_error(whole[: whole.rindex(b'"message"') + 1])


@pytest.mark.parametrize(
    "none", [b'{"error": null', b'{"error":{}', b'{"error":""', b'{"a":{"error":{"b":1', b'"error"']
)
def test_an_empty_or_a_nested_error_is_none(none: bytes) -> None:
    assert not begins_as_error(none)
