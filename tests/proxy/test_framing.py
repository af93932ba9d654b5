"""A document has its length where that is known, and else flows in chunks, or to the end of the connection."""

import pytest

from gateway.proxy.framing import DocumentFraming

HEAD = b"HTTP/1.1 200 OK\r\nx: y\r\n"


@pytest.mark.parametrize("length", [None, 100])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_whole_one_has_the_length_that_it_has(length: int | None, chunked: bool) -> None:
    framing = DocumentFraming(HEAD, length=length, chunked=chunked)
    assert framing.whole(b"body") == HEAD + b"content-length: 4\r\n\r\nbody"


@pytest.mark.parametrize(
    ("length", "chunked", "beginning"),
    [
        (None, True, b"transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n"),
        (None, False, b"\r\nbody"),
        (100, True, b"content-length: 103\r\n\r\nbody"),
        (100, False, b"content-length: 103\r\n\r\nbody"),
    ],
)
def test_one_that_flows_begins_with_what_frames_the_rest(length: int | None, chunked: bool, beginning: bytes) -> None:
    framing = DocumentFraming(HEAD, length=length, chunked=chunked)
    assert framing.beginning(b"body", 3) == HEAD + beginning
    assert framing.chunked is (chunked and length is None)


def test_it_tells_how() -> None:
    assert repr(DocumentFraming(HEAD, length=None, chunked=True)) == "<DocumentFraming chunked>"
    assert repr(DocumentFraming(HEAD, length=9, chunked=True)) == "<DocumentFraming 9>"
