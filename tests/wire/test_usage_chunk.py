"""The chunk that only the gateway asked for is told from another stream's, and what it tells of the engine stays."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.usage_chunk import UsageChunk, has_no_choices

LAST = b'{"id":"a","choices":[{"delta":{},"finish_reason":"stop"}]}'
USAGE = b'{"id":"a","choices":[],"usage":{"prompt_tokens":1},"system_fingerprint":"fp \\"1\\""}'


@pytest.mark.parametrize(
    ("data", "nothing_else"),
    [(USAGE, True), (b'{"choices" : [ ]}', True), (LAST, False), (b'{"usage":{"prompt_tokens":1}}', False)],
)
def test_it_has_token_counts_and_no_choices(data: bytes, nothing_else: bool) -> None:
    assert has_no_choices(data) is nothing_else


@pytest.mark.parametrize(
    ("id_of_the_stream", "it_is"),
    [(b'"id":"a",', True), (b'"id" : "a",', True), (b'"id":"b",', False), (b"", True)],
)
def test_it_has_the_id_of_the_stream_if_either_has_one(id_of_the_stream: bytes, it_is: bool) -> None:
    chunk = UsageChunk()
    chunk.follows(LAST.replace(b'"id":"a",', id_of_the_stream))
    assert chunk.recognises(USAGE) is it_is


IDS = st.sampled_from([b"a", b"b", b"a,b", b"a,c", b"", b'a\\"b', b'a\\"c', b"ab"])
FORMS = st.sampled_from([b'{"id":"%b","n":1}', b'{"id":"%b"}', b'{"id": "%b","n":1}', b'{"n":1,"id":"%b"}'])


@given(FORMS, FORMS, IDS, IDS)
def test_two_ids_that_differ_are_of_two_streams(form: bytes, other: bytes, mine: bytes, its: bytes) -> None:
    chunk, event, data = UsageChunk(), b"data: " + form % mine + b"\n\n", other % its
    chunk.follows(event)
    ids = [re.search(rb'"id"\s*:\s*"([^"]*)"', each) for each in (event, data)]
    differ = ids[0] is not None and ids[1] is not None and ids[0][1] != ids[1][1]
    assert chunk.recognises(data) is not differ


def test_its_fingerprint_goes_into_the_last_chunk() -> None:
    chunk = UsageChunk()
    assert chunk.stamp(LAST) == LAST
    chunk.follows(LAST)
    chunk.recognises(USAGE)
    assert chunk.stamp(LAST) == b'{"system_fingerprint":"fp \\"1\\"",' + LAST[1:]
    assert chunk.stamp(b'{"system_fingerprint":"mine"}') == b'{"system_fingerprint":"mine"}'
    assert chunk.stamp(b"") == b""


def test_it_tells_which_stream_it_belongs_to() -> None:
    chunk = UsageChunk()
    assert repr(chunk) == "<UsageChunk of any stream>"
    chunk.follows(LAST)
    assert repr(chunk) == "<UsageChunk of a>"
