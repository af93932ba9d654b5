"""Answers to the gateway's own questions: read whole up to a bound, and never believed beyond what is proper HTTP."""

import gzip

import pytest

from gateway.wire.answer import MAX_FIELDS, MAX_HEAD, Malformed
from gateway.wire.control_answer import ControlAnswer

MOST = 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


def with_length(body: bytes, fields: bytes = b"", status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    return b"HTTP/%b %b\r\n%bcontent-length: %d\r\n\r\n%b" % (version, status, fields, len(body), body)


def fed(*parts: bytes, most: int = MOST) -> ControlAnswer:
    answer = ControlAnswer(most)
    for part in parts:
        answer.feed(part)
    return answer


@pytest.mark.parametrize(
    "whole",
    [
        with_length(b"abc"),
        CHUNKED + b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nchecksum: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + with_length(b"abc"),
    ],
    ids=["by its length", "in chunks", "after informational ones"],
)
def test_an_answer_is_the_same_however_it_is_cut(whole: bytes) -> None:
    for cut in range(len(whole)):
        answer = fed(whole[:cut], whole[cut:]) if cut else fed(whole)
        assert (answer.status, answer.body, answer.complete, answer.keep) == (200, b"abc", True, True)


def test_one_that_only_closing_ends_is_complete_then() -> None:
    answer = fed(UNTIL_CLOSE + b"ab", b"c")
    assert (answer.body, answer.settled) == (None, False)
    assert answer.feed_eof()
    assert (answer.body, answer.settled, answer.keep) == (b"abc", True, False)


@pytest.mark.parametrize("whole", [with_length(b"abc")[:-1], CHUNKED + b"3\r\nabc\r\n", b"HTTP/1.1 200", b""])
def test_closing_is_no_proper_end_of_any_other(whole: bytes) -> None:
    answer = fed(*(whole,) if whole else ())
    assert not answer.feed_eof()
    assert answer.body is None
    assert answer.begun is bool(whole)


@pytest.mark.parametrize(
    "whole",
    [
        with_length(b"abc", b"connection: close\r\n"),
        with_length(b"abc", version=b"1.0"),
        with_length(b"abc") + b"HTTP/1.1 408 Request Timeout\r\n\r\n",
    ],
    ids=["it says that it closes", "HTTP/1.0", "more than was asked for"],
)
def test_a_connection_that_is_of_no_more_use_is_not_kept(whole: bytes) -> None:
    answer = fed(whole)
    assert (answer.body, answer.keep) == (b"abc", False)


def test_an_old_server_may_keep_its_connection() -> None:
    assert fed(with_length(b"abc", b"connection: keep-alive\r\n", version=b"1.0")).keep


@pytest.mark.parametrize(
    ("whole", "most"),
    [
        (with_length(b"abc", status=b"503 Service Unavailable"), MOST),
        (with_length(b"abc", status=b"302 Found", fields=b"location: /elsewhere\r\n"), MOST),
        (with_length(b"abc", status=b"206 Partial Content"), MOST),
        (with_length(gzip.compress(b"abc"), b"content-encoding: gzip\r\n"), MOST),
        (with_length(b"abc"), 0),
        (with_length(b"abc"), 2),
    ],
    ids=["an error", "a redirect", "a part", "compressed", "not asked for", "too long"],
)
def test_what_is_of_no_use_is_read_if_it_is_short(whole: bytes, most: int) -> None:
    answer = fed(whole[:-1], most=most)
    assert not answer.settled
    answer.feed(whole[-1:])
    assert (answer.status, answer.body) == (int(whole[9:12]), None)
    assert (answer.complete, answer.keep) == (True, True)


@pytest.mark.parametrize("head", [CHUNKED, UNTIL_CLOSE, with_length(b"")[:-5] + b"9999999\r\n\r\n"])
def test_what_is_of_no_use_is_left_where_it_may_be_long(head: bytes) -> None:
    answer = fed(head, most=0)
    assert answer.settled
    assert (answer.status, answer.body, answer.keep) == (200, None, False)


def test_a_body_without_end_is_given_up_at_its_bound() -> None:
    answer, part = fed(CHUNKED), b"%x\r\n%b\r\n" % (64 * 1024, b" " * 64 * 1024)
    for _ in range(MOST // (64 * 1024)):
        answer.feed(part)
        assert not answer.settled
    answer.feed(part)
    assert answer.settled
    assert (answer.body, answer.keep) == (None, False)


def test_a_body_of_just_the_bound_is_taken() -> None:
    body = b"x" * MOST
    assert fed(with_length(body)).body == body
    assert fed(with_length(body + b"x")).body is None


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"\x16\x03\x01\x02\x00"], "Expected HTTP/"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "Expected HTTP/"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"], "unasked status 101"),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9], "unasked status 103"),
        ([CHUNKED, b"z\r\n"], "Invalid character in chunk size"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"], "transfer coding b'gzip, chunked'"),
        ([b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n"], "its head is over 100 fields"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"a: " + b"x" * 1024 + b"\r\n"] * 64], f"its head is over {MAX_HEAD} bytes"),
        ([CHUNKED + b"1;", *[b"x" * 1024] * 65], f"the framing of its body is over {MAX_HEAD} bytes"),
    ],
)
def test_what_is_no_proper_http_is_refused_with_the_reason(parts: list[bytes], words: str) -> None:
    with pytest.raises(Malformed, match=words):
        fed(*parts)


def test_trailers_are_dropped() -> None:
    answer = fed(CHUNKED + b"0\r\n", *[b"x-%d: y\r\n" % number for number in range(10)], b"\r\n")
    assert answer.head is not None
    assert [name for name, _ in answer.head.fields] == [b"transfer-encoding"]


def test_it_says_how_far_it_has_come() -> None:
    assert repr(fed(with_length(b"abc")[:-1])) == "<ControlAnswer 200 2 bytes so far>"
    assert repr(fed(with_length(b"abc"))) == "<ControlAnswer 200 3 bytes>"


def test_one_that_is_released_takes_no_more() -> None:
    answer = fed(with_length(b"abc"))
    answer.release()
    assert answer.body == b"abc"
