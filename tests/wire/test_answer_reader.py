"""What is read of an answer: bytes in; a head, a body and an end out, however the bytes are cut."""

import httptools
import pytest

from gateway.wire.answer import MAX_HEAD, Malformed
from gateway.wire.answer_reader import MAX_INFORMATIONAL, AnswerReader

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def reading(*pieces: bytes) -> AnswerReader:
    """Return a reader that has been given these bytes."""
    reader = AnswerReader()
    reader.begin()
    for piece in pieces:
        feed(reader, piece)
    return reader


def feed(reader: AnswerReader, piece: bytes) -> None:
    if reader.head is None:
        reader.expect(piece)
    reader.parser.feed_data(piece)


def status(reader: AnswerReader) -> int | None:
    return reader.head.status if reader.head is not None else None


def test_an_answer_is_a_head_pieces_of_a_body_and_an_end() -> None:
    reader = reading(OK)
    assert (status(reader), reader.body, reader.ended) == (200, [], False)
    feed(reader, b"h")
    assert (reader.body, reader.ended) == ([b"h"], False)
    feed(reader, b"i")
    assert (reader.body, reader.ended, reader.reusable) == ([b"h", b"i"], True, True)


def test_a_head_comes_once_it_is_whole() -> None:
    for cut in range(1, len(OK)):
        reader = reading(OK[:cut])
        assert status(reader) is None
        feed(reader, OK[cut:])
        assert status(reader) == 200


def test_the_next_answer_is_read_like_the_first() -> None:
    reader = reading(OK + b"hi")
    for _ in range(2):
        reader.head = None
        reader.body.clear()
        reader.begin()
        feed(reader, CHUNKED + b"1\r\na\r\n0\r\n\r\n")
        assert (status(reader), reader.body, reader.ended, reader.reusable) == (200, [b"a"], True, True)


def test_an_informational_answer_is_no_head_and_no_end() -> None:
    reader = reading(EARLY * MAX_INFORMATIONAL)
    assert (status(reader), reader.ended) == (None, False)
    feed(reader, OK)
    assert reader.head is not None
    assert [name for name, _ in reader.head.fields] == [b"content-length"]


@pytest.mark.parametrize(
    ("answer", "until_close", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False, False),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", False, False),
    ],
)
def test_the_head_tells_what_ends_the_answer_and_whether_the_connection_goes_on(
    answer: bytes, until_close: bool, reusable: bool
) -> None:
    reader = reading(answer)
    assert (reader.until_close, reader.ended, reader.reusable) == (until_close, not until_close, reusable)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "unasked status 101"),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "chunked in HTTP/1.0"),
        (EARLY + b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "chunked in HTTP/1.0"),
        (b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", "an answer in HTTP/2.0"),
        (OK + b"hi" + OK, "bytes after the end of the answer"),
        (CHUNKED + b"0\r\n" + (b"a: %b\r\n" % (b"x" * 1000)) * 70, f"its trailers are over {MAX_HEAD} bytes"),
    ],
)
def test_the_parser_stops_with_the_cause(answer: bytes, fault: str) -> None:
    with pytest.raises(httptools.HttpParserError) as stopped:
        reading(answer)
    assert isinstance(stopped.value.__context__, Malformed)
    assert str(stopped.value.__context__) == fault


def test_bytes_without_a_byte_of_the_body_have_a_bound() -> None:
    reader = reading()
    reader.unparsed = MAX_HEAD
    assert reader.head_fault() is None
    assert reader.framing_fault(0) is None
    assert reader.framing_fault(1) == f"over {MAX_HEAD} bytes of framing without a byte of its body"
    assert reader.head_fault() == f"its head is over {MAX_HEAD} bytes"
    reader.begin()
    assert reader.framing_fault(1) is None


def test_a_closed_reader_reads_nothing() -> None:
    reader = reading()
    reader.close()
    assert reader.parser is not AnswerReader().parser
    assert status(reader) is None


def test_a_reader_tells_where_it_is() -> None:
    assert [repr(reading(*bytes_)) for bytes_ in ((OK[:9],), (OK,), (OK, b"hi"))] == [
        "<AnswerReader in a head>",
        "<AnswerReader in a body>",
        "<AnswerReader ended>",
    ]
