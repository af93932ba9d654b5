"""Token counts are found wherever they stand, and nowhere else."""

import pytest

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
