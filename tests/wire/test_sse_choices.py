"""Streams of several choices: when they are whole, and of which of them an event is."""

import pytest

from gateway.exchange import Dialect
from gateway.wire.sse import Scanner


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_choices_that_an_engine_never_began_are_not_waited_for(strip: bool, together: bool) -> None:
    """As transformers serve does, which knows no `n`, and sends no `[DONE]`."""
    stream = [
        b'data: {"choices":[{"delta":{"role":"assistant"},"index":0}]}\n\n',
        *(b'data: {"choices":[{"delta":{"content":"%d"},"index":0}]}\n\n' % at for at in range(9)),
        b'data: {"choices":[{"delta":{},"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":5}}\n\n',
    ]
    scanner = Scanner(Dialect.CHAT, choices=2, strip_usage=strip)
    pieces = [b"".join(stream)] if together else stream
    out = b"".join(scanner.feed(piece) for piece in pieces[:-1])
    assert not scanner.progress.complete
    out += scanner.feed(pieces[-1])
    assert out + scanner.flush() == b"".join(stream)
    assert scanner.progress.complete


@pytest.mark.parametrize("marked", [b'"content":"x"', b'"content": "x"', b'"role":"assistant"'])
def test_a_choice_that_began_is_waited_for_whatever_its_first_event_is(marked: bytes) -> None:
    scanner = Scanner(Dialect.CHAT, choices=2)
    for index in (0, 1, 0):
        scanner.feed(b'data: {"choices":[{"index":%d,"delta":{%b},"finish_reason":null}]}\n\n' % (index, marked))
    scanner.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    assert not scanner.progress.complete
    scanner.feed(b'data: {"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}\n\n')
    assert scanner.progress.complete
