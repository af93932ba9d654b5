"""Clients of /v1/messages read every error in Anthropic's shape, whoever made it."""

import json

import pytest

from gateway.errors import ModelNotFound, RateLimited, Unavailable
from gateway.proxy.anthropic import body, passed_on, shaped, speaks

HEAD = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nx: y\r\n"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"])
def test_the_paths_of_messages_speak_it(path: str) -> None:
    assert speaks(path)


@pytest.mark.parametrize("path", ["/v1/messages2", "/v1/chat/completions", "/v1"])
def test_no_other_path_does(path: str) -> None:
    assert not speaks(path)
    error = ModelNotFound("no such model")
    assert body(error, path, "r1") == error.body()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_each_status_has_its_type(status: int, kind: str) -> None:
    assert shaped(status, "why", "r1") == {
        "type": "error",
        "error": {"type": kind, "message": "why"},
        "request_id": "r1",
    }


@pytest.mark.parametrize("error", [ModelNotFound("m"), RateLimited("q"), Unavailable("u")])
def test_the_gateways_own_errors_keep_their_words(error: ModelNotFound | RateLimited | Unavailable) -> None:
    shape = body(error, "/v1/messages", "r1")
    assert shape["error"]["message"] == error.message
    assert shape["request_id"] == "r1"


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (b'{"error":{"message":"too long","type":"BadRequestError"}}', "too long"),
        (b'{"object":"error","message":"too long"}', "too long"),
        (b'{"detail":"too long"}', "too long"),
        (b'{"detail":[{"msg":"x"}]}', '[{"msg":"x"}]'),
        (b'"too long"', "too long"),
        (b"too long\n", "too long"),
        (b"\xff", "�"),
        (b"", "the engine answered 400"),
        (b"{}", "the engine answered 400"),
        (b"x" * 5000, "x" * 2000),
    ],
)
def test_an_engines_refusal_is_shaped_whatever_it_says(refusal: bytes, words: str) -> None:
    head, shape = passed_on(400, HEAD, refusal, "r1")
    assert head == b"HTTP/1.1 400 Bad Request\r\nx: y\r\ncontent-type: application/json\r\n"
    assert json.loads(shape) == shaped(400, words, "r1")


def test_one_that_has_the_shape_goes_on_as_it_is() -> None:
    refusal = b'{"type":"error","error":{"type":"overloaded_error","message":"later"}}'
    assert passed_on(529, HEAD, refusal, "r1") == (HEAD, refusal)
