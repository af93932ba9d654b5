"""The scanner against an obvious model of it, however the bytes are cut."""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import Dialect
from gateway.wire.long_event import LONG, EventTooLarge
from gateway.wire.sse import Scanner

UNREADABLE_ERRORS = {
    "too deep": b'{"error":{"message":%b,"code":503}}' % (b"[" * 20_000 + b"]" * 20_000),
    "too deep, second": b'{"id":"x","choices":[],"n":1,"error":{"a":%b}}' % (b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "broken UTF-8": b'{"error":{"message":"\xff\xfe","code":503}}',
    "half a surrogate pair": rb'{"object":"error","message":"\ud800","error":"x"}',
    "a code of 5,000 digits": b'{"error": {"message":"x","code":%b}}' % (b"9" * 5_000),
}
"""Error objects that say so, and no more that can be read."""
CAPTURES = Path(__file__).parent.parent / "captures"
STREAMS = {
    "vllm/chat_stream_usage.txt": Dialect.CHAT,
    "vllm/chat_stream_nousage.txt": Dialect.CHAT,
    "vllm/chat_stream_continuous_usage.txt": Dialect.CHAT,
    "vllm/chat_logprobs_stream.txt": Dialect.CHAT,
    "vllm/chat_tools_named_stream.txt": Dialect.CHAT,
    "vllm/completions_stream.txt": Dialect.COMPLETIONS,
    "vllm/responses_stream.txt": Dialect.RESPONSES,
    "vllm/messages_stream.txt": Dialect.MESSAGES,
    "transformers-serve/chat_stream_usage.txt": Dialect.CHAT,
    "transformers-serve/responses_stream.txt": Dialect.RESPONSES,
    "vllm-crash/stream_enginecore_killed.txt": Dialect.CHAT,
}


def body(name: str) -> bytes:
    raw = (CAPTURES / name).read_bytes()
    return re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[1]


@dataclass
class Seen:
    """What a scanner, or the model, makes of a whole stream."""

    out: bytes = b""
    content: int = 0
    finished: int = 0
    done: bool = False
    error: int = 0
    prompt: int | None = None
    output: int | None = None


def scan(pieces: list[bytes], dialect: Dialect, *, strip: bool = False, choices: int = 1) -> Seen:
    scanner, seen = Scanner(dialect, strip_usage=strip, choices=choices), Seen()
    for piece in pieces:
        seen.out += scanner.feed(piece)
        seen.content += scanner.content
    seen.out += scanner.flush()
    seen.content += scanner.content
    seen.finished, seen.done, seen.error = scanner.progress.finished, scanner.progress.done, scanner.progress.error_code
    if scanner.progress.usage is not None:
        seen.prompt, seen.output = scanner.progress.usage.prompt, scanner.progress.usage.output
    return seen


def is_content(event: dict[str, object], dialect: Dialect) -> bool:
    """The design's words, on decoded events."""
    if dialect is Dialect.RESPONSES:
        return str(event.get("type", "")).endswith(".delta")
    if dialect is Dialect.MESSAGES:
        return event.get("type") == "content_block_delta"
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        delta = choice.get("delta", {})
        fields = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls")
        if choice.get("text") or any(delta.get(field) for field in fields):
            return True
    return False


def model(data: bytes, dialect: Dialect, *, strip: bool = False) -> Seen:
    """Every event split by the HTML standard and decoded: slow and obvious."""
    seen, at = Seen(), 0
    normal = re.sub(rb"\r\n|\r", b"\n", data)
    for match in re.finditer(rb"(?:[^\n]+\n)+\n|[^\n]+\n?", normal):
        lines = match[0].removeprefix(b"\xef\xbb\xbf").split(b"\n")
        payload = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        at = match.end()
        keep = True
        if payload == b"[DONE]":
            seen.done = True
        elif payload:
            event = json.loads(payload)
            seen.content += is_content(event, dialect)
            seen.finished += sum(bool(choice.get("finish_reason")) for choice in event.get("choices", []))
            seen.done |= event.get("type") in {"response.completed", "response.incomplete", "message_stop"}
            if isinstance(event.get("error"), dict):
                seen.error = event["error"].get("code") or 500
                seen.done = True
            usage = event.get("usage") or (event.get("response") or {}).get("usage") or {}
            usage = usage or (event.get("message") or {}).get("usage") or {}
            prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
            output = usage.get("completion_tokens", usage.get("output_tokens"))
            seen.prompt = seen.prompt if prompt is None else prompt
            seen.output = seen.output if output is None else output
            keep = not (strip and usage and event.get("choices") == [])
        if keep:
            seen.out += match[0]
        if seen.error:
            return seen  # what follows an error is no part of an answer
    assert at == len(normal)
    return seen


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_a_comment_among_the_last_events_is_no_content() -> None:
    reasoning = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"so"}}]}\n\n'
    comments = b": keep-alive\n\n: keep-alive\n\n"
    rest = b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    pieces = [reasoning, comments + rest + end]
    assert scan(pieces, Dialect.CHAT).content == model(b"".join(pieces), Dialect.CHAT, strip=False).content == 1


