"""Events that are known by what they share with those before them are what a close look finds them to be."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import Dialect
from gateway.wire.answer_progress import AnswerAborted
from gateway.wire.event_shape import EventShape
from gateway.wire.grammars import GRAMMARS
from gateway.wire.sse import Scanner
from tests.wire.test_sse import CAPTURES, STREAMS, Seen, body, chat_streams, cut, model, scan

CHAT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
VLLM_MESSAGE = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"},"index":0}\n\n'
)
MESSAGE = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"%b"}}\n\n'
TOOL = (
    b'data: {"choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"%b"}}]},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
PARTS = st.lists(
    st.sampled_from(
        [
            b'"content":"',
            b'"',
            b'""',
            b":",
            b'":"',
            b'": "',
            b"finish_reason",
            b'"finish_reason"',
            b'"finish_reason":"',
            b"stop",
            b"null",
            b"\\",
            b"\n",
            b"\r",
            b"\n\n",
            b"data: ",
            b"[DONE]",
            b'"usage":{"prompt_tokens":9}',
            b'"error":{"code":500}',
            b"x",
            b"\xff",
        ]
    ),
    max_size=5,
).map(b"".join)


def learned(event: bytes, marker: bytes) -> EventShape:
    shape = EventShape()
    shape.learn(event, marker, event.find(marker))
    return shape


def read_in_chunks(reads: list[list[bytes]], dialect: Dialect, *, strip: bool = False) -> Seen:
    """What a scanner makes of reads that each bring several chunks."""
    scanner, seen = Scanner(dialect, strip_usage=strip), Seen()
    for read in reads:
        seen.out += b"".join(scanner.feed_all(read))
        seen.content += scanner.content
    seen.out += scanner.flush()
    seen.content += scanner.content
    progress = scanner.progress
    seen.finished, seen.done, seen.error = progress.finished, progress.done, progress.error_code
    if progress.usage is not None:
        seen.prompt, seen.output = progress.usage.prompt, progress.usage.output
    return seen


def byte_by_byte(data: bytes, dialect: Dialect) -> Seen:
    return scan([data[i : i + 1] for i in range(len(data))], dialect)


def is_content(event: bytes, dialect: Dialect) -> bool:
    """Whether a stream that begins with this event has an output of one event and nothing else so far."""
    try:
        return byte_by_byte(event, dialect) == Seen(out=event, content=1)
    except AnswerAborted:
        return False


def grouped(chunks: list[bytes], points: list[int]) -> list[list[bytes]]:
    edges = sorted({0, len(chunks), *(point % (len(chunks) + 1) for point in points)})
    return [chunks[a:b] for a, b in itertools.pairwise(edges)]


KINDS = [(CHAT, Dialect.CHAT), (MESSAGE, Dialect.MESSAGES), (VLLM_MESSAGE, Dialect.MESSAGES)]


@pytest.mark.parametrize(("event", "dialect"), KINDS)
def test_the_text_of_an_event_is_all_that_may_differ(event: bytes, dialect: Dialect) -> None:
    shape = learned(event % b"one", GRAMMARS[dialect].marker.text)
    for text in (b"x", b" two", b"caf\xc3\xa9", b"\\n", b'\\"', b'a\\\\\\"b', b"finish_reason", b"[DONE]", b"a" * 128):
        assert shape.has(event % text)
    for text in (b"", b'"', b'\\\\"', b"\\", b"\\\n", b'","finish_reason":"stop', b"a\n", b"a\n\n", b"a\r", b"a" * 129):
        assert not shape.has(event % text)
    for other in (b"", event % b"x" + event % b"y", event % b"x" + b"\n", (event % b"x")[:-1], b"\n" + event % b"x"):
        assert not shape.has(other)


@pytest.mark.parametrize(
    ("event", "dialect"), [*KINDS, (TOOL, Dialect.CHAT), (TOOL.replace(b":", b": "), Dialect.CHAT)]
)
def test_a_stream_of_json_keeps_its_shape(event: bytes, dialect: Dialect) -> None:
    scanner = Scanner(dialect)
    for text in [b"x", b'{\\"', b"name", b'\\":', b"\\\\"] * 4:
        scanner.feed(event % text)
    assert [text for text in (b"x", b'{\\"', b'\\":', b"\\\\") if not scanner.knows(event % text)] == []


def test_quotes_that_make_no_strings_have_no_shape() -> None:
    marker = b'"type":"content_block_delta"'
    for event in (b'data: ":%b:":1\n\n' % marker, b'data: {%b:":":":1}\n\n' % marker, b"data: {%b:1}\n\n" % marker):
        assert not learned(event, marker).has(event)


def test_a_stream_whose_events_are_all_different_is_given_up() -> None:
    shape = EventShape()
    for at in range(20):
        event = CHAT % b"x" + b": %d" % at
        shape.learn(event, b'"content":"', event.find(b'"content":"'))
    assert not shape.has(event)


@pytest.mark.parametrize("reason", [b"stop", b"abort"])
def test_a_finish_reason_that_was_empty_before_is_no_text(reason: bytes) -> None:
    event = b'data: {"choices":[{"delta":{"function_call":{"arguments":"{"}},"finish_reason":"%b"}]}\n\n'
    scanner = Scanner(Dialect.CHAT)
    for _ in range(3):
        assert scanner.feed(event % b"") == event % b""
    if reason == b"abort":
        with pytest.raises(AnswerAborted):
            scanner.feed(event % reason)
    else:
        scanner.feed(event % reason)
        assert scanner.progress.complete


@settings(max_examples=500, deadline=None)
@given(st.tuples(PARTS, PARTS, PARTS), PARTS, PARTS, st.sampled_from([Dialect.CHAT, Dialect.MESSAGES]))
def test_what_has_the_shape_of_a_content_event_is_one(
    parts: tuple[bytes, bytes, bytes], old: bytes, new: bytes, dialect: Dialect
) -> None:
    """The scanner is fed byte by byte for comparison: then no event is known by its shape."""
    marker = GRAMMARS[dialect].marker.text
    first, last = (b"data: {" + parts[0] + marker + parts[1] + text + parts[2] + b"\n\n" for text in (old, new))
    plain = first.find(b"\n\n") == len(first) - 2 and b"\r" not in first
    if plain and is_content(first, dialect) and learned(first, marker).has(last):
        assert is_content(last, dialect)
    if b"\n" in first[:-2] + last[:-2] or b"\r" in first + last:
        return  # a block of broken events is only estimated
    stream = [CHAT % b"x", first, CHAT % b"y", CHAT % b"z", first, last, CHAT % b"y", CHAT % b"z", first]
    try:
        expected = byte_by_byte(b"".join(stream), dialect)
    except AnswerAborted:
        with pytest.raises(AnswerAborted):
            read_in_chunks([stream], dialect)
        return
    assert read_in_chunks([stream], dialect) == read_in_chunks([[each] for each in stream], dialect) == expected


@settings(max_examples=300, deadline=None)
@given(chat_streams(), *[st.lists(st.integers(0, 10_000), max_size=8)] * 2, st.booleans())
def test_any_stream_in_chunks_equals_the_model(data: bytes, points: list[int], reads: list[int], strip: bool) -> None:
    events = [event + b"\n\n" for event in data.split(b"\n\n")[:-1]] if data.find(b"\r") < 0 else [data]
    chunks = [piece for event in events for piece in cut(event, points if len(event) % 3 == 0 else [])]
    assert b"".join(chunks) == data
    expected = model(data, Dialect.CHAT, strip=strip)
    seen = read_in_chunks(grouped(chunks, reads), Dialect.CHAT, strip=strip)
    seen.out = seen.out.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert seen == expected


@pytest.mark.parametrize("name", STREAMS)
def test_a_captured_stream_in_chunks_is_what_it_is_in_one(name: str) -> None:
    assert (CAPTURES / name).is_file()
    data, dialect = body(name), STREAMS[name]
    chunks = [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]
    chunks += [data[len(b"".join(chunks)) :]] if len(b"".join(chunks)) < len(data) else []
    expected = scan([data], dialect)
    for size in (1, 2, 3, 4, 5, 7, 20, len(chunks)):
        assert read_in_chunks([chunks[i : i + size] for i in range(0, len(chunks), size)], dialect) == expected


@pytest.mark.parametrize("odd", [b": ping\n\n", CHAT % b"", b'data: {"error":{"code":500}}\n\n', CHAT % b'\\"'])
@pytest.mark.parametrize("at", range(20))
def test_one_odd_event_among_chunks_is_found(odd: bytes, at: int) -> None:
    chunks = [CHAT % b"x"] * at + [odd] + [CHAT % b"y"] * (20 - at)
    assert read_in_chunks([chunks], Dialect.CHAT) == scan([b"".join(chunks)], Dialect.CHAT)
