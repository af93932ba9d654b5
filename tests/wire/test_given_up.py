"""Messages and responses that an engine gave up, told from whole ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Dialect
from gateway.wire.answer_progress import AnswerAborted
from gateway.wire.given_up import document_given_up, event_given_up
from gateway.wire.sse import Scanner

CAPTURES = Path(__file__).parents[1] / "captures"
NO_TOKEN = {"input_tokens": 10, "output_tokens": 0}
MESSAGE = {"type": "message", "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 10}}
RESPONSE = {"object": "response", "output": [{"type": "message"}], "usage": {"input_tokens": 10, "output_tokens": 3}}


def body(name: str) -> bytes:
    return (CAPTURES / name).read_bytes().partition(b"\r\n\r\n")[2]


def document(dialect: Dialect, said: dict[str, Any]) -> bool:
    return document_given_up(dialect, json.dumps(said).encode())


def event(dialect: Dialect, said: dict[str, Any], *, begun: bool = True) -> bool:
    return event_given_up(dialect, json.dumps(said).encode(), begun=begun)


@pytest.mark.parametrize("name", ["messages_stream_sigterm", "messages_stream_sigterm_waiting"])
def test_a_message_that_a_vllm_gave_up_is_told_however_its_stream_is_split(name: str) -> None:
    stream = body(f"vllm-crash/{name}.txt")
    for at in range(1, len(stream), 7):
        scanner = Scanner(Dialect.MESSAGES)
        with pytest.raises(AnswerAborted):
            scanner.feed(stream[:at]), scanner.feed(stream[at:])


def test_a_response_that_a_vllm_had_not_begun_is_told() -> None:
    stream = body("vllm-crash/responses_stream_sigterm_waiting.txt")
    for at in range(1, len(stream), 7):
        scanner = Scanner(Dialect.RESPONSES)
        with pytest.raises(AnswerAborted):
            scanner.feed(stream[:at]), scanner.feed(stream[at:])


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (Dialect.MESSAGES, "vllm/messages_stream.txt"),
        (Dialect.RESPONSES, "vllm/responses_stream.txt"),
        (Dialect.RESPONSES, "transformers-serve/responses_stream.txt"),
        (Dialect.RESPONSES, "vllm-crash/responses_stream_sigterm.txt"),  # by all that it says of itself
    ],
)
def test_whole_streams_stay_whole(dialect: Dialect, name: str) -> None:
    scanner = Scanner(dialect)
    assert scanner.feed(body(name)) == body(name)
    assert scanner.progress.complete


def test_a_stored_response_is_played_back_however_it_ended() -> None:
    stream = body("vllm-crash/responses_stream_sigterm_waiting.txt")
    scanner = Scanner(Dialect.RESPONSES, stored=True)
    assert scanner.feed(stream) == stream
    assert scanner.progress.complete


class TestMessages:
    def test_without_a_stop_reason_a_message_was_given_up(self) -> None:
        assert document_given_up(Dialect.MESSAGES, body("vllm-crash/messages_sigterm.txt"))
        assert document(Dialect.MESSAGES, MESSAGE)
        assert document(Dialect.MESSAGES, {**MESSAGE, "stop_reason": None})

    @pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "tool_use", "refusal", "a later one"])
    def test_with_any_it_is_whole(self, reason: str) -> None:
        assert not document(Dialect.MESSAGES, {**MESSAGE, "stop_reason": reason})
        assert not event(Dialect.MESSAGES, {"type": "message_delta", "delta": {"stop_reason": reason}})

    def test_an_event_with_counts_alone_says_nothing(self) -> None:
        assert not event(Dialect.MESSAGES, {"type": "message_delta", "delta": {}, "usage": NO_TOKEN})

    def test_counts_that_contradict_what_has_come_are_not_believed(self) -> None:
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": NO_TOKEN}
        assert not event(Dialect.MESSAGES, ended, begun=True)
        assert event(Dialect.MESSAGES, ended, begun=False)

    def test_an_engine_that_counts_nothing_at_all_is_not_blamed(self) -> None:
        uncounted = {"input_tokens": 0, "output_tokens": 0}
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": uncounted}
        assert not event(Dialect.MESSAGES, ended, begun=False)

    @pytest.mark.parametrize("said", [{"type": "error", "error": {}}, {"input_tokens": 10}, {}])
    def test_what_is_no_message_is_not_judged(self, said: dict[str, Any]) -> None:
        assert not document(Dialect.MESSAGES, said)

    @pytest.mark.parametrize("said", [b"", b"no JSON", b"[]", b'{"type":"message"', b'{"type":"message"}\xff'])
    def test_nor_what_cannot_be_read(self, said: bytes) -> None:
        assert not document_given_up(Dialect.MESSAGES, said)


class TestResponses:
    def test_one_that_the_engine_cancelled_was_given_up(self) -> None:
        cancelled = {**RESPONSE, "status": "cancelled"}
        assert document(Dialect.RESPONSES, cancelled)
        assert event(Dialect.RESPONSES, {"type": "response.completed", "response": cancelled})

    def test_so_was_one_without_a_token(self) -> None:
        assert document_given_up(Dialect.RESPONSES, body("vllm-crash/responses_sigterm.txt"))
        for status in ("completed", "incomplete"):
            assert document(Dialect.RESPONSES, {"status": status, "output": [], "usage": NO_TOKEN})

    @pytest.mark.parametrize("status", ["completed", "incomplete", "queued", "in_progress"])
    def test_any_other_is_whole(self, status: str) -> None:
        assert not document(Dialect.RESPONSES, {**RESPONSE, "status": status})

    def test_one_that_has_only_begun_has_no_token_yet(self) -> None:
        assert not document(Dialect.RESPONSES, {"status": "queued", "output": [], "usage": NO_TOKEN})

    def test_what_a_client_wrote_into_its_request_says_nothing(self) -> None:
        echoed = {**RESPONSE, "status": "completed", "metadata": {"status": "cancelled"}}
        assert not document(Dialect.RESPONSES, echoed)
        assert not event(Dialect.RESPONSES, {"type": "response.completed", "response": echoed})

    def test_an_item_that_was_cancelled_is_not_the_response(self) -> None:
        done = {"type": "response.output_item.done", "item": {"status": "cancelled"}}
        assert not event(Dialect.RESPONSES, done)
