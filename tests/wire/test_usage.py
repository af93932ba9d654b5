"""Token counts are found wherever they stand, and nowhere else."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.usage import Usage, find_usage

COUNTS = b'"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}'


@pytest.mark.parametrize(
    "document",
    [
        b'{"choices":[],%b}' % COUNTS,
        b'{"choices":[],%b,"prompt_logprobs":[%b]}' % (COUNTS, b'{"1":{"decoded_token":"usage"}},' * 9),
        b'{"choices":[],%b,"kind":"usage","prompt_token_ids":[%b]}' % (COUNTS, b"1," * 50_000),
        COUNTS.replace(b":", b" : "),
    ],
)
def test_the_counts_are_found(document: bytes) -> None:
    assert find_usage(document) == Usage(7, 3)


@pytest.mark.parametrize("document", [b"{}", b'{"usage":null}', b'{"kind":"usage"}', b'["usage",{"prompt_tokens":1}]'])
def test_what_is_no_usage(document: bytes) -> None:
    assert find_usage(document) is None


@pytest.mark.parametrize("count", ["-7", "1e300", "7.5", "7.0", '"7"', "true", "null", "[7]", "7" * 13])
def test_what_is_no_count_of_tokens(count: str) -> None:
    assert find_usage(b'{"usage":{"prompt_tokens":%b,"completion_tokens":3}}' % count.encode()) == Usage(None, 3)
    alone = b'{"usage":{"prompt_tokens":%b,"completion_tokens":%b}}' % (count.encode(), count.encode())
    assert find_usage(alone) == Usage(None, None)
    assert find_usage(b"{%b}%b" % (COUNTS, alone)) == Usage(7, 3)
    assert Usage(7, 3).updated(Usage(None, None)) == Usage(7, 3)


USUAL = re.compile(
    rb'"usage":\{"prompt_tokens":(\d{1,12}+),(?:"total_tokens":\d{1,12}+,)?"completion_tokens":(\d{1,12}+)[,}]'
)
PARTS = (
    b'"usage":{"prompt_tokens":',
    b',"total_tokens":',
    b',"completion_tokens":',
    b"7",
    b"012",
    b"9" * 12,
    b"1" * 13,
)
OTHERS = (b",", b"}", b"-", b".", b" ", b'"', b"x", b"\xd9\xa3")


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PARTS + OTHERS), max_size=9))
def test_counts_that_are_written_in_the_usual_way_are_read_as_any_others(parts: list[bytes]) -> None:
    document = PARTS[0] + b"".join(parts)
    usual = USUAL.match(document, document.rfind(b'"usage"'))
    if usual is not None:
        assert find_usage(document) == Usage(int(usual[1]), int(usual[2]))
    assert find_usage(document) == find_usage(document.replace(b'"usage":', b'"usage": '))


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        (b'"prompt_tokens_details":{"cached_tokens":4}', 4),
        (b'"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":4}', 4),
        (b'"prompt_tokens_details": { "cached_tokens" : 0 }', 0),
        (b'"prompt_tokens_details":null', None),
        (b'"prompt_tokens_details":{"cached_tokens":null}', None),
        (b'"prompt_tokens_details":{"cached_tokens":-4}', None),
        (b'"prompt_tokens_details":{},"other":{"cached_tokens":4}', None),
        (b'"other":{"cached_tokens":4}', None),
    ],
)
def test_cached_tokens_are_those_of_the_prompt(details: bytes, cached: int | None) -> None:
    usual = b'{"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3,%b}}' % details
    assert find_usage(usual) == Usage(7, 3, cached)
    assert find_usage(usual.replace(b'"usage":', b'"usage": ')) == Usage(7, 3, cached)
    of_responses = b'{"usage":{"input_tokens":7,%b,"output_tokens":3}}' % details.replace(b"prompt_", b"input_")
    assert find_usage(of_responses) == Usage(7, 3, cached)


def test_what_was_cached_is_kept_until_something_else_is_told() -> None:
    assert Usage(7, 1, 4).updated(Usage(None, 3)) == Usage(7, 3, 4)
    assert hash(Usage(7, 3, 4)) != hash(Usage(7, 3))
