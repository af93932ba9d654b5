import json

import pytest

from loadtest.users.streaming import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Dialect, Stream, Tokens, chat_text, usage

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'


def token(text: str = "a", finish: str = "null", key: str = "content") -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"%b":%b},"finish_reason":%b}]}\n\n' % (
        key.encode(),
        json.dumps(text).encode(),
        finish.encode(),
    )


def test_the_first_output_is_what_ttft_ends_with() -> None:
    stream = Stream(CHAT)
    for at, data in enumerate((ROLE, b": keep-alive\n\n", token(""), token("a"), token("b"))):
        stream.feed(data, float(at))
    assert (stream.first, stream.last) == (3.0, 4.0)
    assert stream.gaps == [(4.0, 1.0)]


def test_events_of_one_read_share_its_time() -> None:
    stream = Stream(CHAT)
    stream.feed(ROLE + token() + token(), 1.0)
    stream.feed(token() + token() + token(), 1.5)
    assert stream.first == 1.0
    assert stream.gaps == [(1.0, 0.0), (1.5, 0.5), (1.5, 0.0), (1.5, 0.0)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_it_does_not_matter_where_reads_end(end: bytes) -> None:
    data = (ROLE + token("a\n\nb") + token("data: [DONE]") + token("c", '"stop"') + USAGE + DONE).replace(b"\n", end)
    whole, pieces = Stream(CHAT), Stream(CHAT)
    whole.feed(data, 1.0)
    for at in range(len(data)):
        pieces.feed(data[at : at + 1], 1.0)
    assert len(whole.gaps) == 2
    assert (pieces.gaps, pieces.tokens(), pieces.whole) == (whole.gaps, whole.tokens(), True)


@pytest.mark.parametrize("key", ["content", "reasoning_content", "reasoning", "refusal"])
def test_all_that_a_model_generates_is_output(key: str) -> None:
    stream = Stream(CHAT)
    stream.feed(token("", key=key), 1.0)
    assert stream.first is None
    stream.feed(token("x", key=key), 2.0)
    assert stream.first == 2.0


def test_a_tool_call_is_output() -> None:
    stream = Stream(CHAT)
    stream.feed(b'data: {"choices":[{"delta":{"tool_calls":[]}}]}\n\n', 1.0)
    stream.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}\n\n', 2.0)
    assert stream.first == 2.0


def test_somebodys_text_is_not_mistaken_for_what_it_says() -> None:
    stream = Stream(CHAT)
    stream.feed(token('{"error": {"code": 500}} "finish_reason":"stop" "usage": {"completion_tokens": 99}'), 1.0)
    assert (stream.error, stream.whole, stream.tokens()) == (None, False, Tokens())


def test_a_stream_is_whole_with_done_or_a_finish_reason() -> None:
    for last, whole in ((DONE, True), (token("b", '"length"'), True), (token("b"), False), (USAGE, False)):
        stream = Stream(CHAT)
        stream.feed(token() + last, 1.0)
        assert stream.whole is whole


def test_an_error_event_is_kept() -> None:
    stream = Stream(CHAT)
    stream.feed(token() + b'data: {"error":{"message":"gone","code":"backend_error"}}\n\n', 1.0)
    assert stream.error is not None
    assert not stream.whole


def test_tpot_is_per_token_after_the_first() -> None:
    stream = Stream(CHAT)
    stream.feed(token(), 1.0)
    stream.feed(token(), 3.0)
    assert stream.tpot(5) == 0.5
    assert stream.tpot(1) is None


COUNTED = {
    COMPLETIONS: [
        b'data: {"choices":[{"text":""}]}\n\n',
        b'data: {"choices":[{"text":"a","finish_reason":null}]}\n\n',
        b'data: {"choices":[{"text":"b","finish_reason":"length"}],"usage":null}\n\n',
        USAGE,
        DONE,
    ],
    RESPONSES: [
        b'event: response.created\ndata: {"type":"response.created","response":{"usage":null,"error":null}}\n\n',
        b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
        b'event: x\ndata: {"type":"response.output_text.delta","delta":"b"}\n\n',
        b'event: x\ndata: {"type":"response.output_text.done","text":"ab"}\n\n',
        b'data: {"type":"response.completed","response":{"usage":{"input_tokens":7,"output_tokens":3}}}\n\n',
    ],
    MESSAGES: [
        b'event: x\ndata: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":0}}}\n\n',
        b'event: x\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n',
        b'event: x\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"b"}}\n\n',
        b'event: x\ndata: {"type":"message_delta","usage":{"output_tokens":3}}\n\n',
        b'event: x\ndata: {"type":"message_stop"}\n\n',
    ],
}


@pytest.mark.parametrize("dialect", COUNTED, ids=lambda dialect: dialect.path)
def test_each_dialect_has_its_own_output_end_and_usage(dialect: Dialect) -> None:
    stream = Stream(dialect)
    for at, data in enumerate(COUNTED[dialect]):
        assert not (stream.whole and at < 3)
        stream.feed(data, float(at))
    assert (stream.first, stream.gaps) == (1.0, [(2.0, 1.0)])
    assert (stream.whole, stream.tokens(), stream.error) == (True, Tokens(7, 3), None)


def test_what_an_assistant_said_can_be_read_back() -> None:
    assert chat_text(ROLE + token("one ") + token("two\n\n") + token("é", '"stop"') + USAGE + DONE) == "one two\n\né"


@pytest.mark.parametrize(
    ("told", "cached"),
    [
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, 4),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}}, 0),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, None),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}}, 4),
        ({"input_tokens": 9, "cache_read_input_tokens": 4}, 4),
    ],
)
def test_cached_tokens_are_those_that_the_engine_tells_of(told: dict[str, object], cached: int | None) -> None:
    assert usage({"usage": told}) == Tokens(9, 0, cached)
