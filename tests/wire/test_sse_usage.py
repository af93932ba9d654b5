"""Usage chunks that are taken out of streams, wherever engines put them."""

import pytest

from gateway.exchange import Dialect
from gateway.wire.sse import Scanner

USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":0}}\n\n'
FIRST = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
LAST = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"y"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def fed(*pieces: bytes) -> bytes:
    scanner = Scanner(Dialect.CHAT, strip_usage=True)
    return b"".join([*(scanner.feed(piece) for piece in pieces), scanner.flush()])


@pytest.mark.parametrize("after", [[], [DONE], [USAGE, DONE], [USAGE]])
@pytest.mark.parametrize("before", [[USAGE], [USAGE, FIRST], [FIRST, USAGE], [USAGE, FIRST, USAGE]])
def test_the_output_is_whole_though_a_usage_chunk_comes_before_its_end(before: list[bytes], after: list[bytes]) -> None:
    events = [*before, LAST, *after]
    stream = b"".join(events)
    expected = b"".join(event for event in events if event != USAGE)
    assert fed(*events) == expected
    for at in range(len(stream) + 1):
        assert fed(stream[:at], stream[at:]) == expected