@pytest.mark.parametrize("name", STREAMS)
def test_a_captured_stream_passes_unchanged_and_is_understood(name: str) -> None:
    data, dialect = body(name), STREAMS[name]
    expected = model(data, dialect)
    for pieces in (
        [data],
        [data[i : i + 1] for i in range(len(data))],
        [data[i : i + 7] for i in range(0, len(data), 7)],
    ):
        seen = scan(pieces, dialect)
        assert seen.out == (expected.out if expected.error else data)
        seen.out = expected.out
        assert seen == expected


@pytest.mark.parametrize("name", [n for n in STREAMS if "kill" not in n and "tools" not in n])
def test_every_way_of_cutting_in_two_gives_the_same(name: str) -> None:
    data, dialect = body(name), STREAMS[name]
    expected = scan([data], dialect)
    for point in range(len(data)):
        assert scan([data[:point], data[point:]], dialect) == expected


TEXT = st.text(max_size=12) | st.sampled_from(
    [
        '"content":"',
        '{"content":"x"}',
        "[DONE]",
        '"error":',
        "data: [DONE]\n\n",
        "\u2028",
        "é\r\n",
        '\\"',
        '"usage":{"prompt_tokens":9}',
    ]
)


@st.composite
def chat_streams(draw: st.DrawFn) -> bytes:
    """Chat streams as engines might send them: either style of JSON, any field, pings, roles, several line ends."""
    compact = draw(st.booleans())
    separators = (",", ":") if compact else (", ", ": ")
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    events: list[str] = []

    def add(event: dict[str, object]) -> None:
        lines = json.dumps(event, separators=separators, ensure_ascii=draw(st.booleans()))
        events.append(f"data: {lines}{end}{end}")

    def choice(delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
        return {"id": "c", "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    if draw(st.booleans()):
        add(choice({"role": "assistant", "content": ""}))
    for _ in range(draw(st.integers(0, 30))):
        kind = draw(st.integers(0, 12))
        if kind == 0:
            events.append(f": keep-alive{end}{end}")
        elif kind == 1:
            add(choice({"content": ""}))
        elif kind == 2:
            add(choice({"reasoning_content": draw(TEXT)}))
        elif kind == 3:
            add(choice({"content": None, "tool_calls": [{"index": 0, "function": {"arguments": draw(TEXT)}}]}))
        else:
            add(choice({"content": draw(TEXT)}))
    if draw(st.booleans()):
        add(choice({}, "stop"))
    if draw(st.booleans()):
        add({"id": "c", "choices": [], "usage": {"prompt_tokens": 5, "total_tokens": 9, "completion_tokens": 4}})
    if draw(st.booleans()):
        events.append(f"data: [DONE]{end}{end}")
    return "".join(events).encode()


@settings(max_examples=300, deadline=None)
@given(chat_streams(), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_any_stream_cut_anywhere_equals_the_model(data: bytes, points: list[int], strip: bool) -> None:
    expected = model(data, Dialect.CHAT, strip=strip)
    seen = scan(cut(data, points), Dialect.CHAT, strip=strip)
    if not strip:
        assert seen.out == data
    assert re.sub(rb"\r\n|\r", b"\n", seen.out) == expected.out
    seen.out = expected.out
    assert seen == expected


FINGERPRINTED = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"y"},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5},"system_fingerprint":"vllm-1\\""}\n\n',
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_fingerprint_of_a_usage_chunk_that_is_taken_out_goes_to_the_chunk_before_it(end: bytes) -> None:
    """vLLM stamps the last chunk of a stream: the usage chunk where there is one, else the one that ends the output."""
    data = b"".join(FINGERPRINTED).replace(b"\n", end)
    first, last, _, done = (event.replace(b"\n", end) for event in FINGERPRINTED)
    expected = first + last.replace(b"{", b'{"system_fingerprint":"vllm-1\\"",', 1) + done
    for at in range(len(data) + 1):
        assert scan([data[:at], data[at:]], Dialect.CHAT, strip=True).out == expected
    assert scan([data[:-2]], Dialect.CHAT, strip=True).out == expected[:-2]
    assert scan(list(FINGERPRINTED), Dialect.CHAT).out == b"".join(FINGERPRINTED)


def test_the_event_that_ends_the_output_can_be_had_before_the_usage_comes() -> None:
    scanner = Scanner(Dialect.CHAT, strip_usage=True)
    assert scanner.feed(FINGERPRINTED[0]) == FINGERPRINTED[0]
    assert scanner.feed(FINGERPRINTED[1]) == b""
    assert scanner.content == 1
    assert scanner.release() == FINGERPRINTED[1]
    assert scanner.feed(FINGERPRINTED[2]) == b""
    assert scanner.feed(FINGERPRINTED[3]) == FINGERPRINTED[3]


def test_a_usage_chunk_with_another_id_is_not_the_one_that_was_asked_for() -> None:
    other = b'data: {"id":"other","choices":[],"usage":{"prompt_tokens":5}}\n\n'
    data = [FINGERPRINTED[1], other, FINGERPRINTED[3]]
    assert scan(data, Dialect.CHAT, strip=True).out == b"".join(data)


def test_a_whole_answer_without_the_end_that_its_clients_wait_for_is_given_one() -> None:
    for dialect, event in (
        (Dialect.CHAT, FINGERPRINTED[1]),
        (Dialect.COMPLETIONS, b'data: {"choices":[{"text":"x","finish_reason":"stop"}]}\n\n'),
    ):
        scanner = Scanner(dialect)
        scanner.feed(event)
        assert scanner.progress.missing_end == b"data: [DONE]\n\n"
        scanner.feed(b"data: [DONE]\n\n")
        assert scanner.progress.missing_end == b""
    assert Scanner(Dialect.RESPONSES).progress.missing_end == Scanner(Dialect.MESSAGES).progress.missing_end == b""


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'


def test_a_thousand_events_in_one_read() -> None:
    scanner = Scanner(Dialect.CHAT)
    assert scanner.feed(EVENT * 1000) == EVENT * 1000
    assert scanner.content == 1000


@pytest.mark.parametrize("odd", [b": ping\n\n", EVENT.replace(b'"x"', b'""'), b'data: {"error":{"code":500}}\n\n'])
def test_one_odd_event_in_a_burst_is_found(odd: bytes) -> None:
    data = EVENT * 50 + odd + EVENT * 50
    scanner, failed = Scanner(Dialect.CHAT), b"error" in odd
    assert scanner.feed(data) == (EVENT * 50 + odd if failed else data)
    assert scanner.content == (50 if failed else 100)
    assert (scanner.progress.error_code == 500) is failed


@pytest.mark.parametrize("end", [b"\n" * 3, b"\n" * 6, b"\r\n" * 3, b"\r" * 3])
def test_blank_lines_between_events_mean_nothing(end: bytes) -> None:
    data = b"".join(each.strip() + end for each in (EVENT, EVENT.replace(b"null", b'"stop"'))) + b"data: [DONE]\n\n"
    for points in ([], *([each] for each in range(len(data))), [*range(len(data))]):
        seen = scan(cut(data, points), Dialect.CHAT)
        assert (seen.out, seen.content, seen.finished, seen.done) == (data, 2, 1, True)


def test_what_follows_the_end_is_dropped() -> None:
    scanner = Scanner(Dialect.CHAT)
    assert scanner.feed(EVENT + b"data: [DONE]\n\n" + EVENT) == EVENT + b"data: [DONE]\n\n"
    assert scanner.progress.done
    assert scanner.surplus
    assert scanner.feed(EVENT) == b""


def test_a_done_may_follow_the_end_of_a_dialect() -> None:
    end = b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":null}}\n\n'
    scanner = Scanner(Dialect.RESPONSES)
    assert scanner.feed(end + b"data: [DONE]\n\n") == end + b"data: [DONE]\n\n"
    assert (scanner.progress.done, scanner.surplus) == (True, False)


def test_an_event_over_the_limit_is_refused_before_it_is_held() -> None:
    for most in (1000, 3 * LONG):
        scanner = Scanner(Dialect.CHAT, max_event=most)
        scanner.feed(b"data: " + b"a" * (most - 6))
        with pytest.raises(EventTooLarge, match=f"over the {most} bytes"):
            scanner.feed(b"a")
        with pytest.raises(EventTooLarge):
            Scanner(Dialect.CHAT, max_event=most).feed(b"data: " + b"a" * most + b"\n\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("off", [-3, -2, -1, 0, 1, 2, 3])
def test_a_long_event_is_gathered_and_read_at_both_ends(end: bytes, off: int) -> None:
    long = EVENT.strip()[:-1] + b',"ids":[' + b"1," * LONG + b"1]}"
    data = long + end + end + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}' + end + end
    middle = len(long) + len(end) + off
    points = [1, *range(LONG // 2, len(long) - 10, LONG // 2), middle]
    seen = scan(cut(data, points), Dialect.CHAT)
    assert seen.out == data
    assert (seen.content, seen.finished) == (1, 1)


def test_counts_in_the_middle_of_a_long_event_are_found() -> None:
    usage = b',"usage":{"prompt_tokens":7,"completion_tokens":3},"ids":['
    long = b'data: {"choices":[],"pad":"' + b"x" * LONG + b'"' + usage + b"1," * LONG + b"1]}\n\n"
    seen = scan(cut(long, list(range(LONG // 2, len(long), LONG // 2))), Dialect.CHAT)
    assert (seen.out, seen.prompt, seen.output) == (long, 7, 3)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"error":{"message":"x","code":400}}', 400),
        (b'{"error": {"message": "x", "code": 503}}', 503),
        (b'{"error":{"message":"x","code":"rate_limit"}}', 500),
        (b'{"error":{"message":"x","type":"rate_limit_error"}}', 429),
        (b'{"error":{"message":"x","type":"requests","code":"rate_limit_exceeded"}}', 429),
        (b'{"error":{"message":"x","code":"context_length_exceeded"}}', 400),
        (b'{"error":{"message":"x","type":"ServiceUnavailableError","code":null}}', 503),
        (b'{"error":{"message":"x","status":429}}', 429),
        (b'{"error":"Unauthorized"}', 401),
        (b'{"error":"Input validation error","error_type":"validation"}', 422),
        (b'{"error":"Model is overloaded","error_type":"overloaded"}', 503),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', 503),
        (b'{"type":"error","code":"rate_limit_exceeded","message":"x","param":null}', 429),
        (b'{"error":{"message":"x","code":true}}', 500),
        (b'{"error":{"message":"x","code":"503"}}', 503),
        (b'{"error":{"message":"x","type":"invalid_request_error"}}', 400),
        (b'{"error":"boom"}', 500),
        (b'{"object":"error","message":"x","code":404}', 404),
        (b'{"type":"response.failed","response":{"error":{"code":"server_error"}}}', 500),
        (b'{"type":"response.created","response":{},"error":null}', 0),
        (b'{"error" broken', 0),
        (b'{"error":[]}', 0),
        (b'{"error":["x"]}', 500),
        (b'{"error":null,"text":"\xff"}', 0),
        (b'{"id":"\xff","metadata":{"error":{"code":400}}}', 0),
        *((data, 500) for data in UNREADABLE_ERRORS.values()),
    ],
)
def test_error_events(data: bytes, code: int) -> None:
    scanner = Scanner(Dialect.RESPONSES if b"response." in data else Dialect.CHAT)
    scanner.feed(b"data: " + data + b"\n\n")
    assert scanner.progress.error_code == code


def test_a_long_error_event_is_an_error() -> None:
    scanner = Scanner(Dialect.RESPONSES)
    words = b'{"type":"response.failed","response":{"error":{"message":"%b"}}}' % (b"x" * 2 * LONG)
    scanner.feed(b"data: " + words + b"\n\n")
    assert scanner.progress.error_code == 500


def test_bom_multiline_data_and_ids() -> None:
    data = b'\xef\xbb\xbfid: 1\nevent: x\ndata: {"choices":[{"delta":\ndata: {"content":"a"}}]}\n\n'
    scanner = Scanner(Dialect.CHAT)
    assert scanner.feed(data) == data
    assert scanner.content == 1
