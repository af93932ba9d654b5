"""The head of an engine's answer, read once: how its body is framed, and what its fields ask for."""

import pytest

from gateway.wire.answer import MAX_FIELDS, MAX_HEAD, AnswerHead, Malformed, check_size


def test_a_declared_length_frames_the_body() -> None:
    head = AnswerHead(200, [(b"content-length", b"12"), (b"content-type", b"Application/JSON")])
    assert (head.length, head.chunked, head.until_close, head.kind) == (12, False, False, b"application/json")


@pytest.mark.parametrize("value", [b"chunked", b"Chunked"])
def test_chunks_frame_the_body(value: bytes) -> None:
    head = AnswerHead(200, [(b"transfer-encoding", value)])
    assert (head.length, head.chunked, head.until_close) == (None, True, False)


@pytest.mark.parametrize(("status", "until_close"), [(200, True), (500, True), (204, False), (304, False)])
def test_without_framing_only_closing_ends_a_body_where_there_is_one(status: int, until_close: bool) -> None:
    assert AnswerHead(status, []).until_close is until_close


def test_another_transfer_coding_is_malformed() -> None:
    with pytest.raises(Malformed, match="transfer coding b'gzip'"):
        AnswerHead(200, [(b"transfer-encoding", b"gzip")])


@pytest.mark.parametrize(("value", "coding"), [(b"gzip", b"gzip"), (b"identity", None), (b"Identity", None)])
def test_a_content_coding_is_named_unless_it_is_none(value: bytes, coding: bytes | None) -> None:
    assert AnswerHead(200, [(b"content-encoding", value)]).coding == coding


def test_fields_that_the_connection_names_stop_here() -> None:
    head = AnswerHead(200, [(b"connection", b"close, X-Trace"), (b"x-trace", b"1")])
    assert head.connection == {b"close", b"x-trace"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 5.0),
        (b"max=10, Timeout = 75", 75.0),
        (b"max=10", None),
        (b"timeout=-1", None),
        (b"timeout=1234567", None),
    ],
)
def test_how_long_an_engine_keeps_idle_connections_is_read(value: bytes, seconds: float | None) -> None:
    assert AnswerHead(200, [(b"keep-alive", value)]).idle == seconds


def test_a_head_has_bounds() -> None:
    check_size([(b"a", b"b")] * MAX_FIELDS)
    check_size([(b"a", b"b" * (MAX_HEAD - 5))])
    for fields in ([(b"a", b"b")] * (MAX_FIELDS + 1), [(b"a", b"b" * (MAX_HEAD - 4))]):
        with pytest.raises(Malformed, match="over 100 fields or 65536 bytes"):
            check_size(fields)
