"""Streams whose lines end in CR, alone or with LF."""

import pytest

from gateway.exchange import Dialect
from gateway.wire.sse import Scanner

CONTENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}'


def test_an_event_of_a_stream_with_carriage_returns_alone_is_judged_when_it_is_whole() -> None:
    scanner = Scanner(Dialect.CHAT)
    for _ in range(2):
        assert (scanner.feed(CONTENT + b"\r\r"), scanner.content) == (CONTENT + b"\r\r", 1)
    assert (scanner.feed(b"data: [DONE]\r\r"), scanner.progress.done) == (b"data: [DONE]\r\r", True)


@pytest.mark.parametrize("cut", [b"\r\n\r", b"\r\r"])
def test_half_of_a_line_end_is_no_event_of_its_own(cut: bytes) -> None:
    scanner, out, content = Scanner(Dialect.CHAT), b"", 0
    pieces = (CONTENT + cut, b"\n" + CONTENT + cut, b"\ndata: [DONE]\n\n")
    for piece in pieces:
        out += scanner.feed(piece)
        content += scanner.content
    assert (out, content, scanner.progress.done) == (b"".join(pieces), 2, True)
